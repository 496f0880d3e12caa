// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"errors"
	"fmt"
)

// geometry is where trees are cut. It is a part of the format for bases: trees
// share nodes only if all writers cut alike.
type geometry struct {
	window     int64 // a base leaf covers at most one
	groupShift uint8 // log2 of how many windows or groups a base's inner node covers
	fanout     int   // most children of an inner node
	baseLeaf   int   // bytes at which a base leaf is cut inside a window: a guard for hostile data
	runLeaf    int   // bytes at which a run's leaf is cut
	leafMax    uint64
}

var standard = geometry{
	window: 64 << 20, groupShift: 7, fanout: MaxFanout,
	baseLeaf: 768 << 10, runLeaf: 64 << 10, leafMax: MaxExtents,
}

// slot returns the aligned range that the base node of a height around off may
// span.
func (g *geometry) slot(height uint8, off int64) (lo, hi int64) {
	span := g.window
	for range height {
		if span > maxOffset>>g.groupShift {
			return 0, maxOffset
		}
		span <<= g.groupShift
	}
	lo = off / span * span
	if lo > maxOffset-span {
		return lo, maxOffset
	}
	return lo, lo + span
}

// Writer makes one tree from ascending extents. Its memory does not depend on
// their number. Not for concurrent use; after an error it is of no more use.
type Writer struct {
	sink   Sink
	base   bool
	geo    geometry
	held   Extent // waits for one that joins it
	holds  bool
	end    int64 // of all that was added
	leaf   leafWriter
	levels []innerWriter // of heights 1…
	err    error
}

var errClosed = errors.New("image map writer is closed")

// NewWriter begins a tree: a base, cut at fixed windows, or a run.
func NewWriter(sink Sink, base bool) *Writer {
	return newWriter(sink, base, standard)
}

func newWriter(sink Sink, base bool, geo geometry) *Writer {
	return &Writer{sink: sink, base: base, geo: geo}
}

// Add appends an extent, which must begin at or behind the end of the last one.
// Extents that join each other become one.
func (w *Writer) Add(ctx context.Context, e Extent) error {
	if w.err != nil {
		return w.err
	}
	if err := e.check(); err != nil {
		return w.fail(err)
	}
	if e.Off < w.end {
		return w.fail(fmt.Errorf("extent at %d begins before %d, the end of the last", e.Off, w.end))
	}
	w.end = e.End()
	if w.holds && w.held.joins(&e) {
		w.held.Len += e.Len
		return nil
	}
	err := w.release(ctx)
	w.held, w.holds = e, true
	return w.fail(err)
}

// Close writes what is pending and returns the tree.
func (w *Writer) Close(ctx context.Context) (Ref, error) {
	if w.err != nil {
		return Ref{}, w.err
	}
	root, err := w.finish(ctx)
	if err != nil {
		return Ref{}, w.fail(err)
	}
	w.err = errClosed
	return Ref{Root: root.id, Height: root.height, Extents: root.extents, Bytes: root.bytes, Stored: root.stored}, nil
}

func (w *Writer) fail(err error) error {
	if err != nil {
		w.err = err
	}
	return err
}

// release encodes the extent that is held, in a base cut at windows.
func (w *Writer) release(ctx context.Context) error {
	if !w.holds {
		return nil
	}
	w.holds = false
	if !w.base {
		return w.put(ctx, &w.held)
	}
	for rest := w.held; rest.Len > 0; {
		_, hi := w.geo.slot(0, rest.Off)
		e := rest
		if e.End() > hi {
			e.clip(e.Off, hi)
		}
		if err := w.put(ctx, &e); err != nil {
			return err
		}
		if e.End() == rest.End() {
			break
		}
		rest.clip(e.End(), maxOffset)
	}
	return nil
}

func (w *Writer) put(ctx context.Context, e *Extent) error {
	limit := w.geo.runLeaf
	if w.base {
		limit = w.geo.baseLeaf
	}
	if n := &w.leaf.node; n.extents > 0 {
		lo, _ := w.geo.slot(0, e.Off)
		if w.base && n.first < lo || w.leaf.size() >= limit || n.extents >= w.geo.leafMax {
			if err := w.flushLeaf(ctx); err != nil {
				return err
			}
		}
	}
	w.leaf.add(e)
	return nil
}

func (w *Writer) flushLeaf(ctx context.Context) error {
	if w.leaf.node.extents == 0 {
		return nil
	}
	n, err := w.leaf.finish(ctx, w.sink)
	if err != nil {
		return err
	}
	return w.child(ctx, n)
}

// child hands a stored node to the level above.
func (w *Writer) child(ctx context.Context, n node) error {
	height := n.height + 1
	if len(w.levels) < int(height) {
		w.levels = append(w.levels, innerWriter{})
	}
	level := &w.levels[height-1]
	lo := int64(0)
	if w.base {
		lo, _ = w.geo.slot(height, n.first)
	}
	if level.count > 0 && (level.count >= w.geo.fanout || level.group != lo) {
		if err := w.flushInner(ctx, height); err != nil {
			return err
		}
		level = &w.levels[height-1] // the flush may have grown the slice
	}
	level.group = lo
	level.add(n)
	return nil
}

func (w *Writer) flushInner(ctx context.Context, height uint8) error {
	if height > MaxHeight {
		return fmt.Errorf("image map higher than %d levels", MaxHeight)
	}
	level := &w.levels[height-1]
	if level.count == 0 {
		return nil
	}
	n, err := level.finish(ctx, w.sink)
	if err != nil {
		return err
	}
	return w.child(ctx, n)
}

// adopt takes over a stored base node that lies behind everything added, and
// all below it, as it is. Nothing that is added before or behind may fall into
// its slot.
func (w *Writer) adopt(ctx context.Context, n node) error {
	if n.first < w.end {
		return fmt.Errorf("node at %d begins before %d, the end of the last extent", n.first, w.end)
	}
	if err := w.settle(ctx, n.height); err != nil {
		return err
	}
	w.end = n.end
	n.root = false
	for len(w.levels) < int(n.height) {
		w.levels = append(w.levels, innerWriter{})
	}
	return w.child(ctx, n)
}

// settle writes everything pending in nodes of at most this height.
func (w *Writer) settle(ctx context.Context, height uint8) error {
	if err := w.release(ctx); err != nil {
		return err
	}
	if err := w.flushLeaf(ctx); err != nil {
		return err
	}
	for h := 1; h <= int(height) && h <= len(w.levels); h++ {
		if err := w.flushInner(ctx, uint8(h)); err != nil {
			return err
		}
	}
	return nil
}

// finish closes level by level until one node is left alone: the root.
func (w *Writer) finish(ctx context.Context) (node, error) {
	if err := w.settle(ctx, 0); err != nil {
		return node{}, err
	}
	for h := 1; h <= len(w.levels); h++ {
		level := &w.levels[h-1]
		if level.count == 1 && w.emptyAbove(h) {
			return level.only, nil
		}
		if err := w.flushInner(ctx, uint8(h)); err != nil {
			return node{}, err
		}
	}
	return node{}, nil
}

func (w *Writer) emptyAbove(height int) bool {
	for i := height; i < len(w.levels); i++ {
		if w.levels[i].count > 0 {
			return false
		}
	}
	return true
}
