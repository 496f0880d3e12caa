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
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/blockio/looptest"
)

// patternFile writes a file that holds looptest.FillPattern.
func patternFile(t testing.TB, dir string, size int64) string {
	t.Helper()
	path := filepath.Join(dir, "volume")
	p := make([]byte, size)
	looptest.FillPattern(p, 0)
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openTestSource(t testing.TB, path string, direct bool) *Source {
	t.Helper()
	s, err := openSource(path, direct)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// alignedBytes is page-aligned memory for a test.
func alignedBytes(t testing.TB, n int) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	return mem
}

// readsLikePattern reads random places of a source, at any alignment of offset, length and memory.
func readsLikePattern(t *testing.T, s *Source) {
	t.Helper()
	mem := alignedBytes(t, 256<<10)
	want := make([]byte, len(mem))
	var total int64
	before := s.BytesRead()
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]int64{1, 512, 4096}).Draw(t, "unit")
		off := min(rapid.Int64Range(0, s.Size()/unit).Draw(t, "off")*unit, s.Size())
		skew := rapid.SampledFrom([]int{0, 0, 1, 512}).Draw(t, "skew")
		most := min(s.Size()-off, int64(len(mem)-skew))
		n := min(rapid.Int64Range(0, most/unit+1).Draw(t, "len")*unit, most)
		p, w := mem[skew:][:n], want[:n]
		clear(p)
		looptest.FillPattern(w, off)
		if err := s.ReadAt(context.Background(), p, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, w) {
			t.Fatalf("%d bytes at %d into memory at +%d differ", n, off, skew)
		}
		total += n
	})
	if got := s.BytesRead() - before; got != total {
		t.Errorf("BytesRead grew by %d for %d bytes", got, total)
	}
}

func TestSourceReadsFiles(t *testing.T) {
	for _, size := range []int64{0, 1, 511, 4096, 4097, 100_000, 1<<20 + 512, 1<<20 + 4095} {
		for _, direct := range []bool{true, false} {
			t.Run(fmt.Sprintf("size=%d/direct=%v", size, direct), func(t *testing.T) {
				s := openTestSource(t, patternFile(t, t.TempDir(), size), direct)
				if s.Size() != size || s.IsDevice() {
					t.Fatalf("size %d, device %v", s.Size(), s.IsDevice())
				}
				if (s.Fallback() == "") != s.Direct() || s.Direct() && !direct {
					t.Fatalf("Direct() = %v, Fallback() = %q", s.Direct(), s.Fallback())
				}
				readsLikePattern(t, s)
			})
		}
	}
}

func TestSourceReadsFilesOnFileSystems(t *testing.T) {
	for name, size := range map[string]int64{"ext4": 32 << 20, "xfs": 320 << 20, "btrfs": 160 << 20} {
		t.Run(name, func(t *testing.T) {
			dir, _ := looptest.MountedFS(t, name, size)
			s := openTestSource(t, patternFile(t, dir, 3<<20+777), true)
			readsLikePattern(t, s)
			if !s.Direct() {
				t.Errorf("%s did not read directly: %s", name, s.Fallback())
			}
			_ = s.Close() // before the unmount
		})
	}
}

