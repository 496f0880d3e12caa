// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"fmt"
)

// Options choose what an [Iterator] yields.
type Options struct {
	Holes bool // explicit holes, too; gaps are never yielded
}

// Iterator yields the extents of a map, ascending and disjoint: of base and runs
// what is not hidden, cut to the range asked for. Extents that join are one,
// however many nodes they were cut over. It holds one leaf per tree and reads
// only the nodes it needs. Not for concurrent use.
type Iterator struct {
	layers []cursor // newest first
	pos    int64
	to     int64
	holes  bool
	held   Extent
	holds  bool
	err    error
}

// NewIterator iterates over m from offset from to offset to, at most to its size.
func NewIterator(src Source, m Map, from, to int64, opt Options) *Iterator {
	return newOverlay(src, m.layers(), from, min(to, m.Size), opt.Holes)
}

func newOverlay(src Source, refs []Ref, from, to int64, holes bool) *Iterator {
	it := &Iterator{layers: make([]cursor, len(refs)), pos: max(from, 0), to: to, holes: holes}
	for i := range it.layers {
		it.layers[i].src, it.layers[i].root = src, refs[i]
	}
	return it
}

// Next returns the next extent; false at the end. An error sticks.
func (it *Iterator) Next(ctx context.Context) (Extent, bool, error) {
	if !it.holds {
		ok, err := it.piece(ctx, &it.held)
		if !ok || err != nil {
			return Extent{}, false, err
		}
	}
	e := it.held
	for {
		ok, err := it.piece(ctx, &it.held)
		if err != nil {
			return Extent{}, false, err
		}
		if it.holds = ok; !ok || !e.joins(&it.held) {
			return e, true, nil
		}
		e.Len += it.held.Len
	}
}

// SkipTo skips everything before off, without reading it; it never goes back.
func (it *Iterator) SkipTo(off int64) {
	if it.holds && it.held.End() > off {
		if it.held.Off < off {
			it.held.clip(off, maxOffset)
		}
		return
	}
	it.holds = false
	it.pos = max(it.pos, off)
}

// window makes it yield [lo, hi) next, which lies behind all windows before.
func (it *Iterator) window(lo, hi int64) {
	it.pos, it.to, it.holds = lo, hi, false
}

// piece finds the next part of an extent that no newer layer hides. At pos the
// first layer that has an extent wins, up to where a newer one begins. Older
// layers are not moved, so what stays hidden is not read.
func (it *Iterator) piece(ctx context.Context, e *Extent) (bool, error) {
	for it.pos < it.to && it.err == nil {
		limit := it.to
		top := it.top(ctx, &limit)
		if it.err != nil {
			break
		}
		if top == nil {
			it.pos = limit
			continue
		}
		lo, hi := it.pos, min(limit, top.end)
		it.pos = hi
		if top.ext.Hole && !it.holes {
			continue
		}
		*e = top.ext
		e.clip(lo, hi)
		return true, nil
	}
	return false, it.err
}

// top finds the newest layer with an extent at pos and lowers limit to where a
// newer layer begins.
func (it *Iterator) top(ctx context.Context, limit *int64) *cursor {
	pos := it.pos
	for i := range it.layers {
		c := &it.layers[i]
		if c.end <= pos || !c.loaded && c.start <= pos {
			if it.err = c.advance(ctx, pos); it.err != nil {
				return nil
			}
		}
		if c.start <= pos {
			return c
		}
		*limit = min(*limit, c.start)
	}
	return nil
}

// touched reports whether one of the newest n layers has an extent in [lo, hi).
func (it *Iterator) touched(ctx context.Context, n int, lo, hi int64) (bool, error) {
	for i := range n {
		c := &it.layers[i]
		if err := c.advance(ctx, lo); err != nil {
			return false, err
		}
		if c.start < hi {
			return true, nil
		}
	}
	return false, nil
}

// Lookup returns the extents of data in [off, off+n).
func Lookup(ctx context.Context, src Source, m Map, off, n int64) ([]Extent, error) {
	to := int64(maxOffset)
	if off < 0 || n < 0 {
		return nil, fmt.Errorf("look up extents: offset %d, length %d", off, n)
	}
	if n < maxOffset-off {
		to = off + n
	}
	it := NewIterator(src, m, off, to, Options{})
	var found []Extent
	for {
		e, ok, err := it.Next(ctx)
		if !ok || err != nil {
			return found, err
		}
		found = append(found, e)
	}
}
