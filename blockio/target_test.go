// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/blockio/looptest"
)

func openTestTarget(t testing.TB, path string, size int64) *Target {
	t.Helper()
	target, err := OpenTarget(path, size, TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	return target
}

// refuseZeroing makes a target write its zeros.
func refuseZeroing(target *Target) {
	refuse := func(*os.File, int64, int64) error { return unix.EOPNOTSUPP }
	for _, way := range target.zero.ways {
		way.do = refuse
	}
	target.zero.skip = nil
}

// actsLikeMemory writes, zeroes and reads at random and compares with a byte slice, then with the medium.
func actsLikeMemory(t *testing.T, target *Target, model []byte) {
	t.Helper()
	size := target.Size()
	var wrote int64
	before := target.BytesWritten()
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		for range rapid.IntRange(1, 8).Draw(t, "ops") {
			unit := rapid.SampledFrom([]int64{1, 512, 4096}).Draw(t, "unit")
			off := min(rapid.Int64Range(0, size/unit).Draw(t, "off")*unit, size)
			n := min(rapid.Int64Range(0, (128<<10)/unit).Draw(t, "len")*unit, size-off)
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 0, 1:
				p := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, int(n))
				if err := target.WriteAt(ctx, p, off); err != nil {
					t.Fatal(err)
				}
				copy(model[off:], p)
				wrote += n
			case 2:
				if err := target.Zero(ctx, off, n); err != nil {
					t.Fatal(err)
				}
				clear(model[off : off+n])
			case 3:
				p := make([]byte, n)
				if err := target.ReadAt(ctx, p, off); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(p, model[off:off+n]) {
					t.Fatalf("%d bytes at %d differ", n, off)
				}
			}
		}
	})
	if got := target.BytesWritten() - before; got != wrote {
		t.Errorf("BytesWritten grew by %d for %d bytes", got, wrote)
	}
	if err := target.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := openTestSource(t, target.Path(), true)
	defer s.Close()
	p := make([]byte, size)
	if err := s.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p, model) {
		t.Error("the medium differs from what was written")
	}
}

func TestTargetActsLikeMemory(t *testing.T) {
	const size = 1<<20 + 512
	old := make([]byte, size)
	looptest.FillPattern(old, 0)
	for _, written := range []bool{false, true} {
		name := map[bool]string{false: "punched", true: "zeros-written"}[written]
		prepare := func(target *Target) *Target {
			if written {
				refuseZeroing(target)
			}
			return target
		}
		t.Run("new-file/"+name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "new")
			actsLikeMemory(t, prepare(openTestTarget(t, path, size)), make([]byte, size))
		})
		t.Run("old-file/"+name, func(t *testing.T) {
			path := patternFile(t, t.TempDir(), size)
			actsLikeMemory(t, prepare(openTestTarget(t, path, size)), bytes.Clone(old))
		})
		t.Run("device/"+name, func(t *testing.T) {
			dev := looptest.Attach(t, patternFile(t, t.TempDir(), size))
			actsLikeMemory(t, prepare(openTestTarget(t, dev, size)), bytes.Clone(old))
		})
		t.Run("device-4096/"+name, func(t *testing.T) {
			dev := looptest.AttachWith(t, patternFile(t, t.TempDir(), size-512), looptest.Options{BlockSize: 4096})
			actsLikeMemory(t, prepare(openTestTarget(t, dev, size-512)), bytes.Clone(old[:size-512]))
		})
	}
	// The second way of a device: BLKZEROOUT where holes can't be punched.
	t.Run("device/zeroout", func(t *testing.T) {
		dev := looptest.Attach(t, patternFile(t, t.TempDir(), size))
		target := openTestTarget(t, dev, size)
		target.zero.ways[0].refused.Store(true)
		actsLikeMemory(t, target, bytes.Clone(old))
		if target.zero.ways[1].refused.Load() {
			t.Error("BLKZEROOUT was refused by a loop device")
		}
	})
	// FUSE without fallocate: a file system that really refuses to punch.
	t.Run("no-fallocate", func(t *testing.T) {
		target := openTestTarget(t, looptest.FailingFile(t, size, nil), size)
		actsLikeMemory(t, target, bytes.Clone(old))
		if !target.zero.ways[0].refused.Load() {
			t.Error("nothing refused the hole, so nothing was tested")
		}
		_ = target.Close()
	})
}

