// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, name string, body objstore.Body) error {
	if err := s.begin(ctx, "put", name); err != nil {
		return err
	}
	opts := minio.PutObjectOptions{
		DisableMultipart:     true, // S1
		DisableContentSha256: true,
		UserMetadata:         map[string]string{"x-amz-checksum-crc32c": checksum(body)},
	}
	opts.SetMatchETagExcept("*")
	_, err := s.core.Client.PutObject(ctx, s.config.Bucket, s.key(name), body.NewReader(), body.Len(), opts)
	if err != nil {
		return s.wrap(ctx, "put", name, err)
	}
	return nil
}

func checksum(body objstore.Body) string {
	var sum uint32
	for _, piece := range body {
		sum = crc32.Update(sum, castagnoli, piece)
	}
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := s.begin(ctx, "get", name); err != nil {
		return nil, err
	}
	if err := objstore.CheckRange(name, off, n); err != nil {
		return nil, err
	}
	if n == 0 {
		return s.getNothing(ctx, name, off)
	}
	opts := minio.GetObjectOptions{}
	switch {
	case n > 0:
		opts.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		opts.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	body, info, header, err := s.core.GetObject(ctx, s.config.Bucket, s.key(name), opts)
	if isRangeError(err) { // at the end exactly, or past it
		return s.getNothing(ctx, name, max(off, off+n))
	}
	if err != nil {
		return nil, s.wrap(ctx, "get", name, err)
	}
	n, err = checkAnswer(name, off, n, info.Size, header)
	if err != nil {
		_ = body.Close()
		return nil, err
	}
	return objstore.ExactReader(name, body, n, func(err error) error { return s.wrap(ctx, "get", name, err) }), nil
}

// getNothing reads no bytes at off: S3 has no range for that. The object must
// reach that far.
func (s *Store) getNothing(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
	info, err := s.Stat(ctx, name)
	if err != nil {
		if e, ok := errors.AsType[*objstore.Error](err); ok {
			e.Op = "get"
		}
		return nil, err
	}
	if _, err := objstore.ClampRange(name, off, 0, info.Size); err != nil {
		return nil, err
	}
	return http.NoBody, nil
}

func isRangeError(err error) bool {
	r, ok := errors.AsType[minio.ErrorResponse](err)
	return ok && (r.Code == minio.InvalidRange || r.StatusCode == http.StatusRequestedRangeNotSatisfiable)
}

// checkAnswer returns how many bytes the answer's body must hold. A store may
// send less than was asked for, at the object's end, or ignore the range.
func checkAnswer(name string, off, n, length int64, header http.Header) (int64, error) {
	if length < 0 {
		return 0, &objstore.Error{Op: "get", Name: name, Err: errors.New("the store doesn't say how long its answer is")}
	}
	if off == 0 && n < 0 {
		return length, nil
	}
	contentRange := header.Get("Content-Range")
	if contentRange == "" {
		if off > 0 {
			return 0, &objstore.Error{Op: "get", Name: name, Err: fmt.Errorf("%w: it ignores ranges", objstore.ErrUnsuitable)}
		}
		return objstore.ClampRange(name, off, n, length)
	}
	var from, to, size int64
	if _, err := fmt.Sscanf(strings.TrimSpace(contentRange), "bytes %d-%d/%d", &from, &to, &size); err != nil || from != off || to < from || size <= to {
		return 0, &objstore.Error{Op: "get", Name: name, Err: fmt.Errorf("the store answers with the range %q to one from %d", contentRange, off)}
	}
	want, err := objstore.ClampRange(name, off, n, size)
	if err == nil && to-from+1 != want {
		err = &objstore.Error{Op: "get", Name: name, Err: fmt.Errorf("the store answers with the range %q to %d bytes from %d", contentRange, want, off)}
	}
	return want, err
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, name string) (objstore.Info, error) {
	if err := s.begin(ctx, "stat", name); err != nil {
		return objstore.Info{}, err
	}
	info, err := s.core.Client.StatObject(ctx, s.config.Bucket, s.key(name), minio.StatObjectOptions{})
	if err != nil {
		err = s.wrap(ctx, "stat", name, err)
		if errors.Is(err, objstore.ErrNotExist) {
			err = s.absent(ctx, name, err)
		}
		return objstore.Info{}, err
	}
	return objstore.Info{Name: name, Size: info.Size, Modified: info.LastModified}, nil
}

// absent asks again in a way that gets a reason: the answer to HEAD has no
// body, and is the same for a missing object and a missing bucket (S3).
func (s *Store) absent(ctx context.Context, name string, headErr error) error {
	opts := minio.GetObjectOptions{}
	opts.Set("Range", "bytes=0-0")
	body, _, _, err := s.core.GetObject(ctx, s.config.Bucket, s.key(name), opts)
	if err == nil {
		_ = body.Close()
	}
	if err == nil || isRangeError(err) {
		return headErr // it came to be meanwhile
	}
	return s.wrap(ctx, "stat", name, err)
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix string, fn func(objstore.Info) error) error {
	if err := objstore.ContextError(ctx, "list", prefix); err != nil {
		return err
	}
	noOwner := false
	opts := minio.ListObjectsOptions{Prefix: s.key(prefix), Recursive: true, FetchOwner: &noOwner}
	for o := range s.core.ListObjectsIter(ctx, s.config.Bucket, opts) {
		if o.Err != nil {
			return s.wrap(ctx, "list", prefix, o.Err)
		}
		// Others may keep objects there: what can't be one of ours isn't.
		name, ok := strings.CutPrefix(o.Key, s.config.Prefix)
		if !ok || objstore.CheckName("list", name) != nil {
			continue
		}
		if err := fn(objstore.Info{Name: name, Size: o.Size, Modified: o.LastModified}); err != nil {
			return err
		}
	}
	return objstore.ContextError(ctx, "list", prefix) // an ended context ends the iteration in silence
}

// Delete implements objstore.Store. In a bucket with versions it leaves a
// marker, and the object's bytes until the bucket's own rules remove them.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.begin(ctx, "delete", name); err != nil {
		return err
	}
	err := s.core.Client.RemoveObject(ctx, s.config.Bucket, s.key(name), minio.RemoveObjectOptions{})
	if err != nil {
		err = s.wrap(ctx, "delete", name, err)
		if errors.Is(err, objstore.ErrNotExist) {
			return nil
		}
	}
	return err
}

func (s *Store) key(name string) string { return s.config.Prefix + name }
