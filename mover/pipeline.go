// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
)

// pipeline moves ranges and compares holes; see the package comment for its shape.
func (b *backup) pipeline(ctx context.Context, ranges, holes blockdiff.Ranges, out *imagemap.Writer) error {
	g, ctx := errgroup.WithContext(ctx)
	todo := make(chan *slab, b.plan.slabs)    // to the slab workers
	ordered := make(chan *slab, b.plan.slabs) // the same slabs to the stitcher
	b.work = make(chan *chunkJob, b.plan.chunkBufs)
	b.events = make(chan event, 4*b.plan.slabs)

	g.Go(func() error {
		defer close(todo)
		defer close(ordered)
		return b.feed(ctx, ranges, holes, todo, ordered)
	})
	for range b.plan.readers {
		g.Go(func() error { return b.slabLoop(ctx, todo) })
	}
	g.Go(func() error {
		defer close(b.work)
		defer close(b.events)
		return b.stitchLoop(ctx, ordered)
	})
	for range b.plan.workers {
		g.Go(func() error { return b.chunkLoop(ctx) })
	}
	g.Go(func() error {
		c := collector{b: b, out: out}
		for e := range b.events {
			if err := c.event(ctx, e); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	err := g.Wait()
	if err != nil { // buffers still queued go home
		for s := range ordered {
			_ = s.buf.Release()
		}
		for j := range b.work {
			_ = j.hold.Release()
		}
	}
	return err
}

// feed takes a buffer for each task, in order, so that the slab which the
// stitcher waits for always has one.
func (b *backup) feed(ctx context.Context, ranges, holes blockdiff.Ranges, todo, ordered chan<- *slab) error {
	return tasks(ranges, holes, int64(b.plan.slabBytes), func(t task) error {
		buf, err := b.slabBufs.Get(ctx)
		if err != nil {
			return err
		}
		s := &slab{task: t, buf: buf, done: make(chan struct{})}
		select {
		case ordered <- s:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), buf.Release())
		}
		select {
		case todo <- s:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	})
}

func (b *backup) slabLoop(ctx context.Context, todo <-chan *slab) error {
	w := &slabWorker{b: b, scanner: b.cutParams.NewScanner()}
	if b.mode != modeFull {
		w.compare = newComparer(b.repo, b.base)
	}
	for s := range todo {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.work(ctx, s); err != nil {
			return err
		}
		b.changed.Add(s.changed)
		b.moved.Add(s.moved)
		close(s.done)
	}
	return nil
}

func (b *backup) stitchLoop(ctx context.Context, ordered <-chan *slab) error {
	st := newStitcher(b)
	defer st.release()
	for s := range ordered {
		select {
		case <-s.done:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.buf.Release())
		}
		err := st.slab(ctx, s)
		if err = errors.Join(err, s.buf.Release()); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return st.finish(ctx)
}

// send passes a chunk to the workers and announces it to the collector.
func (b *backup) send(ctx context.Context, j *chunkJob) error {
	j.done = make(chan struct{})
	select {
	case b.work <- j:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), j.hold.Release())
	}
	return b.collect(ctx, event{job: j})
}

func (b *backup) collect(ctx context.Context, e event) error {
	select {
	case b.events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *backup) chunkLoop(ctx context.Context) error {
	var origin []chunk.Piece
	for j := range b.work {
		var err error
		origin, err = b.store(ctx, j, origin)
		if err = errors.Join(err, j.hold.Release()); err != nil {
			return err
		}
		j.plain = nil
		close(j.done)
	}
	return nil
}
