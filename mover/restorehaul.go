// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// sink takes the bytes of a volume. Calls are concurrent and disjoint.
type sink interface {
	write(ctx context.Context, p []byte, off int64) error
	zero(ctx context.Context, off, n int64) error
}

// haul brings batches from the repository to a sink:
//
//	batch ─► jobs, by stripe and pack ─► fetchers ─► workers (open, decode, verify, scatter)
//
// What is fetched and not yet decoded lies in the ring; each worker has one
// buffer for a chunk's plaintext. Workers write themselves, while what they
// decoded is in the processor's cache; there are more of them than cores, so
// that a waiting write does not stop the decoding.
type haul struct {
	repo     *chunkstore.Repository
	point    *chunkstore.Point
	sink     sink
	ring     *ring
	plain    *blockio.Arena
	workers  []*haulWorker
	fetchers int
	maxJob   int
	progress *Progress

	keep  func(c *wanted, plain []byte, used int64) // sees each decoded chunk; nil: nobody
	done  func(b *batch, chunks []uint32)           // written, not synced; nil: nobody
	clean func(b *batch)                            // all zeros of the batch are made; nil: nobody
	step  func()                                    // after each chunk; nil: nothing

	seen      fetchedSpans
	refetched int64
	chunks    atomic.Int64
	zeroed    atomic.Int64
}

// haulJob is one request: a stretch of a pack and the chunks that lie in it.
type haulJob struct {
	pack   *wantedPack
	in     uint32
	chunks []uint32
	from   uint32 // offset in the pack
	n      int
	first  bool // brings the cipher
	data   *stretch
}

// newHaul takes the memory.
func newHaul(ctx context.Context, repo *chunkstore.Repository, p *chunkstore.Point, plan restorePlan, to sink, progress *Progress) (*haul, error) {
	h := &haul{
		repo: repo, point: p, sink: to, progress: progress,
		fetchers: plan.fetchers, maxJob: plan.jobBytes,
	}
	var err error
	if h.ring, err = newRing(ctx, plan.ringBytes); err != nil {
		return nil, err
	}
	if h.plain, err = blockio.NewArena(plan.plainBytes, plan.workers); err != nil {
		return nil, errors.Join(err, h.ring.close())
	}
	for range plan.workers {
		buf, err := h.plain.Get(ctx)
		if err != nil {
			return nil, errors.Join(err, h.close())
		}
		h.workers = append(h.workers, newHaulWorker(h, buf))
	}
	return h, nil
}

func (h *haul) close() error {
	var errs []error
	for _, w := range h.workers {
		errs = append(errs, w.buf.Release())
	}
	return errors.Join(append(errs, h.plain.Close(), h.ring.close())...)
}

// run restores one batch; when it returns without an error everything is
// written to the sink.
func (h *haul) run(ctx context.Context, b *batch) error {
	h.progress.read.Add(b.skipped)
	g, ctx := errgroup.WithContext(ctx)
	todo := make(chan *haulJob)
	fetched := make(chan *haulJob, h.fetchers)
	g.Go(func() error { return h.zeros(ctx, b) })
	g.Go(func() error {
		defer close(todo)
		return h.dispatch(ctx, b, todo)
	})
	running := atomic.Int64{}
	running.Store(int64(h.fetchers))
	for range h.fetchers {
		g.Go(func() error {
			defer func() {
				if running.Add(-1) == 0 {
					close(fetched)
				}
			}()
			return h.fetchLoop(ctx, b, todo, fetched)
		})
	}
	for _, w := range h.workers {
		g.Go(func() error { return w.loop(ctx, b, fetched) })
	}
	return g.Wait()
}

func (h *haul) zeros(ctx context.Context, b *batch) error {
	for _, r := range b.zeros {
		if err := h.sink.zero(ctx, r.Offset, r.Length); err != nil {
			return err
		}
		h.zeroed.Add(r.Length)
		h.progress.read.Add(r.Length)
	}
	if h.clean != nil {
		h.clean(b)
	}
	return nil
}

