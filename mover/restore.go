// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
)

// RestoreOptions say where to restore to and how.
type RestoreOptions struct {
	Target string    // path of a block device or file; "-": stream to Out
	Out    io.Writer // for a stream
	Delta  bool      // compare the target first, fetch and write only what differs
	Force  bool      // overwrite what is mounted or in use
	Memory int64     // bytes for the whole process; 0: DefaultMemory
	Now    func() time.Time

	Progress *Progress

	tune func(*restorePlan) // tests make batches small with it, and syncs many
	step func()             // after each chunk: tests end the process in it
	sync func(done bool)    // and in this, before and after each sync and its record
}

// How a restore went about it, as reports say.
const (
	RestoreFull   = "full"   // everything was written
	RestoreDelta  = "delta"  // the target was compared first
	RestoreStream = "stream" // in volume order to a writer
)

// RestoreReport is what a restore ends with; the program prints it as JSON.
type RestoreReport struct {
	Point  string `json:"point"`
	Volume string `json:"volume"`
	Target string `json:"target"`
	Mode   string `json:"mode"`

	VolumeBytes    int64 `json:"volumeBytes"`
	WrittenBytes   int64 `json:"writtenBytes"`   // to the target; of a stream all bytes, zeros too
	ZeroedBytes    int64 `json:"zeroedBytes"`    // made to read as zeros
	ComparedBytes  int64 `json:"comparedBytes"`  // read from the target
	FetchedBytes   int64 `json:"fetchedBytes"`   // from the repository, metadata included
	RefetchedBytes int64 `json:"refetchedBytes"` // of those, pack bytes that were fetched before
	Chunks         int64 `json:"chunks"`         // fetched and verified

	Seconds         float64 `json:"seconds"`
	CPUSeconds      float64 `json:"cpuSeconds"`
	PeakMemoryBytes int64   `json:"peakMemoryBytes"`

	Resumed  string   `json:"resumed,omitempty"` // how an interrupted run was continued
	Warnings []string `json:"warnings,omitempty"`
}

// restore is one run.
type restore struct {
	repo     *chunkstore.Repository
	point    *chunkstore.Point
	opt      RestoreOptions
	plan     restorePlan
	progress *Progress
	report   RestoreReport
}

// Restore brings a volume back as it was at a point. Damage that it meets ends
// it with an error that is a *DamageError; what the target then holds is not
// the volume.
func Restore(ctx context.Context, repo *chunkstore.Repository, p *chunkstore.Point, opt RestoreOptions) (*RestoreReport, error) {
	r := &restore{repo: repo, point: p, opt: opt, progress: opt.Progress}
	if r.opt.Now == nil {
		r.opt.Now = time.Now //nolint:forbidigo // the default clock
	}
	if r.progress == nil {
		r.progress = new(Progress)
	}
	var err error
	if r.plan, err = planRestore(opt.Memory, maxChunkOf(repo)); err != nil {
		return nil, err
	}
	if opt.tune != nil {
		opt.tune(&r.plan)
	}
	r.report = RestoreReport{Point: p.ID, Volume: p.Volume, Target: opt.Target, VolumeBytes: p.Size}
	r.warnOfGaps()
	began, got := startUsage(r.opt.Now()), repo.Meter().Counts().GetBytes
	if opt.Target == "-" {
		err = r.toStream(ctx)
	} else {
		err = r.toTarget(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.report.FetchedBytes = repo.Meter().Counts().GetBytes - got
	r.report.Seconds, r.report.CPUSeconds = began.seconds(r.opt.Now())
	r.report.PeakMemoryBytes = peakMemory()
	return &r.report, nil
}

// warnOfGaps tells what the point itself does not hold.
func (r *restore) warnOfGaps() {
	lost := int64(0)
	for _, l := range r.point.Lost {
		lost += l.Length
	}
	if lost > 0 {
		r.report.Warnings = append(r.report.Warnings, fmt.Sprintf("%d bytes could not be read when the point was made; they read as zeros", lost))
	}
}

// toTarget restores to something that can seek. The journal is closed last, for
// what is done is done only once the target is closed.
func (r *restore) toTarget(ctx context.Context) (err error) {
	seen, err := lookAt(r.opt.Target)
	if err != nil {
		return err
	}
	j, err := openRestoreJournal(r, seen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close(err == nil)) }()
	t, err := blockio.OpenTarget(r.opt.Target, r.point.Size, blockio.TargetOptions{Force: r.opt.Force})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	r.report.Mode = RestoreFull
	if r.opt.Delta && !t.Fresh() {
		r.report.Mode = RestoreDelta
		if err := j.empty(); err != nil {
			return err
		}
		return r.delta(ctx, t)
	}
	if err := j.start(r, t, seen); err != nil {
		return err
	}
	r.report.Resumed = j.resumed()
	return r.full(ctx, t, j)
}

// full writes everything except what the journal of a killed run names and the
// target proves to hold.
func (r *restore) full(ctx context.Context, t *blockio.Target, j *restoreJournal) (err error) {
	h, err := newHaul(ctx, r.repo, r.point, r.plan, &targetSink{t: t}, r.progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	h.done, h.clean, h.step = j.written, j.zeroed, r.opt.step
	p := newPlanner(r.repo, r.point, r.plan.batchCost)
	p.zeroes = !t.Fresh()
	r.progress.enter("restoring", r.point.Size)
	g, gctx := errgroup.WithContext(ctx)
	if len(j.old) > 0 {
		c, err := newTargetCompare(r, t, j.old)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.close()) }()
		p.next = c.next
		g.Go(func() error { return c.run(gctx) })
	}
	stop := make(chan struct{})
	g.Go(func() error { return j.syncLoop(gctx, stop) })
	g.Go(func() error {
		defer close(stop)
		return r.haulAll(gctx, p, h)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	r.fill(h, t)
	return t.Sync(ctx)
}

// haulAll plans the next batch while one is under way.
func (r *restore) haulAll(ctx context.Context, p *planner, h *haul) error {
	free, planned := make(chan *batch, 2), make(chan *batch)
	free <- new(batch)
	free <- new(batch)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(planned)
		for {
			var b *batch
			select {
			case b = <-free:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			more, err := p.fill(ctx, b)
			if err != nil || !more {
				return err
			}
			select {
			case planned <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	g.Go(func() error {
		for b := range planned {
			if err := h.run(ctx, b); err != nil {
				return err
			}
			free <- b
		}
		return nil
	})
	return g.Wait()
}

func (r *restore) fill(h *haul, t *blockio.Target) {
	r.report.WrittenBytes = t.BytesWritten()
	r.report.ZeroedBytes = h.zeroed.Load()
	r.report.RefetchedBytes = h.refetched
	r.report.Chunks = h.chunks.Load()
}

// targetSink writes to a target. With compare it first reads what is there, and
// writes only pages that differ.
type targetSink struct {
	t       *blockio.Target
	compare *pageCompare // nil: write everything
}

func (s *targetSink) write(ctx context.Context, p []byte, off int64) error {
	if s.compare == nil {
		return s.t.WriteAt(ctx, p, off)
	}
	return s.compare.differing(ctx, s.t, p, off, func(p []byte, off int64) error { return s.t.WriteAt(ctx, p, off) })
}

func (s *targetSink) zero(ctx context.Context, off, n int64) error { return s.t.Zero(ctx, off, n) }

// whole is all of a volume.
func whole(size int64) blockdiff.Ranges {
	return blockdiff.Ranges{{Offset: 0, Length: size}}.Clip(size)
}
