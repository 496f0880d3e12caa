// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

const smallDisk = 16 << 20

// mountTmpfs runs fn in a file system of its own with little room.
func mountTmpfs(t *testing.T, fn func(dir string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tidemark-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", smallDisk)); err != nil {
		t.Skipf("no tmpfs here: %v", err)
	}
	defer unmount(t, dir)
	fn(dir)
}

// mountExt4 does the same with an ext4 in a file: there a full disk may show as
// late as at fsync.
func mountExt4(t *testing.T, fn func(dir string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, smallDisk)); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no ext4 in a file here: %s: %v: %s", command[0], err, out)
		}
	}
	defer unmount(t, dir)
	fn(dir)
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Errorf("unmount %s: %v", dir, err)
	}
}

// A full disk is said to be full, shows no part of an object, keeps nothing of
// it, and takes what fits as soon as there is room again.
func TestFull(t *testing.T) {
	for name, mount := range map[string]func(*testing.T, func(string)){"tmpfs": mountTmpfs, "ext4": mountExt4} {
		t.Run(name, func(t *testing.T) { mount(t, func(dir string) { fill(t, dir) }) })
	}
}

func fill(t *testing.T, dir string) {
	s := open(t, dir)
	defer s.Close()
	const size = 1 << 20
	var stored []string
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range 24 { // several at once, and more than there is room for
		wg.Go(func() {
			name := fmt.Sprintf("packs/%d", i)
			err := s.Put(t.Context(), name, objstore.Body{objtest.Bytes(uint64(i), size)})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				stored = append(stored, name)
			case !errors.Is(err, objstore.ErrFull) || objstore.ClassOf(err) != objstore.Full:
				t.Errorf("put: %v", err)
			}
		})
	}
	wg.Wait()
	if len(stored) == 0 || len(stored) == 24 {
		t.Fatalf("%d objects of %d bytes on a disk of %d: it was not filled", len(stored), size, smallDisk)
	}
	seen := 0
	err := s.List(t.Context(), "", func(i objstore.Info) error { seen++; return nil })
	if err != nil || seen != len(stored) {
		t.Errorf("%d objects listed, %v, but %d stored", seen, err, len(stored))
	}
	for _, name := range stored {
		checkObject(t, s, name, size)
	}
	if l := leftovers(t, s); len(l) > 0 {
		t.Errorf("tmp holds %v", l)
	}
	if err := s.Delete(t.Context(), stored[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "packs/last", objstore.Body{make([]byte, size/2)}); err != nil {
		t.Errorf("put after making room: %v", err)
	}
}

// checkObject checks that the object is that which its name says, whole.
func checkObject(t *testing.T, s *Store, name string, size int) {
	t.Helper()
	var seed uint64
	if _, err := fmt.Sscanf(filepath.Base(name), "%d", &seed); err != nil {
		t.Fatal(err)
	}
	same, err := objstore.Same(t.Context(), s, name, objstore.Body{objtest.Bytes(seed, size)})
	if err != nil || !same {
		t.Errorf("%s is not what was stored: %v", name, err)
	}
}

// poorNode is a file system over another that lacks what its fields say.
type poorNode struct {
	fs.LoopbackNode
	noLinks, noFlags bool
}

func (n *poorNode) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if n.noLinks {
		return nil, syscall.EPERM // as vfat answers
	}
	return n.LoopbackNode.Link(ctx, target, name, out)
}

func (n *poorNode) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if n.noFlags && flags != 0 {
		return syscall.EINVAL // as NFS answers
	}
	return n.LoopbackNode.Rename(ctx, name, parent, newName, flags)
}

// mountPoor mounts a file system without RENAME_NOREPLACE and, if asked, without links.
func mountPoor(t *testing.T, noLinks bool) string {
	t.Helper()
	return mountFuse(t, func(below *fs.LoopbackRoot) fs.InodeEmbedder {
		return &poorNode{LoopbackNode: fs.LoopbackNode{RootData: below}, noFlags: true, noLinks: noLinks}
	})
}

// mountFuse mounts a file system of the nodes that newNode makes.
func mountFuse(t *testing.T, newNode func(*fs.LoopbackRoot) fs.InodeEmbedder) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	below, dir := t.TempDir(), t.TempDir()
	root := &fs.LoopbackRoot{Path: below}
	root.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder { //nolint:staticcheck // its successor can't make the root's node
		return newNode(data)
	}
	server, err := fs.Mount(dir, newNode(root), &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true}})
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
		server.Wait()
	})
	return dir
}

// A file system without RENAME_NOREPLACE is used by links, and is as good.
func TestWithoutRenameFlags(t *testing.T) {
	objtest.Run(t, func(t *testing.T) objstore.Store {
		dir := mountPoor(t, false)
		if err := errors.Join(os.WriteFile(dir+"/a", nil, 0o600), renameProbe(dir)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// renameProbe makes sure that the mount lacks what the test is about.
func renameProbe(dir string) error {
	err := unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/b", unix.RENAME_NOREPLACE)
	if err != unix.EINVAL {
		return fmt.Errorf("renameat2 with a flag says %w, want EINVAL", err)
	}
	return os.Remove(dir + "/a")
}

// A file system that can't refuse to replace is refused, and nothing is left.
func TestUnsuitable(t *testing.T) {
	s := open(t, mountPoor(t, true))
	defer s.Close()
	for range 2 {
		err := s.Put(t.Context(), "a/x", objstore.Body{[]byte("x")})
		if !errors.Is(err, objstore.ErrUnsuitable) || objstore.ClassOf(err) != objstore.Permanent || !strings.Contains(err.Error(), "use a folder elsewhere") {
			t.Errorf("put: %v", err)
		}
	}
	if err := objstore.Probe(t.Context(), s, ""); !errors.Is(err, objstore.ErrUnsuitable) {
		t.Errorf("probe: %v", err)
	}
	if _, err := s.Stat(t.Context(), "a/x"); !errors.Is(err, objstore.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
	if l := leftovers(t, s); len(l) > 0 {
		t.Errorf("tmp holds %v", l)
	}
}
