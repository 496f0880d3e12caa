// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// MaxRanges bounds the lists that are read from outside (I4): 32 MiB of memory, and enough for 1 % of a 1.5 TiB volume in
// scattered 8 KiB pages before neighbours are joined.
const MaxRanges = 2 << 20

// Range is the bytes [Offset, Offset+Length) of a volume.
type Range struct {
	Offset, Length int64
}

// End returns the offset after the last byte.
func (r Range) End() int64 { return r.Offset + r.Length }

// Ranges is a set of bytes of a volume; see I1 for its order.
type Ranges []Range

// appendRange adds r, which begins at or after the last range's beginning, and joins what touches.
func (rs Ranges) appendRange(r Range) Ranges {
	if r.Length <= 0 {
		return rs
	}
	if n := len(rs); n > 0 && r.Offset <= rs[n-1].End() {
		rs[n-1].Length = max(rs[n-1].End(), r.End()) - rs[n-1].Offset
		return rs
	}
	return append(rs, r)
}

// Normalize returns the set of bytes that the ranges, in any order and overlapping at will, cover. What lies below
// offset zero or above the largest int64 is cut off. The argument is left as it was.
func Normalize(unsorted Ranges) Ranges {
	sorted := make(Ranges, 0, len(unsorted))
	for _, r := range unsorted {
		if r.Length <= 0 {
			continue
		}
		if r.Offset < 0 {
			r = Range{0, r.Length + r.Offset}
		}
		r.Length = min(r.Length, math.MaxInt64-r.Offset)
		if r.Length > 0 {
			sorted = append(sorted, r)
		}
	}
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.Offset, b.Offset) })
	out := sorted[:0]
	for _, r := range sorted {
		out = out.appendRange(r)
	}
	return out
}

// Normalized reports whether the list satisfies I1 and lies within [0, MaxInt64).
func (rs Ranges) Normalized() bool {
	end := int64(-1)
	for _, r := range rs {
		if r.Length <= 0 || r.Offset <= end || r.Offset > math.MaxInt64-r.Length {
			return false
		}
		end = r.End()
	}
	return true
}

// Total returns the number of bytes.
func (rs Ranges) Total() int64 {
	var n int64
	for _, r := range rs {
		n += r.Length
	}
	return n
}

// Union returns the bytes in either.
func (rs Ranges) Union(other Ranges) Ranges {
	out := make(Ranges, 0, len(rs)+len(other))
	for len(rs) > 0 && len(other) > 0 {
		if rs[0].Offset <= other[0].Offset {
			out, rs = out.appendRange(rs[0]), rs[1:]
		} else {
			out, other = out.appendRange(other[0]), other[1:]
		}
	}
	for _, r := range rs {
		out = out.appendRange(r)
	}
	for _, r := range other {
		out = out.appendRange(r)
	}
	return out
}

// Intersect returns the bytes in both.
func (rs Ranges) Intersect(other Ranges) Ranges {
	var out Ranges
	for len(rs) > 0 && len(other) > 0 {
		from := max(rs[0].Offset, other[0].Offset)
		to := min(rs[0].End(), other[0].End())
		out = out.appendRange(Range{from, to - from})
		if rs[0].End() <= other[0].End() {
			rs = rs[1:]
		} else {
			other = other[1:]
		}
	}
	return out
}

// Subtract returns the bytes that other does not have.
func (rs Ranges) Subtract(other Ranges) Ranges {
	var out Ranges
	for _, r := range rs {
		from := r.Offset
		for len(other) > 0 && other[0].End() <= from {
			other = other[1:]
		}
		// A range of other may reach into the next range of rs, so it is only skipped once it ends before.
		for _, o := range other {
			if o.Offset >= r.End() {
				break
			}
			out = out.appendRange(Range{from, o.Offset - from})
			from = o.End()
		}
		out = out.appendRange(Range{from, r.End() - from})
	}
	return out
}

// Clip returns the bytes below size.
func (rs Ranges) Clip(size int64) Ranges { return rs.Intersect(Ranges{{0, size}}) }

// Complement returns the bytes below size that are not in the set.
func (rs Ranges) Complement(size int64) Ranges { return Ranges{{0, size}}.Subtract(rs) }

// AlignOut widens every range to whole units and clips the result to size, so the last range may end at an odd size.
// A unit below 2 changes nothing but the clip.
func (rs Ranges) AlignOut(unit, size int64) Ranges {
	var out Ranges
	for _, r := range rs {
		if r.Offset >= size {
			break
		}
		from, to := r.Offset, min(r.End(), size)
		if unit > 1 {
			from -= from % unit
			if rest := to % unit; rest != 0 {
				to += min(unit-rest, size-to)
			}
		}
		out = out.appendRange(Range{from, to - from})
	}
	return out
}

// search returns the index of the first range that ends after off.
func (rs Ranges) search(off int64) int {
	return sort.Search(len(rs), func(i int) bool { return rs[i].End() > off })
}

// Contains reports whether every byte of r is in the set; an empty r always is. The set must be normalized.
func (rs Ranges) Contains(r Range) bool {
	if r.Length <= 0 {
		return true
	}
	i := rs.search(r.Offset)
	return i < len(rs) && rs[i].Offset <= r.Offset && r.End() <= rs[i].End()
}

// Overlaps reports whether any byte of r is in the set.
func (rs Ranges) Overlaps(r Range) bool {
	if r.Length <= 0 {
		return false
	}
	i := rs.search(r.Offset)
	return i < len(rs) && rs[i].Offset < r.End()
}

// Coalesce joins neighbours across the smallest gaps until at most maxCount ranges (at least one) are left. Of
// equal gaps the first go first, so the result is a function of the argument. The set must be normalized.
func (rs Ranges) Coalesce(maxCount int) Ranges {
	maxCount = max(maxCount, 1)
	excess := len(rs) - maxCount
	if excess <= 0 {
		return slices.Clone(rs)
	}
	gaps := make([]int64, len(rs)-1)
	for i := range gaps {
		gaps[i] = rs[i+1].Offset - rs[i].End()
	}
	slices.Sort(gaps)
	widest := gaps[excess-1]
	below, _ := slices.BinarySearch(gaps, widest)
	atWidest := excess - below
	out := make(Ranges, 0, maxCount)
	out = append(out, rs[0])
	for _, r := range rs[1:] {
		last := &out[len(out)-1]
		gap := r.Offset - last.End()
		if gap == widest {
			atWidest--
		}
		if gap < widest || gap == widest && atWidest >= 0 {
			last.Length = r.End() - last.Offset
			continue
		}
		out = append(out, r)
	}
	return out
}

// Cut calls fn for the ranges in order, each cut at the multiples of unit. An
// error of fn ends the walk and is returned.
func (rs Ranges) Cut(unit int64, fn func(Range) error) error {
	for _, r := range rs {
		for r.Length > 0 {
			n := min(r.Length, unit-r.Offset%unit)
			if err := fn(Range{Offset: r.Offset, Length: n}); err != nil {
				return err
			}
			r.Offset, r.Length = r.Offset+n, r.Length-n
		}
	}
	return nil
}