// tmpfs keeps files in the page cache and says so; a source on it reads buffered or directly, but truly.
func TestSourceReadsTmpfs(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "blockio") //nolint:usetesting // t.TempDir is rarely on a tmpfs
	if err != nil {
		t.Skipf("needs a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	readsLikePattern(t, openTestSource(t, patternFile(t, dir, 100_001), true))
}

func TestSourceReadsDevices(t *testing.T) {
	for _, c := range []struct {
		name string
		size int64
		opt  looptest.Options
	}{
		{"512", 1<<20 + 512, looptest.Options{}},
		{"4096", 1 << 20, looptest.Options{BlockSize: 4096}},
		{"readonly", 1<<20 + 3*512, looptest.Options{ReadOnly: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev := looptest.AttachWith(t, patternFile(t, t.TempDir(), c.size), c.opt)
			s := openTestSource(t, dev, true)
			if s.Size() != c.size || !s.IsDevice() || !s.Direct() || !s.Identity().IsZero() {
				t.Fatalf("size %d, device %v, direct %v (%s), identity %v", s.Size(), s.IsDevice(), s.Direct(), s.Fallback(), s.Identity())
			}
			if want := int64(max(c.opt.BlockSize, 512)); s.align.offset != want {
				t.Errorf("aligns to %d, want the logical block of %d", s.align.offset, want)
			}
			readsLikePattern(t, s)
			if !s.Direct() {
				t.Errorf("fell back: %s", s.Fallback())
			}
			_ = s.Close()
		})
	}
}

// A file system that accepts O_DIRECT at open and refuses the read is found out by the first read.
func TestSourceFallsBackAtTheFirstRead(t *testing.T) {
	dev := looptest.AttachWith(t, patternFile(t, t.TempDir(), 1<<20), looptest.Options{BlockSize: 4096})
	s := openTestSource(t, dev, true)
	s.align = alignment{offset: 512, memory: 512} // too fine for this device: EINVAL
	p, want := alignedBytes(t, 8192)[:512], make([]byte, 512)
	looptest.FillPattern(want, 512)
	if err := s.ReadAt(t.Context(), p, 512); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p, want) {
		t.Error("wrong bytes after the fall-back")
	}
	if s.Direct() || s.Fallback() == "" {
		t.Errorf("Direct() = %v, Fallback() = %q after EINVAL", s.Direct(), s.Fallback())
	}
	readsLikePattern(t, s)
	_ = s.Close()
}

func TestOpenSourceRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{dir: "a directory", "/dev/null": "a character device", fifo: "a pipe"} {
		var ke *KindError
		if _, err := OpenSource(path); !errors.As(err, &ke) || ke.Kind != kind {
			t.Errorf("OpenSource(%s) = %v, want %q", path, err, kind)
		}
	}
	if _, err := OpenSource(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenSource of a missing file: %v", err)
	}
}