func TestTargetFileIsCreatedKeptOrResized(t *testing.T) {
	for _, c := range []struct {
		name  string
		old   int64 // -1: no file
		size  int64
		fresh bool
	}{
		{"created", -1, 100_000, true},
		{"created-empty", -1, 0, true},
		{"empty", 0, 100_000, true},
		{"same", 100_000, 100_000, false},
		{"longer", 150_000, 100_000, false},
		{"shorter", 50_000, 100_000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "volume")
			want := make([]byte, c.size)
			var inode uint64
			if c.old >= 0 {
				patternFile(t, filepath.Dir(path), c.old)
				looptest.FillPattern(want[:min(c.old, c.size)], 0)
				inode = openTestSource(t, path, true).Identity().Ino
			}
			target := openTestTarget(t, path, c.size)
			if target.Fresh() != c.fresh || target.IsDevice() || target.Size() != c.size || target.Path() != path {
				t.Errorf("fresh %v, device %v, size %d", target.Fresh(), target.IsDevice(), target.Size())
			}
			if err := target.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, equal %v: %v", len(got), bytes.Equal(got, want), err)
			}
			now := openTestSource(t, path, true).Identity().Ino
			if c.old >= 0 && now != inode {
				t.Error("the file was replaced")
			}
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if mode := st.Mode().Perm(); c.old < 0 && mode != 0o600 {
				t.Errorf("created with mode %o", mode)
			}
		})
	}
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestZeroGivesSpaceBack(t *testing.T) {
	const size = 8 << 20
	image := patternFile(t, t.TempDir(), size)
	t.Run("file", func(t *testing.T) {
		path := patternFile(t, t.TempDir(), size)
		target := openTestTarget(t, path, size)
		if err := target.Zero(t.Context(), 0, size-1); err != nil {
			t.Fatal(err)
		}
		if err := target.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := allocated(t, path); got > 64<<10 {
			t.Errorf("%d bytes are still allocated", got)
		}
	})
	t.Run("fresh-file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "volume")
		target := openTestTarget(t, path, size)
		calls := 0
		target.zero.ways[0].do = func(*os.File, int64, int64) error { calls++; return nil }
		if err := target.Zero(t.Context(), 0, size); err != nil {
			t.Fatal(err)
		}
		if calls != 0 || allocated(t, path) > 64<<10 {
			t.Errorf("holes were punched %d times into a hole, %d bytes allocated", calls, allocated(t, path))
		}
	})
	t.Run("device", func(t *testing.T) {
		target := openTestTarget(t, looptest.Attach(t, image), size)
		if err := target.Zero(t.Context(), 512, size-1024); err != nil {
			t.Fatal(err)
		}
		if err := target.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := allocated(t, image); got > 64<<10 {
			t.Errorf("%d bytes are still allocated under the device", got)
		}
	})
}

