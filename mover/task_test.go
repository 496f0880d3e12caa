// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/blockdiff"
)

// drawParts draws ascending, disjoint ranges and says of each whether it is a hole.
func drawParts(t *rapid.T, unit int64) (ranges, holes blockdiff.Ranges, size int64) {
	at := int64(0)
	for range rapid.IntRange(0, 400).Draw(t, "parts") {
		at += unit * rapid.Int64Range(0, 20).Draw(t, "gap")
		r := blockdiff.Range{Offset: at, Length: unit * rapid.OneOf(rapid.Int64Range(1, 4), rapid.Int64Range(1, 3000)).Draw(t, "length")}
		at = r.End()
		if rapid.IntRange(0, 4).Draw(t, "hole") == 0 {
			holes = append(holes, r)
		} else {
			ranges = append(ranges, r)
		}
	}
	return ranges, holes, at
}

func TestTasksCoverTheirInputInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]int64{pageSize, pageSize, 512, 1}).Draw(t, "unit")
		ranges, holes, _ := drawParts(t, unit)
		limit := pageSize * rapid.Int64Range(1, 2048).Draw(t, "slab")
		var gotRanges, gotHoles blockdiff.Ranges
		end, count := int64(0), 0
		err := tasks(ranges, holes, limit, func(k task) error {
			count++
			first := end
			for _, r := range k.ranges {
				if r.Offset/limit != (r.End()-1)/limit {
					t.Fatalf("piece %v crosses a multiple of the slab size %d", r, limit)
				}
				gotRanges = append(gotRanges, r)
			}
			gotHoles = append(gotHoles, k.holes...)
			bytes := int64(0)
			for _, r := range k.ranges {
				bytes += pageUp(r.Length)
			}
			if bytes > limit || len(k.ranges) > maxTaskRanges || len(k.holes) > maxTaskRanges {
				t.Fatalf("a task of %d bytes, %d ranges and %d holes", bytes, len(k.ranges), len(k.holes))
			}
			last := int64(0)
			for _, r := range append(append(blockdiff.Ranges{}, k.ranges...), k.holes...) {
				if r.Offset < first {
					t.Fatalf("%v lies before the end %d of the task before", r, first)
				}
				last = max(last, r.End())
			}
			if k.end != last {
				t.Fatalf("a task that ends at %d says %d", last, k.end)
			}
			end = k.end
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// Pieces of one range lie side by side; nothing else was changed.
		if diff := cmp.Diff(glue(ranges), glue(gotRanges)); diff != "" {
			t.Fatalf("ranges differ:\n%s", diff)
		}
		if diff := cmp.Diff(holes, gotHoles); diff != "" {
			t.Fatalf("holes differ:\n%s", diff)
		}
		if count == 0 && len(ranges)+len(holes) > 0 {
			t.Fatal("no task at all")
		}
	})
}

// glue joins neighbours, for tasks are free to cut.
func glue(rs blockdiff.Ranges) blockdiff.Ranges {
	var out blockdiff.Ranges
	for _, r := range rs {
		if n := len(out); n > 0 && out[n-1].End() == r.Offset {
			out[n-1].Length += r.Length
			continue
		}
		out = append(out, r)
	}
	return out
}

// Scattered pages keep several readers busy; whole volumes are read in whole slabs.
func TestTaskSizes(t *testing.T) {
	count := func(ranges blockdiff.Ranges, slab int64) (n int) {
		err := tasks(ranges, nil, slab, func(task) error { n++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(blockdiff.Ranges{{Offset: 0, Length: 64 << 20}}, 8<<20); n != 8 {
		t.Errorf("64 MiB in slabs of 8 MiB make %d tasks", n)
	}
	var pages blockdiff.Ranges
	for i := range int64(1000) {
		pages = append(pages, blockdiff.Range{Offset: i << 20, Length: 8 << 10})
	}
	if n := count(pages, 8<<20); n != 8 { // 8 MB of scattered pages, about 1 MiB each
		t.Errorf("1000 scattered pages make %d tasks", n)
	}
}
