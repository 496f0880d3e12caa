// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
)

// delta compares the target with the point and writes what differs. It keeps no
// journal: a killed one compares again.
func (r *restore) delta(ctx context.Context, t *blockio.Target) (err error) {
	c, err := newTargetCompare(r, t, whole(r.point.Size))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	h, err := newHaul(ctx, r.repo, r.point, r.plan, &targetSink{t: t, compare: new(pageCompare)}, r.progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	p := newPlanner(r.repo, r.point, r.plan.batchCost)
	p.next, p.zeroes = c.next, true
	r.progress.enter("comparing", r.point.Size)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.run(gctx) })
	g.Go(func() error { return r.haulAll(gctx, p, h) })
	if err := g.Wait(); err != nil {
		return err
	}
	r.fill(h, t)
	return t.Sync(ctx)
}

// maxTaskDiffs bounds the ranges found in one task. Few are joined, for a task's
// bytes are few; a hole may be large, and have been full of small extents.
const maxTaskDiffs = 1 << 12

// targetCompare finds, in volume order, where a target is not what a point says.
type targetCompare struct {
	repo     *chunkstore.Repository
	point    *chunkstore.Point
	src      *blockio.Source
	progress *Progress
	report   *RestoreReport
	bufs     *blockio.Arena
	workers  int
	slab     int64
	ranges   blockdiff.Ranges // to read
	holes    blockdiff.Ranges // known zeros
	rest     blockdiff.Ranges // not compared; taken for different
	ordered  chan *compared
	todo     chan *compared
	ready    blockdiff.Ranges // found, not yet given out
	ended    bool             // all is found
	compared atomic.Int64
}

// compared is a task and what was found in it.
type compared struct {
	task
	buf   *blockio.Buf
	done  chan struct{}
	diffs blockdiff.Ranges
}

// newTargetCompare compares a part of the volume.
func newTargetCompare(r *restore, t *blockio.Target, part blockdiff.Ranges) (*targetCompare, error) {
	c := &targetCompare{
		repo: r.repo, point: r.point, progress: r.progress, report: &r.report, workers: r.plan.slabs, slab: int64(r.plan.slabBytes),
		ranges: part, rest: whole(r.point.Size).Subtract(part), ordered: make(chan *compared, 4*r.plan.slabs), todo: make(chan *compared),
	}
	var err error
	if c.src, err = blockio.OpenSource(t.Path()); err != nil {
		return nil, err
	}
	if !c.src.IsDevice() {
		allocated, err := blockdiff.Allocated(c.src.File(), r.point.Size)
		if err != nil && !errors.Is(err, blockdiff.ErrNoHoles) {
			return nil, errors.Join(fmt.Errorf("find holes of the target: %w", err), c.src.Close())
		}
		if err == nil {
			c.ranges = part.Intersect(allocated.AlignOut(pageSize, r.point.Size))
			c.holes = part.Subtract(c.ranges)
		}
	}
	if c.bufs, err = blockio.NewArena(r.plan.slabBytes, r.plan.slabs); err != nil {
		return nil, errors.Join(err, c.src.Close())
	}
	return c, nil
}

func (c *targetCompare) close() error {
	c.report.ComparedBytes = c.compared.Load()
	return errors.Join(c.src.Close(), c.bufs.Close())
}

func (c *targetCompare) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(c.todo)
		defer close(c.ordered)
		return c.feed(ctx)
	})
	for range c.workers {
		g.Go(func() error {
			w := newComparer(c.repo, c.point)
			for t := range c.todo {
				err := c.compare(ctx, w, t)
				if err = errors.Join(err, t.buf.Release()); err != nil {
					return err
				}
				close(t.done)
			}
			return nil
		})
	}
	return g.Wait()
}

func (c *targetCompare) feed(ctx context.Context) error {
	return tasks(c.ranges, c.holes, c.slab, func(t task) error {
		buf, err := c.bufs.Get(ctx)
		if err != nil {
			return err
		}
		n := &compared{task: t, buf: buf, done: make(chan struct{})}
		for _, to := range []chan *compared{c.ordered, c.todo} {
			select {
			case to <- n:
			case <-ctx.Done():
				return errors.Join(context.Cause(ctx), buf.Release())
			}
		}
		return nil
	})
}

func (c *targetCompare) compare(ctx context.Context, w *comparer, t *compared) error {
	found := roughRanges{limit: maxTaskDiffs}
	free := t.buf.Bytes()
	for _, r := range t.ranges {
		p := free[:r.Length]
		free = free[pageUp(r.Length):]
		err := c.src.ReadAt(ctx, p, r.Offset)
		if bad, ok := errors.AsType[*blockio.ReadError](err); ok { // to be written, then, which may cure them
			for _, l := range bad.Ranges {
				found.add(l.Offset, l.Length)
			}
			err = nil
		}
		if err != nil {
			return fmt.Errorf("read target: %w", err)
		}
		if err := w.compare(ctx, r.Offset, p, found.add); err != nil {
			return damage(err, c.point, blockdiff.Ranges{r})
		}
		c.compared.Add(r.Length)
	}
	for _, h := range t.holes {
		if err := w.holes(ctx, h.Offset, h.Length, found.add); err != nil {
			return damage(err, c.point, blockdiff.Ranges{h})
		}
	}
	t.diffs = found.take()
	all := blockdiff.Ranges(t.ranges).Total() + blockdiff.Ranges(t.holes).Total()
	c.progress.read.Add(all - t.diffs.Total()) // what differs is counted when it is written
	return nil
}

// next gives the planner, in ascending order, what differs and what was not
// compared.
func (c *targetCompare) next(ctx context.Context) (r blockdiff.Range, ok bool, err error) {
	for len(c.ready) == 0 && !c.ended {
		if err := c.await(ctx); err != nil {
			return r, false, err
		}
	}
	from := &c.ready
	if len(c.ready) == 0 || len(c.rest) > 0 && c.rest[0].Offset < c.ready[0].Offset {
		from = &c.rest
	}
	if len(*from) == 0 {
		return r, false, nil
	}
	r, *from = (*from)[0], (*from)[1:]
	return r, true, nil
}

// await takes what was found in the next task.
func (c *targetCompare) await(ctx context.Context) error {
	select {
	case t, ok := <-c.ordered:
		if !ok {
			c.ended = true
			return ctx.Err()
		}
		select {
		case <-t.done:
			c.ready = t.diffs
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pageCompare spares the target writes of pages that are right already: digests
// speak of pieces, of which often one page differs.
type pageCompare struct{ bufs sync.Pool }

// differing calls write for the runs of pages of p that the target, at off, does
// not hold.
func (s *pageCompare) differing(ctx context.Context, t *blockio.Target, p []byte, off int64, write func(p []byte, off int64) error) error {
	buf, ok := s.bufs.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer s.bufs.Put(buf)
	if cap(*buf) < len(p) {
		*buf = make([]byte, len(p))
	}
	have := (*buf)[:len(p)]
	if err := t.ReadAt(ctx, have, off); err != nil {
		return write(p, off) // unreadable; writing tells whether the target is any good
	}
	from := -1
	for at := 0; at < len(p); {
		n := min(len(p)-at, int(pageSize-(off+int64(at))%pageSize))
		same := bytes.Equal(p[at:at+n], have[at:at+n])
		if same && from >= 0 {
			if err := write(p[from:at], off+int64(from)); err != nil {
				return err
			}
			from = -1
		}
		if !same && from < 0 {
			from = at
		}
		at += n
	}
	if from < 0 {
		return nil
	}
	return write(p[from:], off+int64(from))
}
