// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// Store is an object store in a bucket. It is safe for concurrent use.
type Store struct {
	config Config
	core   minio.Core
	idle   interface{ CloseIdleConnections() }
}

var _ objstore.Store = (*Store)(nil)

// Open opens s3://bucket/prefix as the process's environment says, and checks
// that the bucket is there.
func Open(ctx context.Context, address string) (*Store, error) {
	c, err := FromEnv(address, os.Getenv)
	if err != nil {
		return nil, err
	}
	s, err := New(c)
	if err != nil {
		return nil, err
	}
	if err := s.Check(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// New returns a store without talking to it.
func New(c Config) (*Store, error) {
	if c.Transport == nil {
		c.Transport = newTransport()
	}
	s := &Store{config: c}
	s.idle, _ = c.Transport.(interface{ CloseIdleConnections() })
	client, err := minio.New(c.Host, &minio.Options{
		Creds: c.Credentials, Secure: !c.Insecure, Region: c.Region, BucketLookup: c.Lookup, Transport: c.Transport,
		MaxRetries:      1,    // S2
		TrailingHeaders: true, // lets us send a checksum; sent as a header, not as a trailer
	})
	if err != nil {
		return nil, &objstore.Error{Op: "open", Err: fmt.Errorf("S3 endpoint %s: %w", c.endpoint(), err)}
	}
	client.SetAppInfo("tidemark", "1")
	s.core = minio.Core{Client: client}
	return s, nil
}

// Check looks whether there are credentials, an endpoint that answers, and the bucket.
func (s *Store) Check(ctx context.Context) error {
	if err := objstore.ContextError(ctx, "open", ""); err != nil {
		return err
	}
	value, err := s.config.Credentials.GetWithContext(&credentials.CredContext{Client: http.DefaultClient, Context: ctx})
	if err != nil {
		return s.wrap(ctx, "open", "", err)
	}
	if value.AccessKeyID == "" {
		return &objstore.Error{Op: "open", Class: objstore.Denied, Err: fmt.Errorf(
			"no credentials for bucket %s: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role is assigned", s.config.Bucket)}
	}
	// A list, for the answer to HEAD says nothing of a reason.
	opts := minio.ListObjectsOptions{Prefix: s.config.Prefix, MaxKeys: 1}
	for o := range s.core.ListObjectsIter(ctx, s.config.Bucket, opts) {
		err = o.Err
		break
	}
	if r, ok := errors.AsType[minio.ErrorResponse](err); ok && r.Code == minio.AccessDenied {
		return nil // the key is good, but may not list: that isn't needed
	}
	if err != nil {
		return s.wrap(ctx, "open", "", err)
	}
	return objstore.ContextError(ctx, "open", "")
}

func (s *Store) noBucket() error {
	return fmt.Errorf("bucket %s does not exist at %s", s.config.Bucket, s.config.endpoint())
}

// String implements objstore.Store.
func (s *Store) String() string { return "s3://" + s.config.Bucket + "/" + s.config.Prefix }

// Close implements objstore.Store.
func (s *Store) Close() error {
	if s.idle != nil {
		s.idle.CloseIdleConnections()
	}
	return nil
}

func (s *Store) begin(ctx context.Context, op, name string) error {
	if err := objstore.ContextError(ctx, op, name); err != nil {
		return err
	}
	return objstore.CheckName(op, name)
}
