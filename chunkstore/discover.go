// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

const (
	maxRecordSize  = 64 << 20 // catalogues and condemned lists
	maxOutcomeSize = 16 << 20
	maxOpenSize    = 1 << 20
	probeWidth     = 16 // requests in flight while looking for sessions
	maxCacheFile   = 1 << 30
)

// Refresh finds epochs and sessions that came since the last time. Both are
// found by name (C2); the list is only a hint that saves requests.
func (r *roster) Refresh(ctx context.Context) error {
	if err := r.refreshEpochs(ctx); err != nil {
		return err
	}
	if err := r.findEnd(ctx); err != nil {
		return fmt.Errorf("look for sessions: %w", err)
	}
	return r.readOutcomes(ctx)
}

func (r *roster) refreshEpochs(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var newest *EpochRecord
	for {
		name := epochName(r.epochs)
		data, err := objstore.ReadAll(ctx, r.store, name, maxRecordSize)
		if errors.Is(err, objstore.ErrNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		var e EpochRecord
		if err := r.openRecord(name, data, &e); err != nil {
			return err
		}
		newest = &e
		r.epochs++
	}
	if newest == nil {
		return nil
	}
	return r.enterEpoch(ctx, newest)
}

// enterEpoch makes a collector's decision the one in force. r.mu is held.
func (r *roster) enterEpoch(ctx context.Context, e *EpochRecord) error {
	condemned := map[string]bool{}
	for _, ref := range e.Condemned {
		var c CondemnedRecord
		if err := r.readRef(ctx, ref, &c); err != nil {
			return err
		}
		for _, p := range c.Packs {
			condemned[p] = true
		}
	}
	if e.Catalogue != nil {
		var c CatalogueRecord
		if err := r.readRef(ctx, *e.Catalogue, &c); err != nil {
			return err
		}
		for n := range r.outcomes { // an outcome under a folded number is void unless the catalogue has it
			if n < c.Watermark {
				delete(r.outcomes, n)
			}
		}
		for i := range c.Outcomes {
			r.outcomes[c.Outcomes[i].Session] = &c.Outcomes[i]
		}
		r.end = max(r.end, c.Watermark)
	}
	r.epoch, r.condemned = e, condemned
	r.onEpoch()
	return nil
}

func (r *vault) readRef(ctx context.Context, ref ObjectRef, v any) error {
	data, err := objstore.ReadAll(ctx, r.store, ref.Name, ref.Size)
	if err != nil {
		return fmt.Errorf("read %s: %w", ref.Name, err)
	}
	if err := ref.check(data); err != nil {
		return err
	}
	return r.openRecord(ref.Name, data, v)
}

// findEnd advances r.end to the first session number that does not exist.
func (r *roster) findEnd(ctx context.Context) error {
	r.mu.Lock()
	end := r.end
	r.mu.Unlock()
	end, err := r.listedEnd(ctx, end)
	if err != nil {
		return err
	}
	for {
		found, err := r.existing(ctx, end)
		if err != nil {
			return err
		}
		end += uint64(found)
		if found < probeWidth {
			break
		}
	}
	r.mu.Lock()
	r.end = max(r.end, end)
	r.mu.Unlock()
	return nil
}

// listedEnd uses a list to jump over numbers that are there without a gap. A
// forged or stale entry beyond a gap is not believed.
func (r *roster) listedEnd(ctx context.Context, end uint64) (uint64, error) {
	listed := map[uint64]bool{}
	err := r.store.List(ctx, "sessions/", func(i objstore.Info) error {
		var n uint64
		if _, err := fmt.Sscanf(i.Name, "sessions/%d/open", &n); err == nil && n >= end && i.Name == sessionName(n) {
			listed[n] = true
		}
		return nil
	})
	for listed[end] {
		end++
	}
	return end, err
}

// existing counts how many of the next probeWidth sessions exist without a gap.
func (r *roster) existing(ctx context.Context, from uint64) (int, error) {
	// One probe first: there usually is nothing new.
	var there [probeWidth]bool
	probe := func(ctx context.Context, i int) error {
		_, err := r.store.Stat(ctx, sessionName(from+uint64(i)))
		if errors.Is(err, objstore.ErrNotExist) {
			return nil
		}
		there[i] = err == nil
		return err
	}
	if err := probe(ctx, 0); err != nil || !there[0] {
		return 0, err
	}
	g, gctx := errgroup.WithContext(ctx)
	for i := 1; i < probeWidth; i++ {
		g.Go(func() error { return probe(gctx, i) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	n := slices.Index(there[:], false)
	if n < 0 {
		n = probeWidth
	}
	return n, nil
}

// readOutcomes asks for the outcome of every session that had none.
func (r *roster) readOutcomes(ctx context.Context) error {
	r.mu.Lock()
	var undecided []uint64
	for n := r.watermark(); n < r.end; n++ {
		if r.outcomes[n] == nil {
			undecided = append(undecided, n)
		}
	}
	r.mu.Unlock()
	var mu sync.Mutex
	found := map[uint64]*OutcomeRecord{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(probeWidth)
	for _, n := range undecided {
		g.Go(func() error {
			o, err := r.readOutcome(gctx, n)
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
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, o := range found {
		r.outcomes[n], r.dirty = o, true
	}
	return nil
}

// readOutcome gives nil for a session that is undecided.
func (r *roster) readOutcome(ctx context.Context, n uint64) (*OutcomeRecord, error) {
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
	return &o, nil
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
	r.mu.Lock()
	r.pins[n] = s
	r.mu.Unlock()
	return s, nil
}

func (r *roster) watermark() uint64 {
	if r.epoch == nil {
		return 0
	}
	return r.epoch.Watermark
}

// The cache of outcomes is a sealed record like any other, so a damaged or
// foreign one is simply not used.
const outcomesCache = "cache/outcomes"

func (r *roster) loadOutcomes() {
	path := filepath.Join(r.dir, "outcomes")
	if fi, err := os.Stat(path); err != nil || fi.Size() > maxCacheFile {
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	plain, err := r.keyring.OpenRecord(r.config.repoID(), outcomesCache, data)
	if err != nil {
		return
	}
	var list []*OutcomeRecord
	if json.Unmarshal(plain, &list) != nil {
		return
	}
	for _, o := range list {
		r.outcomes[o.Session] = o
	}
}

func (r *roster) saveOutcomes() error {
	if !r.dirty {
		return nil
	}
	list := make([]*OutcomeRecord, 0, len(r.outcomes))
	for _, n := range sortedKeys(r.outcomes) {
		list = append(list, r.outcomes[n])
	}
	data, err := r.sealRecord(outcomesCache, list)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(r.dir, "outcomes-*")
	if err != nil {
		return fmt.Errorf("save the cache of outcomes: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(r.dir, "outcomes"))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save the cache of outcomes: %w", err), os.Remove(f.Name()))
	}
	r.dirty = false
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