func TestTargetRefuses(t *testing.T) {
	dir := t.TempDir()
	var ke *KindError
	for _, path := range []string{dir, "/dev/null"} {
		if _, err := OpenTarget(path, 1, TargetOptions{Force: true}); !errors.As(err, &ke) {
			t.Errorf("OpenTarget(%s) = %v", path, err)
		}
	}
	if _, err := OpenTarget(filepath.Join(dir, "no", "file"), 1, TargetOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	for _, size := range []int64{-1, 1<<63 - 1} {
		path := filepath.Join(dir, "absurd")
		if _, err := OpenTarget(path, size, TargetOptions{}); err == nil {
			t.Errorf("a volume of %d bytes was accepted", size)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a failed open left a file behind: %v", err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTarget(link, 1, TargetOptions{}); err == nil {
		t.Error("a link to nowhere was accepted")
	}
}

func TestTargetRange(t *testing.T) {
	target := openTestTarget(t, filepath.Join(t.TempDir(), "volume"), 8192)
	for _, c := range []struct{ off, n int64 }{{-1, 1}, {0, 8193}, {8192, 1}, {1<<63 - 1, 2}} {
		p := make([]byte, c.n)
		for verb, err := range map[string]error{
			"write": target.WriteAt(t.Context(), p, c.off),
			"read":  target.ReadAt(t.Context(), p, c.off),
			"zero":  target.Zero(t.Context(), c.off, c.n),
		} {
			if !errors.Is(err, ErrOutOfRange) {
				t.Errorf("%s %d at %d: %v", verb, c.n, c.off, err)
			}
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for verb, err := range map[string]error{
		"write": target.WriteAt(cancelled, nil, 0), "read": target.ReadAt(cancelled, nil, 0),
		"zero": target.Zero(cancelled, 0, 0), "sync": target.Sync(cancelled),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled %s: %v", verb, err)
		}
	}
}

func TestTargetFileHasOneWriter(t *testing.T) {
	target := openTestTarget(t, filepath.Join(t.TempDir(), "volume"), 8192)
	var busy *InUseError
	if _, err := OpenTarget(target.Path(), 8192, TargetOptions{}); !errors.As(err, &busy) {
		t.Errorf("a second writer: %v", err)
	}
	forced, err := OpenTarget(target.Path(), 8192, TargetOptions{Force: true})
	if err != nil {
		t.Fatalf("forced: %v", err)
	}
	if err := forced.Close(); err != nil {
		t.Error(err)
	}
}

func TestTargetDevice(t *testing.T) {
	const size = 1 << 20
	image := looptest.SparseFile(t, size)
	dev := looptest.Attach(t, image)
	var small *TooSmallError
	if _, err := OpenTarget(dev, size+1, TargetOptions{}); !errors.As(err, &small) || small.Have != size || small.Need != size+1 {
		t.Errorf("too small: %v", err)
	}
	target := openTestTarget(t, dev, size-4096) // smaller is fine
	if !target.IsDevice() || target.Fresh() {
		t.Errorf("device %v, fresh %v", target.IsDevice(), target.Fresh())
	}
	if err := target.WriteAt(t.Context(), []byte{1}, size-4096); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("write behind the volume: %v", err)
	}
	ro := looptest.AttachWith(t, image, looptest.Options{ReadOnly: true})
	if _, err := OpenTarget(ro, size, TargetOptions{}); !errors.Is(err, unix.EROFS) {
		t.Errorf("a read-only device: %v", err)
	}
	_ = target.Close()
}

// A write that fails after WriteAt returned is reported by whichever call is next, and by all after it.
func TestWriteBackFailureIsNotLost(t *testing.T) {
	const size = 4 << 20
	for _, how := range []string{"sync", "window"} {
		t.Run(how, func(t *testing.T) {
			dev := looptest.Attach(t, looptest.FailingFile(t, size, []looptest.Range{{Offset: 1 << 20, Length: 4096}}))
			target := openTestTarget(t, dev, size)
			p := bytes.Repeat([]byte{1}, size)
			if err := target.WriteAt(t.Context(), p, 0); err != nil {
				t.Fatal(err)
			}
			var err error
			if how == "sync" {
				err = target.Sync(t.Context())
			} else {
				for i := 0; i < 4*flushWindow/size && err == nil; i++ {
					err = target.WriteAt(t.Context(), p[:1<<19], 2<<20)
					for range 8 {
						err = errors.Join(err, target.WriteAt(t.Context(), p[:1<<19], 3<<20))
					}
				}
			}
			if !errors.Is(err, unix.EIO) {
				t.Fatalf("the failed write-back came to light as %v", err)
			}
			for verb, err := range map[string]error{
				"write": target.WriteAt(t.Context(), p[:1], 0), "zero": target.Zero(t.Context(), 0, 1),
				"sync": target.Sync(t.Context()), "close": target.Close(),
			} {
				if !errors.Is(err, unix.EIO) {
					t.Errorf("%s after it: %v", verb, err)
				}
			}
		})
	}
}

func TestTargetConcurrentWriters(t *testing.T) {
	const size, block = 96 << 20, 256 << 10
	path := filepath.Join(t.TempDir(), "volume")
	target := openTestTarget(t, path, size)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			p := make([]byte, block)
			for off := int64(w) * block; off < size; off += 4 * block {
				looptest.FillPattern(p, off)
				if err := target.WriteAt(t.Context(), p, off); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if share := cachedShare(t, path, size); share > 0.8 {
		t.Errorf("%.0f %% is cached before Sync: windows are not dropped", 100*share)
	}
	if err := target.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if share := cachedShare(t, path, size); share >= 0.05 {
		t.Errorf("%.1f %% is cached after Sync", 100*share)
	}
	s := openTestSource(t, path, true)
	p, want := alignedBytes(t, block), make([]byte, block)
	for off := int64(0); off < size; off += block {
		looptest.FillPattern(want, off)
		if err := s.ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, want) {
			t.Fatalf("block at %d: %v", off, err)
		}
	}
}

func TestWritingLeavesThePageCacheAlone(t *testing.T) {
	const size = 128 << 20
	for _, kind := range []string{"file", "device"} {
		for _, c := range []struct{ block, step int64 }{{1 << 20, 1 << 20}, {8 << 10, 64 << 10}} {
			t.Run(fmt.Sprintf("%s/block=%d", kind, c.block), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "volume")
				if kind == "device" {
					path = looptest.AttachWith(t, looptest.SparseFile(t, size), looptest.Options{DirectIO: true})
				}
				target := openTestTarget(t, path, size)
				p := bytes.Repeat([]byte{7}, int(c.block))
				most := 0.0
				for off := int64(0); off < size; off += c.step {
					if err := target.WriteAt(t.Context(), p, off); err != nil {
						t.Fatal(err)
					}
					if off%(32<<20) == 28<<20 {
						most = max(most, cachedShare(t, path, size))
					}
				}
				// Two windows and a little: pages are written and dropped on the way, not at the end.
				if limit := float64(3*flushWindow) / size; most > limit {
					t.Errorf("up to %.1f %% were cached while writing, want at most %.1f %%", 100*most, 100*limit)
				}
				if err := target.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				if share := cachedShare(t, path, size); share >= 0.05 {
					t.Errorf("%.1f %% of the volume is cached after Sync", 100*share)
				}
				if err := target.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func TestWriteAtDoesNotAllocate(t *testing.T) {
	target := openTestTarget(t, filepath.Join(t.TempDir(), "volume"), 1<<20)
	p := make([]byte, 4096)
	off := int64(0)
	ctx := t.Context()
	n := testing.AllocsPerRun(10_000, func() {
		off = (off + 3*4096) % (1 << 20)
		if err := target.WriteAt(ctx, p, off); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("WriteAt allocates %v times", n)
	}
}
