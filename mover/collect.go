// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"cmp"
	"context"
	"slices"

	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
)

// collector turns stored chunks into extents, in volume order, for the journal
// and the new run of the map.
type collector struct {
	b       *backup
	out     *imagemap.Writer
	pending []imagemap.Extent // at or above the last mark, unsorted
}

// event takes the next event. Chunks of the two lanes and holes come in the
// order in which they were completed, so extents wait for the mark that says
// nothing below it will come.
func (c *collector) event(ctx context.Context, e event) error {
	if e.job != nil {
		select {
		case <-e.job.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		c.take(e.job)
		return nil
	}
	for _, h := range e.holes {
		c.pending = append(c.pending, imagemap.Extent{Off: h.Offset, Len: h.Length, Hole: true, Birth: c.b.session.Number()})
	}
	c.b.lost = append(c.b.lost, e.lost...)
	if err := c.b.journal.lost(e.lost); err != nil {
		return err
	}
	return c.emit(ctx, e.mark)
}

func (c *collector) take(j *chunkJob) {
	at := uint32(0)
	for _, p := range j.pieces {
		birth := c.b.session.Number()
		if p.birth != 0 {
			birth = p.birth - 1
		}
		c.pending = append(c.pending, imagemap.Extent{Off: p.off, Len: p.n, Chunk: j.id, ChunkOff: at, Birth: birth})
		at += uint32(p.n)
	}
}

// emit passes on every extent that begins below mark.
func (c *collector) emit(ctx context.Context, mark int64) error {
	slices.SortFunc(c.pending, func(a, b imagemap.Extent) int { return cmp.Compare(a.Off, b.Off) })
	n, _ := slices.BinarySearchFunc(c.pending, mark, func(e imagemap.Extent, m int64) int { return cmp.Compare(e.Off, m) })
	ready := c.pending[:n]
	for i := range ready {
		if err := c.out.Add(ctx, ready[i]); err != nil {
			return err
		}
	}
	if err := c.b.journal.extents(ready, mark); err != nil {
		return err
	}
	c.b.progress.done.Store(mark)
	c.pending = append(c.pending[:0], c.pending[n:]...)
	return nil
}
