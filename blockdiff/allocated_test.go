// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// sparseFile writes data at 1 MiB and 3 MiB of a file of 5 MiB.
func sparseFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(5 << 20); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{1 << 20, 3 << 20} {
		if _, err := f.WriteAt(bytes.Repeat([]byte{1}, 128<<10), off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestAllocated(t *testing.T) {
	f := sparseFile(t)
	written := Ranges{{1 << 20, 128 << 10}, {3 << 20, 128 << 10}}
	for _, size := range []int64{5 << 20, 3<<20 + 1000, 1 << 20, 0, 9 << 20} {
		got, err := Allocated(f, size)
		if errors.Is(err, ErrNoHoles) {
			t.Skip("the file system of the temporary directory knows no holes")
		}
		if err != nil {
			t.Fatal(err)
		}
		if missing := written.Clip(size).Subtract(got); !got.Normalized() || len(missing) > 0 {
			t.Errorf("size %d: %v, lacks %v", size, got, missing)
		}
		if over := got.Subtract(written.AlignOut(64<<10, size)); len(over) > 0 {
			t.Errorf("size %d: %v claims data where none was written: %v", size, got, over)
		}
	}
}

func TestAllocatedEmptyFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "holes"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	got, err := Allocated(f, 1<<30)
	if errors.Is(err, ErrNoHoles) {
		t.Skip("the file system of the temporary directory knows no holes")
	}
	if err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAllocatedRefusesDevices(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Allocated(f, 4096); !errors.Is(err, ErrNoHoles) {
		t.Errorf("got %v", err)
	}
}

func TestBoundJoinsOnlyLongLists(t *testing.T) {
	long := make(Ranges, 2*MaxRanges)
	for i := range long {
		long[i] = Range{int64(i) * 100, 1 + int64(i)%50}
	}
	if got := long[:len(long)-1].bound(); len(got) != len(long)-1 {
		t.Errorf("a list of %d was cut to %d", len(long)-1, len(got))
	}
	got := long.bound()
	if len(got) != MaxRanges || got[0].Offset != 0 || got[len(got)-1].End() != long[len(long)-1].End() {
		t.Errorf("a list of %d became one of %d", len(long), len(got))
	}
}
