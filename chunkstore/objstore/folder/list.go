// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// listBatch names are read from a directory at a time, so that a large one is
// never held in memory.
const listBatch = 512

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix string, fn func(objstore.Info) error) error {
	if err := objstore.ContextError(ctx, "list", prefix); err != nil {
		return err
	}
	// The deepest directory that holds everything that begins with prefix.
	dir := "."
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i]
		if err := objstore.CheckName("list", dir); err != nil {
			return nil //nolint:nilerr // no object can have such a name, so none is listed
		}
	}
	w := walk{store: s, prefix: prefix, fn: fn}
	return w.dir(ctx, dir)
}

type walk struct {
	store  *Store
	prefix string
	fn     func(objstore.Info) error
}

func (w *walk) dir(ctx context.Context, dir string) error {
	d, err := w.store.openat(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return w.gone(err)
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(listBatch)
		for _, e := range entries {
			if err := w.entry(ctx, path.Join(dir, e.Name()), e); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return w.gone(bare(err))
		}
	}
}

func (w *walk) entry(ctx context.Context, name string, e os.DirEntry) error {
	if err := objstore.ContextError(ctx, "list", w.prefix); err != nil {
		return err
	}
	if e.IsDir() {
		if name == objstore.TempDir || !overlaps(name+"/", w.prefix) {
			return nil
		}
		return w.dir(ctx, name)
	}
	// Others may keep files here (lost+found, .nfs…): what can't be the name
	// of an object isn't one.
	if !strings.HasPrefix(name, w.prefix) || objstore.CheckName("list", name) != nil {
		return nil //nolint:nilerr // as said
	}
	st, err := w.store.stat(name)
	if err != nil {
		return w.gone(err)
	}
	return w.fn(info(name, st))
}

// gone forgives that something vanished during the walk.
func (w *walk) gone(err error) error {
	failure := w.store.fail("list", w.prefix, err)
	if errors.Is(failure, objstore.ErrNotExist) {
		failure = nil
	}
	return failure
}

// overlaps tells whether names below dir can begin with prefix.
func overlaps(dir, prefix string) bool {
	return strings.HasPrefix(dir, prefix) || strings.HasPrefix(prefix, dir)
}

// leftoverAge is how old a file in tmp must be to count as left by a killed Put.
const leftoverAge = 24 * time.Hour

// sweep removes leftovers from tmp. Nothing depends on it, so its errors are
// not reported: a folder may be read-only.
func (s *Store) sweep() {
	d, err := s.openat(objstore.TempDir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer d.Close()
	var now time.Time
	for {
		entries, err := d.ReadDir(listBatch)
		for _, e := range entries {
			if now.IsZero() {
				if now = s.now(); now.IsZero() {
					return
				}
			}
			name := objstore.TempDir + "/" + e.Name()
			if st, err := s.stat(name); err == nil && now.Sub(time.Unix(st.Mtim.Unix())) > leftoverAge {
				_ = unix.Unlinkat(s.fd(), name, 0)
			}
		}
		if err != nil {
			return
		}
	}
}

// now asks the file system for its time, which may be another machine's, by
// making a file. It is zero if that can't be.
func (s *Store) now() time.Time {
	name := objstore.TempDir + "/clock-" + rand.Text()
	f, err := s.openat(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return time.Time{}
	}
	defer func() {
		_ = f.Close()
		_ = unix.Unlinkat(s.fd(), name, 0) // if it stays, it is swept another day
	}()
	st, err := f.Stat()
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}
