// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockio/looptest"
)

const cacheTestSize = 256 << 20

// cachedShare is the part of a file or device that the page cache holds.
func cachedShare(t *testing.T, path string, size int64) float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Cachestat_t
	err = unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &st, 0)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("needs cachestat (Linux 6.5)")
	}
	if err != nil {
		t.Fatal(err)
	}
	share := float64(st.Cache*PageSize) / float64(size)
	t.Logf("%s: %.2f %% of %d MiB cached, %d pages dirty", filepath.Base(path), 100*share, size>>20, st.Dirty)
	return share
}

// readAll reads a source with two readers, in blocks as a backup does or in small scattered pieces.
func readAll(t *testing.T, s *Source, block, step int64) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range int64(2) {
		p := alignedBytes(t, int(block))
		wg.Go(func() {
			for off := w * step; off+block <= s.Size(); off += 2 * step {
				if err := s.ReadAt(t.Context(), p, off); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestReadingLeavesThePageCacheAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1<<20)
	looptest.FillPattern(p, 0)
	for off := int64(0); off < cacheTestSize; off += int64(len(p)) {
		if _, err := f.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if share := cachedShare(t, path, cacheTestSize); share < 0.5 {
		t.Fatalf("the test can't see the page cache: %.2f after writing", share)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	dropCached(f, 0, 0)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, direct := range []bool{true, false} {
		for _, c := range []struct{ block, step int64 }{{1 << 20, 1 << 20}, {256 << 10, 1 << 20}, {8 << 10, 64 << 10}} {
			t.Run(fmt.Sprintf("direct=%v/block=%d", direct, c.block), func(t *testing.T) {
				s := openTestSource(t, path, direct)
				readAll(t, s, c.block, c.step)
				if s.Direct() != direct {
					t.Fatalf("Direct() = %v: %s", s.Direct(), s.Fallback())
				}
				if share := cachedShare(t, path, cacheTestSize); share >= 0.05 {
					t.Errorf("%.1f %% of the volume is cached while the source is open", 100*share)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// btrfs opens a compressed file with O_DIRECT and reads it through the page cache.
func TestReadingACompressedFileLeavesThePageCacheAlone(t *testing.T) {
	const size = 16 << 20
	dir, _ := looptest.MountedFS(t, "btrfs", 160<<20)
	if err := unix.Mount("none", dir, "btrfs", unix.MS_REMOUNT, "compress-force=lzo"); err != nil {
		t.Skipf("no compression here: %v", err)
	}
	path := filepath.Join(dir, "volume")
	if err := os.WriteFile(path, bytes.Repeat([]byte("compress"), size/8), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	dropCached(f, 0, 0)
	s := openTestSource(t, path, true)
	readAll(t, s, 1<<20, 1<<20)
	if share := cachedShare(t, path, size); share >= 0.05 {
		t.Errorf("%.1f %% is cached", 100*share)
	}
	_ = s.Close()
}

func BenchmarkReadAt(b *testing.B) {
	const size = 256 << 20
	path := filepath.Join(b.TempDir(), "volume")
	p := make([]byte, size)
	looptest.FillPattern(p, 0)
	if err := os.WriteFile(path, p, 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	dropCached(f, 0, 0)
	for _, direct := range []bool{true, false} {
		for _, block := range []int64{8 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("direct=%v/block=%dKiB", direct, block>>10), func(b *testing.B) {
				s := openTestSource(b, path, direct)
				buf := alignedBytes(b, int(block))
				b.SetBytes(block)
				b.ReportAllocs()
				off, ctx := int64(0), b.Context()
				for b.Loop() {
					if err := s.ReadAt(ctx, buf, off); err != nil {
						b.Fatal(err)
					}
					off = (off + block) % size
				}
			})
		}
	}
}
