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

// pipeline is the moving part of one attempt; see the package comment for its shape.
type pipeline struct {
	*backup
	work   chan *chunkJob
	events chan event
}

// move moves ranges and compares holes.
func (b *backup) move(ctx context.Context, ranges, holes blockdiff.Ranges, out *imagemap.Writer) error {
	p := &pipeline{backup: b, work: make(chan *chunkJob, b.plan.chunkBufs), events: make(chan event, 4*b.plan.slabs)}
	return p.run(ctx, ranges, holes, out)
}

func (p *pipeline) run(ctx context.Context, ranges, holes blockdiff.Ranges, out *imagemap.Writer) error {
	g, ctx := errgroup.WithContext(ctx)
	todo := make(chan *slab, p.plan.slabs)    // to the slab workers
	ordered := make(chan *slab, p.plan.slabs) // the same slabs to the stitcher

	g.Go(func() error {
		defer close(todo)
		defer close(ordered)
		return p.feed(ctx, ranges, holes, todo, ordered)
	})
	for range p.plan.readers {
		g.Go(func() error { return p.slabLoop(ctx, todo) })
	}
	g.Go(func() error {
		defer close(p.work)
		defer close(p.events)
		return p.stitchLoop(ctx, ordered)
	})
	for range p.plan.workers {
		g.Go(func() error { return p.chunkLoop(ctx) })
	}
	g.Go(func() error {
		c := collector{b: p.backup, out: out}
		for e := range p.events {
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
		for j := range p.work {
			_ = j.hold.Release()
		}
	}
	return err
}

// feed takes a buffer for each task, in order, so that the slab which the
// stitcher waits for always has one.
func (p *pipeline) feed(ctx context.Context, ranges, holes blockdiff.Ranges, todo, ordered chan<- *slab) error {
	return tasks(ranges, holes, int64(p.plan.slabBytes), func(t task) error {
		buf, err := p.slabBufs.Get(ctx)
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

func (p *pipeline) slabLoop(ctx context.Context, todo <-chan *slab) error {
	w := &slabWorker{b: p.backup, scanner: p.cutParams.NewScanner()}
	if p.mode != modeFull {
		w.compare = newComparer(p.repo, p.base)
	}
	for s := range todo {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.work(ctx, s); err != nil {
			return err
		}
		p.changed.Add(s.changed)
		p.moved.Add(s.moved)
		close(s.done)
	}
	return nil
}

func (p *pipeline) stitchLoop(ctx context.Context, ordered <-chan *slab) error {
	st := newStitcher(p)
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
func (p *pipeline) send(ctx context.Context, j *chunkJob) error {
	j.done = make(chan struct{})
	select {
	case p.work <- j:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), j.hold.Release())
	}
	return p.collect(ctx, event{job: j})
}

func (p *pipeline) collect(ctx context.Context, e event) error {
	select {
	case p.events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipeline) chunkLoop(ctx context.Context) error {
	var origin []chunk.Piece
	for j := range p.work {
		var err error
		origin, err = p.store(ctx, j, origin)
		if err = errors.Join(err, j.hold.Release()); err != nil {
			return err
		}
		j.plain = nil
		close(j.done)
	}
	return nil
}
