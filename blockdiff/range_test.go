// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// world is the size of the volumes that the bitmap model holds.
const world = 96

type bitmap [world]bool

func model(rs Ranges) bitmap {
	var m bitmap
	for _, r := range rs {
		for off := max(r.Offset, 0); off < min(r.End(), world); off++ {
			m[off] = true
		}
	}
	return m
}

func (m bitmap) ranges() Ranges {
	var out Ranges
	for off := range int64(world) {
		if m[off] {
			out = out.appendRange(Range{off, 1})
		}
	}
	return out
}

func combine(a, b bitmap, keep func(a, b bool) bool) bitmap {
	var out bitmap
	for i := range out {
		out[i] = keep(a[i], b[i])
	}
	return out
}

func drawUnsorted(t *rapid.T, label string) Ranges {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Range {
		off := rapid.Int64Range(-5, world-1).Draw(t, "offset")
		return Range{off, rapid.Int64Range(-2, min(world-off, 30)).Draw(t, "length")}
	}), 0, 12).Draw(t, label)
}

// drawSet draws a list as operations accept it: ascending and disjoint, with adjacent ranges in it.
func drawSet(t *rapid.T, label string) Ranges {
	var out Ranges
	off := int64(0)
	for _, step := range rapid.SliceOfN(rapid.Int64Range(0, 12), 0, 16).Draw(t, label) {
		gap, length := step%4, step/4+1
		if off += gap; off+length > world {
			break
		}
		out = append(out, Range{off, length})
		off += length
	}
	return out
}

func expect(t *rapid.T, what string, got Ranges, want bitmap) {
	t.Helper()
	if !got.Normalized() {
		t.Fatalf("%s is not normalized: %v", what, got)
	}
	if diff := cmp.Diff(want.ranges(), got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s: model (-) and result (+):\n%s", what, diff)
	}
}

// TestAlgebra compares every operation with the same one on bitmaps (I1, I2).
func TestAlgebra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSet(t, "a"), drawSet(t, "b")
		ma, mb := model(a), model(b)
		keepA, keepB := slices.Clone(a), slices.Clone(b)
		expect(t, "union", a.Union(b), combine(ma, mb, func(a, b bool) bool { return a || b }))
		expect(t, "intersection", a.Intersect(b), combine(ma, mb, func(a, b bool) bool { return a && b }))
		expect(t, "difference", a.Subtract(b), combine(ma, mb, func(a, b bool) bool { return a && !b }))
		expect(t, "complement", a.Complement(world), combine(ma, mb, func(a, _ bool) bool { return !a }))
		size := rapid.Int64Range(0, world).Draw(t, "size")
		expect(t, "clip", a.Clip(size), combine(ma, model(Ranges{{0, size}}), func(a, in bool) bool { return a && in }))
		expect(t, "complement within size", a.Complement(size), combine(ma, model(Ranges{{0, size}}), func(a, in bool) bool { return !a && in }))
		var total int64
		for _, in := range ma {
			if in {
				total++
			}
		}
		if a.Total() != total {
			t.Fatalf("total is %d, not %d", a.Total(), total)
		}
		if !slices.Equal(a, keepA) || !slices.Equal(b, keepB) {
			t.Fatal("an operation changed its arguments")
		}
	})
}

func TestNormalize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unsorted := drawUnsorted(t, "ranges")
		expect(t, "normalized", Normalize(unsorted), model(unsorted))
	})
	huge := Normalize(Ranges{{math.MaxInt64 - 10, math.MaxInt64}, {math.MaxInt64, 5}, {-4, 4}, {math.MinInt64, 7}})
	if diff := cmp.Diff(Ranges{{math.MaxInt64 - 10, 10}}, huge); diff != "" {
		t.Errorf("at the ends of int64: want (-), got (+):\n%s", diff)
	}
}

func TestAlignOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawSet(t, "a")
		unit := rapid.Int64Range(0, 20).Draw(t, "unit")
		size := rapid.Int64Range(0, world).Draw(t, "size")
		var want bitmap
		for off, in := range model(a.Clip(size)) {
			if !in {
				continue
			}
			from := int64(off) / max(unit, 1) * max(unit, 1)
			for i := from; i < min(from+max(unit, 1), size); i++ {
				want[i] = true
			}
		}
		expect(t, "aligned", a.AlignOut(unit, size), want)
	})
}

func TestContainsAndOverlaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Normalize(drawUnsorted(t, "a"))
		off := rapid.Int64Range(0, world-1).Draw(t, "offset")
		r := Range{off, rapid.Int64Range(0, world-off).Draw(t, "length")}
		m := model(a)
		all, some := true, false
		for i := r.Offset; i < r.End(); i++ {
			all, some = all && m[i], some || m[i]
		}
		if a.Contains(r) != all || a.Overlaps(r) != some {
			t.Fatalf("%v in %v: contained %v, overlapping %v", r, a, a.Contains(r), a.Overlaps(r))
		}
	})
}

// TestCoalesce checks the count, and that no set of gaps of that number is smaller in total.
func TestCoalesce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Normalize(drawSet(t, "a"))
		count := rapid.IntRange(0, 8).Draw(t, "count")
		got := a.Coalesce(count)
		if !got.Normalized() || len(got) != min(max(count, 1), len(a)) {
			t.Fatalf("%v coalesced to %v", a, got)
		}
		if missing := a.Subtract(got); len(missing) > 0 {
			t.Fatalf("lost %v", missing)
		}
		filled, widest := got.Subtract(a), int64(0)
		for _, r := range filled {
			widest = max(widest, r.Length)
		}
		for i := 1; i < len(got); i++ {
			if gap := got[i].Offset - got[i-1].End(); gap < widest {
				t.Fatalf("a gap of %d was left and one of %d filled", gap, widest)
			}
		}
	})
}

func BenchmarkUnion(b *testing.B) {
	one, other := make(Ranges, 1<<20), make(Ranges, 1<<20)
	for i := range one {
		one[i], other[i] = Range{int64(i) * 16384, 4096}, Range{int64(i)*16384 + 8192, 4096}
	}
	b.ReportAllocs()
	for b.Loop() {
		one.Union(other)
	}
}