// dispatch forms jobs and takes their memory, in order: so the job that others
// of its pack wait for always has memory before them.
func (h *haul) dispatch(ctx context.Context, b *batch, todo chan<- *haulJob) error {
	for _, i := range b.turns {
		if b.taken[i] {
			continue
		}
		j := h.job(b, int(b.place[i]))
		var err error
		if j.data, err = h.ring.take(ctx, j.n); err != nil {
			return err
		}
		h.refetched += h.seen.add(&j.pack.id, j.from, j.from+uint32(j.n))
		select {
		case todo <- j:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// job makes one request of the next chunk in turn and those that follow it
// nearby in its pack, if they belong to its stripe or the next one. Chunks that do
// not end it, so that nothing which is wanted later is fetched twice.
func (h *haul) job(b *batch, place int) *haulJob {
	order := b.order[place:]
	c := &b.chunks[order[0]]
	p := &b.packs[c.pack]
	j := &haulJob{pack: p, in: c.pack, from: c.Offset}
	if !p.asked {
		h.ask(j, place == 0 || b.chunks[b.order[place-1]].pack != c.pack)
	}
	last, end, n := b.stripeOf(c)+1, c.Offset+c.Stored, 1
	for ; n < len(order); n++ {
		d := &b.chunks[order[n]]
		near := d.pack == c.pack && d.Offset >= end && d.Offset-end <= gap && int(d.Offset+d.Stored-j.from) <= h.maxJob
		if !near || b.taken[order[n]] || b.stripeOf(d) > last {
			break
		}
		end = d.Offset + d.Stored
	}
	j.chunks, j.n = order[:n], int(end-j.from)
	for _, i := range j.chunks {
		b.taken[i] = true
	}
	return j
}

// ask makes a job the one that brings its pack's cipher, unless that is known.
// The header comes along where nothing that is wanted lies between.
func (h *haul) ask(j *haulJob, foremost bool) {
	j.pack.asked, j.first = true, true
	if cipher, ok := h.repo.KnownCipher(j.pack.id); ok {
		j.first, j.pack.cipher = false, cipher
		close(j.pack.ready)
	} else if foremost && j.from <= pack.HeaderSize+gap {
		j.from = 0
	}
}

func (h *haul) fetchLoop(ctx context.Context, b *batch, todo <-chan *haulJob, fetched chan<- *haulJob) error {
	for j := range todo {
		if err := h.fetch(ctx, j); err != nil {
			return damage(err, h.point, b.suffering(j.in, nil))
		}
		select {
		case fetched <- j:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return ctx.Err()
}

func (h *haul) fetch(ctx context.Context, j *haulJob) error {
	if err := h.repo.FetchInto(ctx, j.pack.id, int64(j.from), j.data.mem); err != nil {
		return err
	}
	if !j.first {
		return nil
	}
	head := j.data.mem
	if j.from != 0 {
		head = make([]byte, pack.HeaderSize)
		if err := h.repo.FetchInto(ctx, j.pack.id, 0, head); err != nil {
			return err
		}
	}
	var err error
	if j.pack.cipher, err = h.repo.LearnCipher(j.pack.id, head[:pack.HeaderSize]); err != nil {
		return fmt.Errorf("open %s: %w", j.pack.name, err)
	}
	close(j.pack.ready)
	return nil
}

// haulWorker decodes and writes; it serves one goroutine at a time.
type haulWorker struct {
	h      *haul
	buf    *blockio.Buf
	reader *chunkstore.Reader
	plain  []byte
}

func newHaulWorker(h *haul, buf *blockio.Buf) *haulWorker {
	return &haulWorker{h: h, buf: buf, plain: buf.Bytes(), reader: h.repo.NewReader(h.point.Domain)}
}

func (w *haulWorker) loop(ctx context.Context, b *batch, fetched <-chan *haulJob) error {
	for j := range fetched {
		select {
		case <-j.pack.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for _, i := range j.chunks {
			if err := w.chunk(ctx, b, j, &b.chunks[i]); err != nil {
				return err
			}
		}
		w.h.ring.give(j.data)
		if w.h.done != nil {
			w.h.done(b, j.chunks)
		}
	}
	return ctx.Err()
}

// chunk verifies a chunk before any byte of it reaches the sink (M6).
func (w *haulWorker) chunk(ctx context.Context, b *batch, j *haulJob, c *wanted) error {
	stored := j.data.mem[c.Offset-j.from:][:c.Stored]
	plain, err := w.reader.Open(j.pack.cipher, j.pack.name, &c.Entry, stored, w.plain[:0])
	if err != nil {
		return damage(err, w.h.point, b.suffering(j.in, c))
	}
	used, err := w.h.scatter(ctx, b, c, plain)
	if err != nil {
		return err
	}
	w.h.chunks.Add(1)
	if w.h.step != nil {
		w.h.step()
	}
	if w.h.keep != nil {
		w.h.keep(c, plain, used)
	}
	return nil
}

// scatter writes the parts of a chunk to their places.
func (h *haul) scatter(ctx context.Context, b *batch, c *wanted, plain []byte) (used int64, err error) {
	for i := c.first; i != 0; {
		e := &b.extents[i-1]
		if err := h.sink.write(ctx, plain[e.at:e.at+e.n], e.off); err != nil {
			return used, err
		}
		used += int64(e.n)
		i = e.next
	}
	h.progress.read.Add(used)
	h.progress.out.Add(used)
	return used, nil
}
