// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/chunkstore/index"
)

// The local cache holds nothing that the repository does not: decided outcomes
// and the index of their segments. It may be lost or damaged at any time. What
// it must never be is ahead of the repository, for then chunks would count as
// stored that are not. So outcomes that were learnt last are compared with the
// store's when the cache is opened, and an index is used only if every segment
// in it belongs to an outcome in force (ledger).

// outcomesCache is the name under which the outcomes are sealed, like any
// record, so that a damaged or foreign file is simply not used.
const (
	outcomesCache = "cache/outcomes"
	outcomesName  = "outcomes"
	maxCacheFile  = 1 << 30
)

// cachedOutcome is an outcome and when it was learnt: by the end of which look
// for the outcomes of all sessions. What was learnt by look n had been created
// by then, and was not there when look n−1 began, or that would have found it.
// So it is younger than all that was learnt by look n−2.
type cachedOutcome struct {
	*OutcomeRecord
	Learnt uint64 `json:"learnt"`
}

func (r *roster) outcomesFile() string { return filepath.Join(r.dir, outcomesName) }

// readOutcomesFile gives nil for a file that is of no use.
func (r *roster) readOutcomesFile() []cachedOutcome {
	path := r.outcomesFile()
	if fi, err := os.Stat(path); err != nil || fi.Size() > maxCacheFile {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var list []cachedOutcome
	if r.openRecord(outcomesCache, data, &list) != nil {
		return nil
	}
	for _, o := range list {
		if o.OutcomeRecord == nil || o.check(outcomesCache, o.Session) != nil {
			return nil
		}
	}
	return list
}

// loadOutcomes takes what the cache knows, unless the store went back to an
// older state (from a copy, say): then what the cache knows beyond that never
// happened, and the numbers are given to others.
func (r *roster) loadOutcomes(ctx context.Context) error {
	list := r.readOutcomesFile()
	r.mu.Lock()
	for _, o := range list {
		r.outcomes[o.Session], r.learnt[o.Session] = o.OutcomeRecord, o.Learnt
		r.looks = max(r.looks, o.Learnt)
	}
	// The look that the newest were waiting for may not have come; it is the
	// next one then.
	r.looks, r.learning = max(r.looks, 1)-1, len(list) > 0
	r.mu.Unlock()
	r.reading.Lock()
	defer r.reading.Unlock()
	if err := r.refreshEpochs(ctx); err != nil {
		return err
	}
	same, err := r.stillThere(ctx)
	if err != nil || same {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range r.outcomes {
		if n >= r.watermark() {
			delete(r.outcomes, n)
			delete(r.learnt, n)
		}
	}
	return nil
}

// stillThere reads again the cached outcomes that may be the youngest. If the
// store went back to before any cached outcome, one of these is gone: see
// cachedOutcome. Numbers and clocks say nothing about which is younger.
func (r *roster) stillThere(ctx context.Context) (bool, error) {
	r.mu.Lock()
	var last uint64
	for _, at := range r.learnt {
		last = max(last, at)
	}
	var young []*OutcomeRecord
	for n, o := range r.outcomes {
		if n >= r.watermark() && r.learnt[n]+1 >= last {
			young = append(young, o)
		}
	}
	r.mu.Unlock()
	same := true
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(probeWidth)
	for _, o := range young {
		g.Go(func() error {
			there, err := r.readOutcome(ctx, o.Session)
			if _, bad := asDamage(outcomeName(o.Session), err); bad {
				there, err = nil, nil // Refresh finds it again and reports it
			}
			mu.Lock()
			defer mu.Unlock()
			same = same && there != nil && there.same(o)
			return err
		})
	}
	return same, g.Wait()
}

// saveOutcomes keeps what is there if it knows more: another process's.
func (r *roster) saveOutcomes() error {
	r.mu.Lock()
	dirty := r.dirty
	r.dirty = false
	list := make([]cachedOutcome, 0, len(r.outcomes))
	for _, n := range sortedKeys(r.outcomes) {
		list = append(list, cachedOutcome{r.outcomes[n], r.learnt[n]})
	}
	r.mu.Unlock()
	if !dirty || len(list) == 0 {
		return nil
	}
	there := r.readOutcomesFile()
	if len(there) > 0 && there[len(there)-1].Session > list[len(list)-1].Session {
		return nil
	}
	data, err := r.sealRecord(outcomesCache, list)
	if err == nil {
		err = replaceFile(r.dir, outcomesName, data)
	}
	if err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
	}
	return err
}

// retire takes the index out of use, for it is damaged or holds segments that
// are no longer in force. Who searches it at the moment goes on doing so. r.mu
// is held.
func (r *packs) retire() {
	if r.index != nil {
		r.retired = append(r.retired, r.index)
		r.index = nil
	}
	r.stale = true
}

// reconsider forgets what another epoch may have made untrue. r.mu is held.
func (r *packs) reconsider(lost bool) {
	r.meta.drop(metaLocation)
	if lost {
		r.retire()
	}
}

// Index is the local, memory-mapped index of all committed sessions, brought
// up to date with what Refresh found. Only what is new is downloaded. It shows
// condemned packs, too: readers may still need them.
func (r *packs) Index(ctx context.Context) (*index.Cache, error) {
	r.building.Lock()
	defer r.building.Unlock()
	c, err := r.updateIndex(ctx)
	if errors.Is(err, index.ErrCacheDamaged) { // it is only a copy: start again
		r.mu.Lock()
		r.retire()
		r.mu.Unlock()
		c, err = r.updateIndex(ctx)
	}
	return c, err
}

// updateIndex goes round again if what is in force changed meanwhile. r.building
// is held.
func (r *packs) updateIndex(ctx context.Context) (*index.Cache, error) {
	for {
		c, err := r.openIndex(ctx)
		if err != nil {
			return nil, err
		}
		var missing []Segment
		var names []string
		for _, s := range r.committedSegments() {
			if !c.Has(s.Name) {
				missing, names = append(missing, s), append(names, s.Name)
			}
		}
		if err := r.addSegments(ctx, c, missing, names); err != nil {
			return nil, err
		}
		r.mu.Lock()
		current := r.index == c
		r.mu.Unlock()
		if current {
			return c, nil
		}
	}
}

// openIndex gives the index in use, or opens the one on disk, which it first
// empties if that can't be trusted.
func (r *packs) openIndex(ctx context.Context) (*index.Cache, error) {
	r.mu.Lock()
	c, stale := r.index, r.stale
	r.stale = false
	r.mu.Unlock()
	if c != nil {
		return c, nil
	}
	trusted, err := r.trusted(ctx)
	if err == nil && (stale || !trusted) {
		err = errors.Join(r.ledger.empty(ctx), removeFile(r.outcomesFile()))
	}
	if err == nil {
		c, err = index.OpenCache(r.ledger.indexDir(), r.keyring.Current().CacheKey())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.stale = r.stale || stale
		return nil, fmt.Errorf("open the local index: %w", err)
	}
	r.index, r.dirty = c, r.dirty || stale || !trusted
	if r.stale { // while it was opened
		r.retire()
	}
	return c, nil
}

// trusted tells whether all that the index on disk may hold is in force. A
// segment of a session that this process has not seen decided may have been
// added by another, so the store is asked.
func (r *packs) trusted(ctx context.Context) (bool, error) {
	names := r.ledger.read()
	if names == nil {
		return false, nil
	}
	for _, s := range r.committedSegments() {
		delete(names, s.Name)
	}
	for name := range names {
		var n uint64
		if read, _ := fmt.Sscanf(name, "index/%d/", &n); read != 1 {
			return false, nil
		}
		r.mu.Lock()
		decided := r.outcomes[n] != nil || n < r.watermark()
		r.mu.Unlock()
		if decided {
			return false, nil
		}
		o, err := r.readOutcome(ctx, n)
		if _, bad := asDamage(outcomeName(n), err); bad {
			o, err = nil, nil
		}
		if err != nil || o == nil || !o.names(name) {
			return false, err
		}
	}
	return true, nil
}

// committedSegments lists the segments in force, in the order of sessions.
func (r *packs) committedSegments() (out []Segment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range sortedKeys(r.outcomes) {
		if o := r.outcomes[n]; o.State == StateCommitted {
			out = append(out, o.Segments...)
		}
	}
	return out
}

// addSegments enters them in the ledger before, and again after: another
// process may have emptied index and ledger meanwhile.
func (r *packs) addSegments(ctx context.Context, c *index.Cache, segments []Segment, names []string) error {
	if len(segments) == 0 {
		return nil
	}
	if err := errors.Join(r.saveOutcomes(), r.ledger.add(names)); err != nil {
		return err
	}
	for _, s := range segments {
		plain, err := r.readSegment(ctx, s)
		if err != nil {
			return err
		}
		if err := c.Add(ctx, s.Name, plain); err != nil {
			return fmt.Errorf("add %s to the local index: %w", s.Name, err)
		}
	}
	return r.ledger.add(names)
}

// find looks a chunk up in the index as it is, and builds a damaged one again.
// A writer finds nothing in a condemned pack (C6). A reader does, but only
// where no other pack has the chunk: a point may be committed while its packs
// stand condemned, until the collector sees it and takes them back.
func (r *packs) find(ctx context.Context, id ChunkID, writer bool) (loc index.Location, ok bool, err error) {
	r.mu.Lock()
	c, condemned := r.index, r.condemned
	r.mu.Unlock()
	if c == nil {
		if c, err = r.Index(ctx); err != nil {
			return loc, false, err
		}
	}
	loc, ok, err = findIn(c, id, condemned, writer)
	if !errors.Is(err, index.ErrCacheDamaged) {
		return loc, ok, err
	}
	r.mu.Lock()
	if r.index == c {
		r.retire()
	}
	r.mu.Unlock()
	if c, err = r.Index(ctx); err != nil {
		return loc, false, err
	}
	return findIn(c, id, condemned, writer)
}

func findIn(c *index.Cache, id ChunkID, condemned map[packKey]bool, writer bool) (index.Location, bool, error) {
	loc, ok, err := c.Lookup(id)
	if err == nil && ok && condemned[keyOf(&loc.Pack)] {
		all, err := c.LookupAll(id)
		if err != nil {
			return loc, false, err
		}
		for _, l := range all {
			if !condemned[keyOf(&l.Pack)] {
				return l, true, nil
			}
		}
		return loc, !writer, nil
	}
	if err != nil {
		err = fmt.Errorf("look up chunk %s: %w", id.Short(), err)
	}
	return loc, ok, err
}
