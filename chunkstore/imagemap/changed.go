// SPDX-License-Identifier: Apache-2.0

package imagemap

import "context"

// spanner yields ascending ranges: span returns the first that ends behind pos,
// maxOffset twice at the end. pos must not fall from call to call.
type spanner interface {
	span(ctx context.Context, pos int64) (lo, hi int64, err error)
}

// union emits [from, to) where any of the sources has a range: ascending,
// disjoint, not adjacent.
func union(ctx context.Context, sources []spanner, from, to int64, emit func(off, n int64) error) error {
	for pos := from; pos < to; {
		lo, hi := int64(maxOffset), int64(maxOffset)
		for _, s := range sources {
			l, h, err := s.span(ctx, pos)
			if err != nil {
				return err
			}
			if l = max(l, pos); l < lo {
				lo, hi = l, h
			}
		}
		if lo >= to {
			return nil
		}
		hi, err := stretch(ctx, sources, hi, to)
		if err != nil {
			return err
		}
		hi = min(hi, to)
		if err := emit(lo, hi-lo); err != nil {
			return err
		}
		pos = hi
	}
	return nil
}

// stretch moves hi on for as long as some source goes on at or before it.
func stretch(ctx context.Context, sources []spanner, hi, to int64) (int64, error) {
	for grew := true; grew && hi < to; {
		grew = false
		for _, s := range sources {
			l, h, err := s.span(ctx, hi)
			if err != nil {
				return hi, err
			}
			if l <= hi && h > hi {
				hi, grew = h, true
				if hi >= to {
					break
				}
			}
		}
	}
	return hi, nil
}

// ChangedSince emits the ranges of m whose content, data or zeros, was born
// after the session birth: what a reader that holds the point of that session
// must write to hold m. That point must be an ancestor of m (m was built on it,
// over any number of points) and of the same size, or m must keep I7.
//
// It never misses a change, and where births never fall from layer to layer
// (I3) it names nothing else. If the line began after birth, all of m is emitted.
// Nodes without anything younger are not read.
//
// Since births never fall, a place changed exactly when any layer has something
// younger there; what hides what does not matter.
func ChangedSince(ctx context.Context, src Source, m Map, birth uint64, emit func(off, n int64) error) error {
	if m.Size <= 0 {
		return nil
	}
	if birth < m.Birth {
		return emit(0, m.Size)
	}
	if birth == 1<<64-1 {
		return nil
	}
	var sources []spanner
	for _, ref := range m.layers() {
		sources = append(sources, &cursor{src: src, root: ref, exact: true, since: birth + 1})
	}
	return union(ctx, sources, 0, m.Size, emit)
}
