// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockio"
)

// toStream restores in volume order to a writer. A window of the volume is put
// together in memory, in pack order like any restore, while the one before is
// written. Chunks that a window does not use up stay in a bounded cache; those
// that fall out of it are fetched again, and reported.
func (r *restore) toStream(ctx context.Context) (err error) {
	if r.opt.Out == nil {
		return errors.New("restore to a stream: there is none")
	}
	r.report.Mode = RestoreStream
	bufs, err := blockio.NewArena(int(r.plan.window), 2)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bufs.Close()) }()
	to := new(windowSink)
	h, err := newHaul(ctx, r.repo, r.point, r.plan, to, r.progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	cache := newChunkCache(r.plan.cacheBytes)
	h.keep = cache.keep
	p := newPlanner(r.repo, r.point, r.plan.batchCost/2)
	p.window, p.zeroes, p.known = r.plan.window, true, cache.known
	r.progress.enter("streaming", r.point.Size)
	filled := make(chan window)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.writeStream(gctx, filled) })
	g.Go(func() error {
		defer close(filled)
		return fillWindows(gctx, p, h, to, cache, bufs, filled)
	})
	err = g.Wait()
	r.report.ZeroedBytes, r.report.RefetchedBytes, r.report.Chunks = h.zeroed.Load(), h.refetched, h.chunks.Load()
	return err
}

// window is a stretch of the volume in memory.
type window struct {
	buf *blockio.Buf
	n   int64
}

func fillWindows(ctx context.Context, p *planner, h *haul, to *windowSink, cache *chunkCache, bufs *blockio.Arena, filled chan<- window) error {
	b := new(batch)
	for {
		more, err := p.fill(ctx, b)
		if err != nil || !more {
			return err
		}
		buf, err := bufs.Get(ctx)
		if err != nil {
			return err
		}
		to.mem, to.from = buf.Bytes()[:b.to-b.from], b.from
		if err = cache.serve(ctx, h, b); err == nil {
			err = h.run(ctx, b)
		}
		if err != nil {
			return errors.Join(err, buf.Release())
		}
		select {
		case filled <- window{buf: buf, n: b.to - b.from}:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), buf.Release())
		}
	}
}

// writeStream is the only one that writes to Out.
func (r *restore) writeStream(ctx context.Context, filled <-chan window) error {
	for w := range filled {
		err := ctx.Err()
		if err == nil {
			var n int
			n, err = r.opt.Out.Write(w.buf.Bytes()[:w.n])
			r.report.WrittenBytes += int64(n)
		}
		if err = errors.Join(err, w.buf.Release()); err != nil {
			return fmt.Errorf("write the stream at %d: %w", r.report.WrittenBytes, err)
		}
	}
	return nil
}

// windowSink is the window that is being filled.
type windowSink struct {
	mem  []byte
	from int64
}

func (s *windowSink) write(_ context.Context, p []byte, off int64) error {
	copy(s.mem[off-s.from:], p)
	return nil
}

func (s *windowSink) zero(_ context.Context, off, n int64) error {
	clear(s.mem[off-s.from:][:n])
	return nil
}
