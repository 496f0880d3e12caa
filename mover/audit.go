// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
)

// DefaultAuditShare is the rolling part of the audit: this share of the volume
// is compared at each backup, so every block once in 1000 backups.
const DefaultAuditShare = 0.001

// auditBlock is the unit of the audit in bytes; auditBudget what one audit may
// read where no share was asked for (or a tenth of the claimed bytes, if more).
const (
	auditBlock  = 64 << 10
	auditBudget = 64 << 20
)

// lyingClaimError says that bytes outside a claim differ from the base.
type lyingClaimError struct {
	At      int64 `json:"at"`
	Missed  int64 `json:"missed"`
	Sampled int64 `json:"sampled"`
}

func (e *lyingClaimError) Error() string {
	return fmt.Sprintf("the claim left out bytes that changed: near offset %d, %d of %d bytes looked at differ", e.At, e.Missed, e.Sampled)
}

// audit compares a sample of what the claim left out with the base: random
// blocks, and a part that rolls over the whole volume (DESIGN 4.3).
func (b *backup) audit(ctx context.Context, claimed blockdiff.Ranges) error {
	share := b.opt.AuditShare
	if share <= 0 {
		share = DefaultAuditShare
	}
	covered := min(b.size, b.base.Size) // a tail that grew is claimed whole
	plan := blockdiff.SamplePlan{Lap: max(1, int64(1/share)), Cursor: b.base.Audit.Cursor}
	if b.opt.AuditShare > 0 { // who asks for a share gets it, however large the volume
		plan.Budget = auditBudget + int64(share*float64(covered))
	}
	outside := claimed.Complement(covered)
	sample, cursor := blockdiff.Sample(rand.New(rand.NewPCG(b.opt.Seed, b.session.Number())), outside, covered, plan)
	b.report.Audit.Sampled = sample.Total()
	b.auditCursor = cursor
	return b.compareSample(ctx, sample)
}

// compareSample compares ranges of the source with the base, several at once.
func (b *backup) compareSample(ctx context.Context, sample blockdiff.Ranges) error {
	work := make(chan blockdiff.Range)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		return sample.Cut(auditBlock, func(r blockdiff.Range) error {
			select {
			case work <- r:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for range min(b.plan.readers, b.plan.slabs) {
		g.Go(func() error { return b.auditWorker(ctx, work) })
	}
	return g.Wait()
}

func (b *backup) auditWorker(ctx context.Context, work <-chan blockdiff.Range) error {
	buf, err := b.slabBufs.Get(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = buf.Release() }()
	c := newComparer(b.repo, b.base)
	for r := range work {
		aligned := (blockdiff.Ranges{r}).AlignOut(pageSize, b.size)[0]
		data := buf.Bytes()[:aligned.Length]
		err := b.source.ReadAt(ctx, data, aligned.Offset)
		if _, bad := errors.AsType[*blockio.ReadError](err); bad && b.opt.SkipUnreadable {
			continue // nothing can be said about it, and the base has it
		}
		if err != nil {
			return fmt.Errorf("audit the claim: %w", err)
		}
		b.auditBytes.Add(aligned.Length)
		var missed int64
		data = data[r.Offset-aligned.Offset:][:r.Length]
		if err := c.compare(ctx, r.Offset, data, func(_, n int64) { missed += n }); err != nil {
			return fmt.Errorf("audit the claim: %w", err)
		}
		if missed > 0 {
			return &lyingClaimError{At: r.Offset, Missed: missed, Sampled: r.Length}
		}
	}
	return nil
}
