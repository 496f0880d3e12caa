// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

const (
	maxRecordSize  = 64 << 20 // catalogues and condemned lists
	maxOutcomeSize = 16 << 20
	maxOpenSize    = 1 << 20
	probeWidth     = 16 // requests in flight while looking for sessions
)

// Refresh finds epochs and sessions that came since the last time. Both are
// found by name (C2); the list is only a hint that saves requests. Epochs come
// first, for they say where to begin, and again after new outcomes: one that was
// created under a number folded before is void, and whoever reads it then finds
// the epoch that says so.
func (r *roster) Refresh(ctx context.Context) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	if err := r.refreshEpochs(ctx); err != nil {
		return err
	}
	if err := r.findEnd(ctx); err != nil {
		return fmt.Errorf("look for sessions: %w", err)
	}
	news, err := r.readOutcomes(ctx)
	if err != nil || !news {
		return err
	}
	return r.refreshEpochs(ctx)
}

// findEnd advances r.end to the first session number that does not exist. There
// usually is nothing new, so it asks for one number first, then for a list, and
// only where that lags for many numbers at once.
func (r *roster) findEnd(ctx context.Context) error {
	r.mu.Lock()
	end := r.end
	r.mu.Unlock()
	for width := 1; ; width = probeWidth {
		found, err := r.existing(ctx, end, width)
		if err != nil {
			return err
		}
		end += uint64(found)
		if found < width {
			break
		}
		if width > 1 {
			continue
		}
		listed, err := r.listedEnd(ctx, end)
		if err != nil {
			return err
		}
		if found, err = r.existing(ctx, listed, 1); err != nil {
			return err
		}
		end = listed + uint64(found)
		if found == 0 {
			break
		}
	}
	r.mu.Lock()
	r.end = max(r.end, end)
	r.mu.Unlock()
	return nil
}

// listedEnd uses a list to jump over numbers that are there without a gap. A
// forged or stale entry beyond a gap is not believed, nor is one so far away
// that a list of them would fill the memory. A list that fails is no list.
func (r *vault) listedEnd(ctx context.Context, end uint64) (uint64, error) {
	const most = 1 << 20
	listed := map[uint64]bool{}
	_ = r.store.List(ctx, "sessions/", func(i objstore.Info) error {
		var n uint64
		if _, err := fmt.Sscanf(i.Name, "sessions/%d/open", &n); err == nil && n >= end && n-end < most && i.Name == sessionName(n) {
			listed[n] = true
		}
		return nil
	})
	for listed[end] {
		end++
	}
	return end, ctx.Err()
}

// existing counts how many of the next sessions, up to width, exist without a gap.
func (r *vault) existing(ctx context.Context, from uint64, width int) (int, error) {
	there := make([]bool, width)
	g, ctx := errgroup.WithContext(ctx)
	for i := range there {
		g.Go(func() (err error) {
			there[i], err = exists(ctx, r.store, sessionName(from+uint64(i)))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	if n := slices.Index(there, false); n >= 0 {
		return n, nil
	}
	return width, nil
}

// readOutcomes asks for the outcome of every session that had none, and tells
// whether one of them has one now. A session with a damaged one stays
// undecided: nothing of it counts, and nothing of it may be collected.
func (r *roster) readOutcomes(ctx context.Context) (news bool, err error) {
	r.mu.Lock()
	var undecided []uint64
	for n := r.watermark(); n < r.end; n++ {
		if r.outcomes[n] == nil {
			undecided = append(undecided, n)
		}
	}
	r.mu.Unlock()
	r.damage.drop(isOutcome)
	var mu sync.Mutex
	found := map[uint64]*OutcomeRecord{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(probeWidth)
	for _, n := range undecided {
		g.Go(func() error {
			o, err := r.readOutcome(gctx, n)
			if bad, ok := asDamage(outcomeName(n), err); ok {
				r.damage.note(outcomeName(n), bad)
				return nil
			}
			if err != nil || o == nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			found[n] = o
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, o := range found {
		if n >= r.watermark() {
			r.learn(o)
		}
	}
	if r.learning {
		r.looks, r.learning = r.looks+1, false
	}
	return len(found) > 0, nil
}

// learn takes an outcome that the store has. r.mu is held.
func (r *roster) learn(o *OutcomeRecord) {
	if _, known := r.learnt[o.Session]; !known {
		r.learnt[o.Session], r.learning = r.looks+1, true
	}
	r.outcomes[o.Session], r.dirty = o, true
}

// readOutcome gives nil for a session that is undecided.
func (r *vault) readOutcome(ctx context.Context, n uint64) (*OutcomeRecord, error) {
	name := outcomeName(n)
	data, err := objstore.ReadAll(ctx, r.store, name, maxOutcomeSize)
	if errors.Is(err, objstore.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var o OutcomeRecord
	if err := r.openRecord(name, data, &o); err != nil {
		return nil, err
	}
	return &o, o.check(name, n)
}

// readOpen gives a session's own announcement, from memory where it was read before.
func (r *roster) readOpen(ctx context.Context, n uint64) (*SessionRecord, error) {
	r.mu.Lock()
	s := r.pins[n]
	r.mu.Unlock()
	if s != nil {
		return s, nil
	}
	name := sessionName(n)
	data, err := objstore.ReadAll(ctx, r.store, name, maxOpenSize)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	s = new(SessionRecord)
	if err := r.openRecord(name, data, s); err != nil {
		return nil, err
	}
	if s.Session != n {
		return nil, &seal.CorruptError{Object: name, Detail: fmt.Sprintf("is of session %d, want %d", s.Session, n)}
	}
	r.mu.Lock()
	r.pins[n] = s
	r.mu.Unlock()
	return s, nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
