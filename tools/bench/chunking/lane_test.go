// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMeasureCountsCopiesOnce puts one stretch of random data twice in an image, 2 MiB of holes apart, so every way of
// cutting begins it anew and finds half of it unique; shifted by less than a fixed block, the fixed ones find nothing.
func TestMeasureCountsCopiesOnce(t *testing.T) {
	const mib = 1 << 20
	data := make([]byte, 2*mib)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	for _, c := range []struct {
		name        string
		second      int64
		fixedUnique int64
	}{
		{"aligned", 8 * mib, 2 * mib},
		{"shifted", 8*mib + pageSize, 4 * mib},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, off := range []int64{mib, c.second} {
				if _, err := f.WriteAt(data, off); err != nil {
					t.Fatal(err)
				}
			}
			lanes := newLanes()
			if err := measure(context.Background(), path, lanes); err != nil {
				t.Fatal(err)
			}
			for _, l := range lanes {
				unique := int64(2 * mib)
				if l.fixed > 0 {
					unique = c.fixedUnique
				}
				if l.data != 4*mib || l.unique != unique {
					t.Errorf("%s: %d of %d bytes are unique", l.name, l.unique, l.data)
				}
			}
			var table strings.Builder
			printTable(&table, []step{snapshot("image", lanes)})
			if n := strings.Count(table.String(), "\n"); n != len(lanes)+2 {
				t.Errorf("%d lines for %d ways:\n%s", n, len(lanes), table.String())
			}
		})
	}
}

// TestCloneRewritesFewPages: a clone has as much data as its origin and shares chunks with it, but not all.
func TestCloneRewritesFewPages(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	if _, err := f.WriteAt(data, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(16 << 20); err != nil {
		t.Fatal(err)
	}
	if err := cloneImage(from, to); err != nil {
		t.Fatal(err)
	}
	lanes := newLanes()
	for _, path := range []string{from, to} {
		if err := measure(context.Background(), path, lanes); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range lanes {
		if l.data != 16<<20 || l.unique <= 8<<20 {
			t.Errorf("%s: %d of %d bytes are unique", l.name, l.unique, l.data)
		}
		if l.fixed == 64<<10 && l.unique > 11<<20 {
			t.Errorf("%s: %d bytes of the clone are new", l.name, l.unique-8<<20)
		}
	}
}
