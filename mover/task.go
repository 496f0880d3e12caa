// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"github.com/tidemark-io/tidemark/blockdiff"
)

// task is one slab's worth of a backup: ranges to read, in ascending order.
// Everything from one task's end to the next one's beginning is either
// unchanged or, where the source is known to have a hole there, zeros.
type task struct {
	ranges []blockdiff.Range // to read; at most slabBytes in all
	holes  []blockdiff.Range // known zeros of the source, to compare with the base
	end    int64             // the backup's position once the task is done
}

// Scattered ranges make small tasks, so that several readers keep the device's
// queue full.
const (
	maxTaskRanges = 256
	maxTaskHole   = 1 << 30 // bytes of holes in one task
	scatteredTask = 1 << 20
	longRun       = 1 << 20 // a run from this length on is cut by content
)

// tasks divides ranges and holes, each ascending and disjoint, into tasks.
// fn is called in order; its error ends the walk.
func tasks(ranges, holes blockdiff.Ranges, slabBytes int64, fn func(task) error) error {
	b := taskBuilder{limit: slabBytes, fn: fn}
	for len(ranges) > 0 || len(holes) > 0 {
		if len(ranges) == 0 || len(holes) > 0 && holes[0].Offset < ranges[0].Offset {
			if err := b.hole(holes[0]); err != nil {
				return err
			}
			holes = holes[1:]
			continue
		}
		if err := b.add(ranges[0]); err != nil {
			return err
		}
		ranges = ranges[1:]
	}
	return b.flush()
}

type taskBuilder struct {
	limit int64
	fn    func(task) error
	t     task
	bytes int64
	empty int64 // bytes of holes
}

func (b *taskBuilder) flush() error {
	if len(b.t.ranges)+len(b.t.holes) == 0 {
		return nil
	}
	t := b.t
	b.t, b.bytes, b.empty = task{}, 0, 0
	return b.fn(t)
}

// hole takes a hole in, cut so that what may be found in a task's holes is bounded.
func (b *taskBuilder) hole(h blockdiff.Range) error {
	for h.Length > 0 {
		n := min(h.Length, maxTaskHole-b.empty)
		b.t.holes = append(b.t.holes, blockdiff.Range{Offset: h.Offset, Length: n})
		b.t.end = h.Offset + n
		b.empty += n
		h.Offset, h.Length = h.Offset+n, h.Length-n
		if b.empty == maxTaskHole || len(b.t.holes) >= maxTaskRanges {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// add takes a range in, cut at multiples of the slab size so that slabs of a
// full backup are whole windows of the volume.
func (b *taskBuilder) add(r blockdiff.Range) error {
	for r.Length > 0 {
		// A slab holds ranges at page-aligned places, so count whole pages.
		n := min(r.Length, b.limit-r.Offset%b.limit, b.limit-b.bytes)
		piece := blockdiff.Range{Offset: r.Offset, Length: n}
		b.t.ranges = append(b.t.ranges, piece)
		b.t.end = piece.End()
		b.bytes += pageUp(n)
		r.Offset, r.Length = r.Offset+n, r.Length-n
		scattered := b.bytes/int64(len(b.t.ranges)) < longRun/4
		full := b.bytes >= b.limit || len(b.t.ranges) >= maxTaskRanges || scattered && b.bytes >= scatteredTask
		if full {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

const pageSize = 4096

func pageUp(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }
