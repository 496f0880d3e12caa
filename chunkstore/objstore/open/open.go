// SPDX-License-Identifier: Apache-2.0

package open

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/folder"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/retry"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3"
)

// Open opens an existing folder or bucket. What may pass is tried again for as
// long as the zero retry.Policy says.
func Open(ctx context.Context, address string) (objstore.Store, error) {
	return with(ctx, address, folder.Open)
}

// Create is Open, but makes a folder that is missing. Buckets are never made:
// their owner, place and rules are not ours to choose.
func Create(ctx context.Context, address string) (objstore.Store, error) {
	return with(ctx, address, folder.Create)
}

func with(ctx context.Context, address string, openFolder func(context.Context, string) (*folder.Store, error)) (objstore.Store, error) {
	scheme, _, found := strings.Cut(address, "://")
	switch {
	case address == "":
		return nil, refuse("the address of the repository is empty")
	case !found && (strings.HasPrefix(address, "s3:") || strings.HasPrefix(address, "sftp:") || strings.HasPrefix(address, "rest:")):
		return nil, refuse("%q looks like an address of another program: want a folder (./%[1]s for one of that name) or s3://bucket/prefix", address)
	case !found:
		return asStore(openFolder(ctx, address))
	case scheme == "s3":
		return openS3(ctx, address)
	case scheme == "file":
		path, err := filePath(address)
		if err != nil {
			return nil, err
		}
		return asStore(openFolder(ctx, path))
	}
	return nil, refuse("repositories at %s:// are not supported: want a folder or s3://bucket/prefix", scheme)
}

func openS3(ctx context.Context, address string) (objstore.Store, error) {
	var s *s3.Store
	err := retry.Policy{}.Do(ctx, func() (err error) {
		s, err = s3.Open(ctx, address)
		return err
	})
	return asStore(s, err)
}

// asStore keeps a nil pointer from becoming a Store that isn't nil.
func asStore[S objstore.Store](s S, err error) (objstore.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func filePath(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		return "", refuse("%q is not of the form file:///path", address)
	}
	return u.Path, nil
}

func refuse(format string, args ...any) error {
	return &objstore.Error{Op: "open", Err: fmt.Errorf(format, args...)}
}
