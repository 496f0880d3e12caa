// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio/looptest"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/folder"
)

// reflinkHost is a directory on a file system that copies files by reflink.
func reflinkHost(t *testing.T, size int64) string {
	t.Helper()
	dir, _ := looptest.MountedFS(t, "xfs", size)
	return dir
}

// reflink copies a file as it is at one moment, as a snapshot does.
func reflink(t *testing.T, from, to string) string {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())), dst.Close()); err != nil {
		t.Skipf("needs reflink copies: %v", err)
	}
	return to
}

// The ioctls that freeze and thaw a mounted file system (linux/fs.h).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// whileFrozen runs fn while the file system at dir is frozen and clean.
func whileFrozen(t *testing.T, dir string, fn func()) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), fiFreeze, 0); err != nil {
		t.Skipf("needs to freeze file systems: %v", err)
	}
	defer func() {
		if err := unix.IoctlSetInt(int(f.Fd()), fiThaw, 0); err != nil {
			t.Errorf("thaw: %v", err)
		}
	}()
	fn()
}

// tree gives every file's path and checksum.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files[rel] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// edit creates, rewrites, extends and removes files.
func edit(t *testing.T, rnd *rand.Rand, dir string) {
	t.Helper()
	for i := range 40 {
		path := filepath.Join(dir, fmt.Sprintf("d%d", rnd.IntN(5)), fmt.Sprintf("f%d", rnd.IntN(60)))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if i%8 == 7 {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 1+rnd.IntN(300<<10))
		random(rnd, data)
		_, err = f.WriteAt(data, int64(rnd.IntN(100<<10)))
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// differing compares two images page by page: an honest claim.
func differing(t *testing.T, before, after string) blockdiff.Ranges {
	t.Helper()
	a, err := os.Open(before)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := os.Open(after)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out blockdiff.Ranges
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(x)) {
		n, err := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		if n != m {
			t.Fatalf("%s and %s have different sizes", before, after)
		}
		for i := 0; i < n; i += pageSize {
			if end := min(i+pageSize, n); !bytes.Equal(x[i:end], y[i:end]) {
				out = append(out, blockdiff.Range{Offset: off + int64(i), Length: int64(end - i)})
			}
		}
		if err != nil {
			if err2 == nil || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err, err2)
			}
			return blockdiff.Normalize(out)
		}
	}
}

// realRepo is a repository in a folder, with default chunks, and a machine's cache.
type realRepo struct {
	*chunkstore.Repository
	t *testing.T
}

func newRealRepo(t *testing.T) *realRepo {
	t.Helper()
	store, err := folder.Create(t.Context(), filepath.Join(t.TempDir(), "repo"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	newTestRepo(t, store)
	return &realRepo{openTestRepo(t, store, t.TempDir()), t}
}

func (r *realRepo) backup(opt BackupOptions) (*Report, *chunkstore.Point) {
	r.t.Helper()
	opt.Volume, opt.Memory = "disk", MinMemory
	rep, err := Backup(r.t.Context(), r.Repository, opt)
	if err != nil {
		r.t.Fatal(err)
	}
	if rep.ExitCode() != 0 || len(rep.Warnings) > 0 {
		r.t.Fatalf("%+v", rep)
	}
	p, err := r.Resolve(r.t.Context(), rep.Point)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep, p
}

func (r *realRepo) restore(p *chunkstore.Point, target string) string {
	r.t.Helper()
	if _, err := Restore(r.t.Context(), r.Repository, p, RestoreOptions{Target: target, Memory: MinMemory}); err != nil {
		r.t.Fatal(err)
	}
	return target
}

func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	tool, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", name, args, err, out)
	}
}

// mountBack mounts a restored image, whose original may be mounted, too; the
// file system replays its journal as after a power cut. It is unmounted when the
// test ends.
func mountBack(t *testing.T, image, kind string) string {
	t.Helper()
	dir := t.TempDir()
	options := map[string]string{"xfs": "nouuid"}[kind]
	if err := unix.Mount(looptest.Attach(t, image), dir, kind, unix.MS_NODEV, options); err != nil {
		t.Fatalf("mount %s: %v", image, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// Real file systems: snapshots of a mounted image, backed up as device and as
// file, by fingerprint and by claim, come back so that fsck finds nothing and
// every file is what it was.
func TestRealFileSystems(t *testing.T) {
	host := reflinkHost(t, 3<<30)
	fsck := map[string][]string{"ext4": {"e2fsck", "-fn"}, "xfs": {"xfs_repair", "-n"}}
	for kind, size := range map[string]int64{"ext4": 96 << 20, "xfs": 320 << 20} {
		t.Run(kind, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(size), 3))
			image := filepath.Join(host, kind)
			looptest.MakeFS(t, image, kind, size)
			dir := t.TempDir()
			looptest.Mount(t, looptest.Attach(t, image), dir)
			repo := newRealRepo(t)
			var snapshots []string
			var trees []map[string]string
			var points []*chunkstore.Point
			for i := range 4 {
				edit(t, rnd, dir)
				snapshot := filepath.Join(host, fmt.Sprintf("%s.%d", kind, i))
				trees = append(trees, tree(t, dir))
				whileFrozen(t, dir, func() { reflink(t, image, snapshot) })
				opt := BackupOptions{Source: snapshot, Snapshot: fmt.Sprint("s", i)}
				switch i {
				case 0, 1: // full, then by fingerprint, from a device
					opt.Source = looptest.AttachWith(t, snapshot, looptest.Options{ReadOnly: true})
				case 2:
					opt.Changes = claimOf(t, differing(t, snapshots[i-1], snapshot))
					opt.BaseSnapshot = "s1"
				}
				rep, p := repo.backup(opt)
				if i > 0 {
					changed := differing(t, snapshots[i-1], snapshot).AlignOut(2*DefaultDigestSize, p.Size).Total()
					if rep.NewBytes > changed {
						t.Errorf("backup %d (%s) stored %d new bytes, %d changed", i, rep.Source, rep.NewBytes, changed)
					}
				}
				snapshots, points = append(snapshots, snapshot), append(points, p)
			}
			for i, p := range points {
				back := repo.restore(p, filepath.Join(host, "restored"))
				if d := differing(t, snapshots[i], back); len(d) > 0 {
					t.Errorf("point %d (%s) differs at %v", i, p.Source, d[0])
				}
				t.Run(fmt.Sprintf("files of point %d", i), func(t *testing.T) {
					if diff := cmp.Diff(trees[i], tree(t, mountBack(t, back, kind))); diff != "" {
						t.Error(diff)
					}
				})
				tool := append(append([]string{}, fsck[kind]...), back)
				mustRun(t, tool[0], tool[1:]...)
				if err := os.Remove(back); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