func TestSourceRange(t *testing.T) {
	s := openTestSource(t, patternFile(t, t.TempDir(), 10_000), true)
	for _, c := range []struct{ off, n int64 }{{-1, 1}, {0, 10_001}, {10_000, 1}, {10_001, 0}, {1<<63 - 1, 1}} {
		if err := s.ReadAt(t.Context(), make([]byte, c.n), c.off); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("%d bytes at %d: %v", c.n, c.off, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.ReadAt(cancelled, make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSourceIdentity(t *testing.T) {
	path := patternFile(t, t.TempDir(), 10_000)
	first := openTestSource(t, path, true).Identity()
	if again := openTestSource(t, path, true).Identity(); again != first || first.IsZero() || first.Size != 10_000 {
		t.Errorf("identity %+v, then %+v", first, again)
	}
	if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(2, 0)); err != nil {
		t.Fatal(err)
	}
	if changed := openTestSource(t, path, true).Identity(); changed == first {
		t.Error("the identity survived a change of the file's times")
	}
}

func TestSourceThatChangesSize(t *testing.T) {
	const size = 64 << 10
	for _, direct := range []bool{true, false} {
		for _, now := range []int64{0, 100, 4096, 20_000, size - 1} {
			t.Run(fmt.Sprintf("direct=%v/now=%d", direct, now), func(t *testing.T) {
				path := patternFile(t, t.TempDir(), size)
				s := openTestSource(t, path, direct)
				if err := os.Truncate(path, now); err != nil {
					t.Fatal(err)
				}
				wantChanged(t, s.ReadAt(t.Context(), alignedBytes(t, size), 0), size, now)
				wantChanged(t, s.CheckUnchanged(), size, now)
				if s.Direct() != direct {
					t.Errorf("a shrunk file was taken for one without direct reads: %s", s.Fallback())
				}
			})
		}
	}
	t.Run("grows", func(t *testing.T) {
		path := patternFile(t, t.TempDir(), size)
		s := openTestSource(t, path, true)
		if err := s.CheckUnchanged(); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size+1); err != nil {
			t.Fatal(err)
		}
		wantChanged(t, s.CheckUnchanged(), size, size+1)
	})
	t.Run("device", func(t *testing.T) {
		path := patternFile(t, t.TempDir(), size)
		dev := looptest.Attach(t, path)
		s := openTestSource(t, dev, true)
		if err := os.Truncate(path, size/2); err != nil {
			t.Fatal(err)
		}
		looptest.Resize(t, dev)
		wantChanged(t, s.ReadAt(t.Context(), alignedBytes(t, size), 0), size, size/2)
		_ = s.Close()
	})
}

func wantChanged(t *testing.T, err error, was, now int64) {
	t.Helper()
	var ce *ChangedSizeError
	if !errors.As(err, &ce) || ce.Was != was || ce.Now != now {
		t.Errorf("got %v, want a change from %d to %d", err, was, now)
	}
}

// A bad sector costs its page and nothing else, read from a device or from a file, directly or not.
func TestSourceNarrowsReadErrors(t *testing.T) {
	const size = 1<<20 + 512
	bad := []looptest.Range{{Offset: 5, Length: 1}, {Offset: 300 << 10, Length: 8192}, {Offset: 700_000, Length: 1}, {Offset: 1 << 20, Length: 1}}
	want := []Range{{0, 4096}, {300 << 10, 8192}, {700_000 &^ 4095, 4096}, {1 << 20, 512}}
	for _, device := range []bool{true, false} {
		for _, direct := range []bool{true, false} {
			t.Run(fmt.Sprintf("device=%v/direct=%v", device, direct), func(t *testing.T) {
				path := looptest.FailingFile(t, size, bad)
				if device {
					path = looptest.Attach(t, path)
				}
				s := openTestSource(t, path, direct)
				p, content := alignedBytes(t, size+3584)[:size], make([]byte, size)
				looptest.FillPattern(content, 0)
				lost := int64(0)
				for _, r := range want {
					clear(content[r.Offset:r.End()])
					lost += r.Length
				}
				for i := range p {
					p[i] = 0xee
				}
				var re *ReadError
				if err := s.ReadAt(t.Context(), p, 0); !errors.As(err, &re) || !errors.Is(err, unix.EIO) {
					t.Fatalf("got %v", err)
				}
				if d := cmp.Diff(want, re.Ranges); d != "" {
					t.Errorf("ranges (-want +got):\n%s", d)
				}
				if !bytes.Equal(p, content) {
					t.Error("the readable bytes are not all there, or the lost ones not zero")
				}
				if got := s.BytesRead(); got != size-lost {
					t.Errorf("BytesRead = %d, want %d", got, size-lost)
				}
				if err := s.ReadAt(t.Context(), p[:4096], 4096); err != nil {
					t.Errorf("a good page: %v", err)
				}
				_ = s.Close()
			})
		}
	}
}

func TestSourceConcurrentReads(t *testing.T) {
	const size = 4<<20 + 100
	s := openTestSource(t, patternFile(t, t.TempDir(), size), true)
	a := newArena(t, 64<<10, 4)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			want := make([]byte, 64<<10)
			for off := int64(w) * (64 << 10); off < size; off += 4 * (64 << 10) {
				b, err := a.Get(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				n := min(size-off, 64<<10)
				p := b.Bytes()[:n]
				looptest.FillPattern(want[:n], off)
				if err := s.ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p, want[:n]) {
					t.Errorf("at %d: %v", off, err)
				}
				if err := b.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s.BytesRead() != size {
		t.Errorf("BytesRead = %d, want %d", s.BytesRead(), size)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadAtDoesNotAllocate(t *testing.T) {
	path := patternFile(t, t.TempDir(), 1<<20+100)
	for _, direct := range []bool{true, false} {
		s := openTestSource(t, path, direct)
		p := alignedBytes(t, 64<<10)
		ctx := t.Context()
		off := int64(0)
		n := testing.AllocsPerRun(200, func() {
			off = (off + 4096) % (512 << 10)
			if err := s.ReadAt(ctx, p, off); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("ReadAt (direct %v) allocates %v times", direct, n)
		}
	}
}

func TestReadErrorSentence(t *testing.T) {
	e := &ReadError{Path: "/dev/x", Err: unix.EIO}
	for i := range 6 {
		e.add(Range{Offset: int64(i) * 8192, Length: 4096})
	}
	const want = "read /dev/x: 24576 bytes are unreadable (0+4096, 8192+4096, 16384+4096, 24576+4096, and 2 more ranges): input/output error"
	if e.Error() != want {
		t.Errorf("got  %s\nwant %s", e, want)
	}
}
