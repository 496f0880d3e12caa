// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// largeRead is what a reader must have read for its pages to be dropped (F2):
// small reads come in groups that lie side by side, and gain from read-ahead.
const largeRead = 4 << 20

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := begin(ctx, "get", name); err != nil {
		return nil, err
	}
	if err := objstore.CheckRange(name, off, n); err != nil {
		return nil, err
	}
	f, err := s.openat(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, s.fail("get", name, err)
	}
	r, err := s.section(ctx, f, name, off, n)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return r, nil
}

func (s *Store) section(ctx context.Context, f *os.File, name string, off, n int64) (io.ReadCloser, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, s.fail("get", name, bare(err))
	}
	if !st.Mode().IsRegular() {
		return nil, s.fail("get", name, unix.ENOENT)
	}
	n, err = objstore.ClampRange(name, off, n, st.Size())
	if err != nil {
		return nil, err
	}
	r := &reader{ctx: ctx, f: f, name: name, start: off, pos: off}
	return objstore.ExactReader(name, r, n, func(err error) error { return wrap("get", name, err) }), nil
}

type reader struct {
	ctx        context.Context //nolint:containedctx // a reader is bound to the context it was opened with
	f          *os.File
	name       string
	start, pos int64
}

func (r *reader) Read(p []byte) (int, error) {
	if err := objstore.ContextError(r.ctx, "get", r.name); err != nil {
		return 0, err
	}
	n, err := r.f.ReadAt(p, r.pos)
	r.pos += int64(n)
	if n > 0 && err == io.EOF {
		return n, nil
	}
	if err != nil && err != io.EOF {
		err = bare(err)
	}
	return n, err
}

func (r *reader) Close() error {
	if read := r.pos - r.start; read >= largeRead {
		dropCache(int(r.f.Fd()), r.start, read)
	}
	return r.f.Close()
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, name string) (objstore.Info, error) {
	if err := begin(ctx, "stat", name); err != nil {
		return objstore.Info{}, err
	}
	st, err := s.stat(name)
	if err != nil {
		return objstore.Info{}, s.fail("stat", name, err)
	}
	return info(name, st), nil
}

func info(name string, st unix.Stat_t) objstore.Info {
	return objstore.Info{Name: name, Size: st.Size, Modified: time.Unix(st.Mtim.Unix())}
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := begin(ctx, "delete", name); err != nil {
		return err
	}
	switch err := unix.Unlinkat(s.fd(), name, 0); err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.EISDIR:
		// No such object; but a removed folder must be said (F1).
		if err := s.fail("delete", name, unix.ENOENT); objstore.ClassOf(err) != objstore.NotExist {
			return err
		}
	default:
		return s.fail("delete", name, err)
	}
	return nil
}
