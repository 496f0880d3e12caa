// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

func TestConformance(t *testing.T) {
	t.Run("rename", func(t *testing.T) {
		objtest.Run(t, func(t *testing.T) objstore.Store { return open(t, t.TempDir()) })
	})
	t.Run("link", func(t *testing.T) {
		objtest.Run(t, func(t *testing.T) objstore.Store {
			s := open(t, t.TempDir())
			s.calls.rename = func(int, string, string) error { return unix.EINVAL }
			return s
		})
	})
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// leftovers are the names in tmp.
func leftovers(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.path, objstore.TempDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name, path string
		open       func(context.Context, string) (*Store, error)
		ctx        context.Context
		want       string
	}{
		{"missing", filepath.Join(dir, "none"), Open, t.Context(), "does not exist"},
		{"a file", file, Open, t.Context(), "is not a folder"},
		{"below a file", filepath.Join(file, "x"), Create, t.Context(), "not a directory"},
		{"canceled", dir, Open, canceled, "canceled"},
	}
	for _, tt := range tests {
		if _, err := tt.open(tt.ctx, tt.path); err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, objstore.ErrNotExist) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	s, err := Create(t.Context(), filepath.Join(dir, "new", "er"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if entries, _ := os.ReadDir(s.path); len(entries) > 0 {
		t.Errorf("opening wrote %v", entries)
	}
}

// Directories of the way, and things in the folder that are no objects.
func TestForeignFiles(t *testing.T) {
	s := open(t, t.TempDir())
	if err := unix.Mkfifo(filepath.Join(s.path, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/b", "plain"} {
		if err := s.Put(t.Context(), name, objstore.Body{[]byte(name)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.path, "a", "new\nline"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "fifo"} {
		if _, err := s.Get(t.Context(), name, 0, -1); !errors.Is(err, objstore.ErrNotExist) {
			t.Errorf("get %s: %v", name, err)
		}
		err := s.Put(t.Context(), name, nil)
		if objstore.ClassOf(err) != objstore.Permanent || err == nil || !strings.Contains(err.Error(), "no object") {
			t.Errorf("put %s: %v", name, err)
		}
	}
	err := s.Put(t.Context(), "plain/below", nil)
	if objstore.ClassOf(err) != objstore.Permanent || err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("put below an object: %v", err)
	}
	var names []string
	err = s.List(t.Context(), "", func(i objstore.Info) error { names = append(names, i.Name); return nil })
	slices.Sort(names)
	if err != nil || fmt.Sprint(names) != "[a/b plain]" {
		t.Errorf("list: %v, %v", names, err)
	}
	if l := leftovers(t, s); len(l) > 0 {
		t.Errorf("tmp holds %v", l)
	}
}

// F1: a folder that is gone is no empty folder.
func TestRemovedFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	check := func(what string) {
		t.Helper()
		_, statErr := s.Stat(t.Context(), "x")
		_, getErr := s.Get(t.Context(), "x", 0, -1)
		listErr := s.List(t.Context(), "", func(objstore.Info) error { return nil })
		for _, err := range []error{statErr, getErr, listErr, s.Put(t.Context(), "x", nil), s.Delete(t.Context(), "x")} {
			if err == nil || objstore.ClassOf(err) != objstore.Permanent || !strings.Contains(err.Error(), "closed or removed") {
				t.Errorf("%s: %v, of class %s", what, err, objstore.ClassOf(err))
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	check("removed")
	if err := os.Mkdir(dir, 0o700); err != nil { // another folder of that name
		t.Fatal(err)
	}
	check("replaced")
	_ = s.Close()
	check("closed")
}

// A folder whose directories somebody tidied away while it was open.
func TestTidiedDirectories(t *testing.T) {
	s := open(t, t.TempDir())
	for range 3 {
		if err := s.Put(t.Context(), "a/b/c", objstore.Body{[]byte("x")}); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{"a", "tmp"} {
			if err := os.RemoveAll(filepath.Join(s.path, d)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestReadOnlyFolder(t *testing.T) {
	mountTmpfs(t, func(dir string) {
		s := open(t, dir)
		if err := s.Put(t.Context(), "a/x", objstore.Body{[]byte("1")}); err != nil {
			t.Fatal(err)
		}
		leave(t, s, "old", 48*time.Hour)
		_ = s.Close()
		if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		defer s.Close()
		if got, err := objstore.ReadAll(t.Context(), s, "a/x", 10); err != nil || string(got) != "1" {
			t.Errorf("read: %q, %v", got, err)
		}
		if err := s.Put(t.Context(), "a/y", nil); !errors.Is(err, objstore.ErrDenied) {
			t.Errorf("put: %v", err)
		}
		if err := s.Delete(t.Context(), "a/x"); !errors.Is(err, objstore.ErrDenied) {
			t.Errorf("delete: %v", err)
		}
	})
}

func leave(t *testing.T, s *Store, name string, age time.Duration) {
	t.Helper()
	p := filepath.Join(s.path, objstore.TempDir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte("left"), 0o600), os.Chtimes(p, time.Time{}, time.Now().Add(-age))); err != nil {
		t.Fatal(err)
	}
}

// What killed Puts left goes after a day, and not before.
func TestSweep(t *testing.T) {
	s := open(t, t.TempDir())
	leave(t, s, "old", 25*time.Hour)
	leave(t, s, "young", 23*time.Hour)
	leave(t, s, "future", -48*time.Hour)
	open(t, s.path)
	if got := leftovers(t, s); fmt.Sprint(got) != "[future young]" {
		t.Errorf("tmp holds %v", got)
	}
}

// NFS may answer a repeated link with "exists" although it was the first that
// made it: the object is ours. A true winner of the name stays what it is.
func TestLinkAnsweredTwice(t *testing.T) {
	s := open(t, t.TempDir())
	s.calls.rename = func(int, string, string) error { return unix.EINVAL }
	s.calls.link = func(root int, from, to string) error {
		if err := linkat(root, from, to); err != nil {
			return err
		}
		return unix.EEXIST
	}
	if err := s.Put(t.Context(), "a/x", objstore.Body{[]byte("mine")}); err != nil {
		t.Fatal(err)
	}
	if got, err := objstore.ReadAll(t.Context(), s, "a/x", 10); err != nil || string(got) != "mine" {
		t.Errorf("read: %q, %v", got, err)
	}
	if l := leftovers(t, s); len(l) > 0 {
		t.Errorf("tmp holds %v", l)
	}
	s.calls.link = func(root int, _, to string) error { // somebody else was faster
		if err := unix.Mknodat(root, to, unix.S_IFREG|0o600, 0); err != nil {
			return err
		}
		return unix.EEXIST
	}
	if err := s.Put(t.Context(), "a/y", nil); !errors.Is(err, objstore.ErrExists) {
		t.Errorf("put: %v", err)
	}
}

// Errors of the system calls, each with its class.
func TestClassify(t *testing.T) {
	for errno, want := range map[unix.Errno]objstore.Class{
		unix.ENOENT: objstore.NotExist, unix.ENOTDIR: objstore.NotExist, unix.EEXIST: objstore.Exists, unix.ENOSPC: objstore.Full,
		unix.EDQUOT: objstore.Full, unix.EACCES: objstore.Denied, unix.EROFS: objstore.Denied, unix.ESTALE: objstore.Retryable,
		unix.EMFILE: objstore.Retryable, unix.EHOSTDOWN: objstore.Unreachable, unix.EIO: objstore.Permanent,
	} {
		if got := objstore.ClassOf(wrap("get", "x", fmt.Errorf("read: %w", errno))); got != want {
			t.Errorf("%v is of class %s, want %s", errno, got, want)
		}
	}
}
