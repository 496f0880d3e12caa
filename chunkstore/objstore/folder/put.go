// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, name string, body objstore.Body) error {
	if err := begin(ctx, "put", name); err != nil {
		return err
	}
	// Not needed for I1, but it saves writing a pack for nothing.
	if _, err := s.stat(name); err == nil {
		return s.taken(name)
	}
	err := s.put(ctx, name, body)
	if errors.Is(err, unix.ENOENT) {
		// Somebody tidied away a directory that we know: make it anew, once.
		s.forgetDirs()
		err = s.put(ctx, name, body)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return s.taken(name)
	case errors.Is(err, unix.EXDEV):
		return &objstore.Error{Op: "put", Name: name, Err: fmt.Errorf("folder %s spans several file systems: %w", s.path, err)}
	case isAbsent(err):
		err = s.fail("put", name, err)
		// A Put has no object to miss: what is missing is a directory.
		if objstore.ClassOf(err) == objstore.NotExist {
			err = &objstore.Error{Op: "put", Name: name, Err: bare(errors.Unwrap(err))}
		}
		return err
	}
	return wrap("put", name, err)
}

// taken returns the error for a name that exists. Whoever hears of it may act
// upon it, so it is made durable even if the winner hasn't come so far.
func (s *Store) taken(name string) error {
	if _, err := s.stat(name); isAbsent(err) {
		return &objstore.Error{Op: "put", Name: name, Err: errors.New("there is something of this name that is no object")}
	}
	if err := s.syncDir(path.Dir(name)); err != nil {
		return s.fail("put", name, err)
	}
	return &objstore.Error{Op: "put", Name: name, Class: objstore.Exists}
}

func (s *Store) put(ctx context.Context, name string, body objstore.Body) (err error) {
	dir := path.Dir(name)
	if err := s.ensureDir(objstore.TempDir); err != nil {
		return err
	}
	if err := s.ensureDir(dir); err != nil {
		return err
	}
	temp := objstore.TempDir + "/" + rand.Text()
	f, err := s.openat(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close() // after fsync it has nothing to say
		if err != nil {
			_ = unix.Unlinkat(s.fd(), temp, 0) // if that fails too, a later Open sweeps it
		}
	}()
	if err := writeBody(ctx, f, body); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.publish(f, temp, name); err != nil {
		return err
	}
	if err := s.syncDir(dir); err != nil {
		return err
	}
	return s.syncDir(objstore.TempDir)
}

// publish gives the written file its name, which must not exist.
func (s *Store) publish(f *os.File, temp, name string) error {
	err := s.calls.rename(s.fd(), temp, name)
	if !lacks(err) {
		return err
	}
	err = s.calls.link(s.fd(), temp, name)
	switch {
	case err == nil || err == unix.EEXIST && linked(f):
		return unix.Unlinkat(s.fd(), temp, 0)
	case lacks(err) || err == unix.EPERM || err == unix.EMLINK:
		return fmt.Errorf("%w: the file system of %s can create a name without replacing one neither by renameat2(RENAME_NOREPLACE) "+
			"nor by link(): use a folder elsewhere (%v)", objstore.ErrUnsuitable, s.path, err)
	}
	return err
}

// linked tells whether the file has a second name. NFS may repeat a link whose
// answer was lost, and then says that the name exists: it does, and is ours.
func linked(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink == 2
}

func renameat(root int, from, to string) error {
	return unix.Renameat2(root, from, root, to, unix.RENAME_NOREPLACE)
}

func linkat(root int, from, to string) error { return unix.Linkat(root, from, root, to, 0) }

// lacks tells whether a file system doesn't know a call or its flags.
func lacks(err error) bool {
	return err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP || err == unix.ENOTTY
}

// ensureDir makes a directory below the root durable, and its parents first.
// That it exists isn't enough: another process may be about to sync its name.
func (s *Store) ensureDir(dir string) error {
	s.mu.Lock()
	known := s.dirs[dir]
	s.mu.Unlock()
	if known {
		return nil
	}
	parent := path.Dir(dir)
	if err := s.ensureDir(parent); err != nil {
		return err
	}
	if err := unix.Mkdirat(s.fd(), dir, dirMode); err != nil && err != unix.EEXIST {
		return err
	}
	if err := s.syncDir(parent); err != nil {
		return err
	}
	s.mu.Lock()
	s.dirs[dir] = true
	s.mu.Unlock()
	return nil
}

func (s *Store) forgetDirs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs = map[string]bool{".": true}
}

func (s *Store) syncDir(dir string) error {
	d, err := s.openat(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	err = bare(d.Sync())
	if err == unix.EINVAL {
		return nil // some network file systems sync names by themselves and refuse to be told
	}
	return err
}
