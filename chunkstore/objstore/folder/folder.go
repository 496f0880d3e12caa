// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Store is an object store in a directory. It is safe for concurrent use, also
// by several processes.
type Store struct {
	path string
	root *os.File // F1

	mu   sync.Mutex
	dirs map[string]bool // directories known to be durable; "." is the root

	calls calls
}

// calls are the ways to give a file its name without replacing another; tests
// put in those of file systems that lack one.
type calls struct {
	rename, link func(root int, from, to string) error
}

var _ objstore.Store = (*Store)(nil)

// Create makes the directory, with its parents, if it is missing, and opens it.
func Create(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(path, dirMode); err != nil {
		return nil, wrap("open", "", fmt.Errorf("create folder %s: %w", path, bare(err)))
	}
	return Open(ctx, path)
}

// Open opens the store in an existing directory. Nothing is written, except
// that files which killed Puts left in tmp more than a day ago are removed.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := objstore.ContextError(ctx, "open", ""); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, wrap("open", "", err)
	}
	root, err := os.OpenFile(abs, os.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &objstore.Error{Op: "open", Err: fmt.Errorf("folder %s does not exist", abs)}
	case errors.Is(err, unix.ENOTDIR):
		return nil, &objstore.Error{Op: "open", Err: fmt.Errorf("%s is not a folder", abs)}
	case err != nil:
		return nil, wrap("open", "", fmt.Errorf("open folder %s: %w", abs, bare(err)))
	}
	s := &Store{path: abs, root: root, dirs: map[string]bool{".": true}, calls: calls{rename: renameat, link: linkat}}
	s.sweep()
	return s, nil
}

// String implements objstore.Store.
func (s *Store) String() string { return s.path }

// Close implements objstore.Store.
func (s *Store) Close() error { return s.root.Close() }

func (s *Store) fd() int { return int(s.root.Fd()) }

// openat opens a path below the root.
func (s *Store) openat(path string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(s.fd(), path, flags|unix.O_CLOEXEC|unix.O_NOCTTY, fileMode)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), filepath.Join(s.path, path)), nil
		case unix.EINTR:
		default:
			return nil, err
		}
	}
}

// stat describes a regular file below the root; anything else is no object.
func (s *Store) stat(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(s.fd(), path, &st, 0); err != nil {
		return st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return st, unix.ENOENT
	}
	return st, nil
}

// fail classes an error of an operation on the store. A root that was removed
// makes every name look absent, which must not be believed (I6).
func (s *Store) fail(op, name string, err error) error {
	var st unix.Stat_t
	if isAbsent(err) && (unix.Fstat(s.fd(), &st) != nil || st.Nlink == 0) {
		return &objstore.Error{Op: op, Name: name, Err: fmt.Errorf("folder %s was closed or removed", s.path)}
	}
	return wrap(op, name, err)
}

func begin(ctx context.Context, op, name string) error {
	if err := objstore.ContextError(ctx, op, name); err != nil {
		return err
	}
	return objstore.CheckName(op, name)
}
