// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tidemark-io/tidemark/chunkstore/index"
)

// The local cache holds nothing that the repository does not: decided outcomes
// and the index of their segments. It may be lost or damaged at any time. What
// it must never be is ahead of the repository, for then chunks would count as
// stored that are not: so outcomes are saved before their segments are added,
// and the newest is compared with the store's when the cache is opened.

// outcomesCache is the name under which the outcomes are sealed, like any
// record, so that a damaged or foreign file is simply not used.
const outcomesCache = "cache/outcomes"

const maxCacheFile = 1 << 30

func (r *roster) outcomesFile() string { return filepath.Join(r.dir, "outcomes") }

// readOutcomesFile gives nil for a file that is of no use.
func (r *roster) readOutcomesFile() []*OutcomeRecord {
	path := r.outcomesFile()
	if fi, err := os.Stat(path); err != nil || fi.Size() > maxCacheFile {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var list []*OutcomeRecord
	if r.openRecord(outcomesCache, data, &list) != nil {
		return nil
	}
	for _, o := range list {
		if o == nil || o.check(outcomesCache, o.Session) != nil {
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
		r.outcomes[o.Session] = o
	}
	r.mu.Unlock()
	if err := r.refreshEpochs(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	numbers := sortedKeys(r.outcomes)
	if len(numbers) == 0 || numbers[len(numbers)-1] < r.watermark() {
		return nil
	}
	newest := r.outcomes[numbers[len(numbers)-1]]
	there, err := r.readOutcome(ctx, newest.Session)
	if err != nil || there != nil && there.same(newest) {
		return err
	}
	for _, n := range numbers {
		if n >= r.watermark() {
			delete(r.outcomes, n)
		}
	}
	r.onChange(true)
	return nil
}

// saveOutcomes keeps what is there if it knows more: another process's.
func (r *roster) saveOutcomes() error {
	if !r.dirty {
		return nil
	}
	list := make([]*OutcomeRecord, 0, len(r.outcomes))
	for _, n := range sortedKeys(r.outcomes) {
		list = append(list, r.outcomes[n])
	}
	there := r.readOutcomesFile()
	if len(list) == 0 || len(there) > 0 && there[len(there)-1].Session > list[len(list)-1].Session {
		r.dirty = false
		return nil
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
		err = os.Rename(f.Name(), r.outcomesFile())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save the cache of outcomes: %w", err), os.Remove(f.Name()))
	}
	r.dirty = false
	return nil
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

// dropStale removes from the disk what retire took out of use. r.mu is held.
func (r *packs) dropStale() error {
	if !r.stale {
		return nil
	}
	err := os.Remove(r.outcomesFile())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, os.RemoveAll(filepath.Join(r.dir, "index"))); err != nil {
		return fmt.Errorf("drop the local index: %w", err)
	}
	r.stale, r.dirty = false, true
	return nil
}

// Index is the local, memory-mapped index of all committed sessions, brought
// up to date with what Refresh found. Only what is new is downloaded. It shows
// condemned packs, too: readers may still need them.
func (r *packs) Index(ctx context.Context) (*index.Cache, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.updateIndex(ctx)
	if errors.Is(err, index.ErrCacheDamaged) { // it is only a copy: start again
		r.retire()
		c, err = r.updateIndex(ctx)
	}
	return c, err
}

func (r *packs) updateIndex(ctx context.Context) (*index.Cache, error) {
	if err := r.dropStale(); err != nil {
		return nil, err
	}
	if r.index == nil {
		c, err := index.OpenCache(filepath.Join(r.dir, "index"), r.keyring.Current().CacheKey())
		if err != nil {
			return nil, fmt.Errorf("open the local index: %w", err)
		}
		r.index = c
	}
	for _, n := range sortedKeys(r.outcomes) {
		o := r.outcomes[n]
		for i := range o.Segments {
			if o.State != StateCommitted || r.index.Has(o.Segments[i].Name) {
				continue
			}
			if err := r.addSegment(ctx, o.Segments[i]); err != nil {
				return nil, err
			}
		}
	}
	return r.index, nil
}

func (r *packs) addSegment(ctx context.Context, s Segment) error {
	if err := r.saveOutcomes(); err != nil { // before, or the cache could be ahead
		return err
	}
	plain, err := r.readSegment(ctx, s)
	if err != nil {
		return err
	}
	if err := r.index.Add(ctx, s.Name, plain); err != nil {
		return fmt.Errorf("add %s to the local index: %w", s.Name, err)
	}
	return nil
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
