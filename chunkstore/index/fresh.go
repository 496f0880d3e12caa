// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// State is what a claimer is told about a chunk.
type State uint8

const (
	// New: the claimer must store the chunk and report it with Done.
	New State = iota + 1
	// Pending: another claimer is storing it. The chunk may be treated as
	// stored, because the session fails as a whole if that claimer fails.
	Pending
	// Known: the chunk is stored, and its place comes with the answer.
	Known
)

// String returns the state in one word.
func (s State) String() string {
	switch s {
	case New:
		return "new"
	case Pending:
		return "pending"
	case Known:
		return "known"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Fresh is the chunks that a session stores itself. Its memory is bounded: at
// most twice limit finished chunks, plus those in flight, are on the heap;
// all others lie in private temporary files without a name, which vanish with
// the process. It is for concurrent use.
type Fresh struct {
	dir   string
	limit int
	emit  func(ctx context.Context, segment []byte) error
	key   *pageKey
	set   tableSet
	turn  chan struct{} // held by whoever is emitting

	mu       sync.Mutex
	pending  map[chunk.ID]struct{}
	finished *batch
	emitting *batch // being emitted; still searched
	total    int64
	failed   error // first failure to emit; the session is over
}

// batch is finished chunks in memory. Packs are kept once each.
type batch struct {
	packs   []PackID
	place   map[PackID]uint32
	entries map[chunk.ID]freshEntry
}

type freshEntry struct{ pack, offset, stored, frame, plain uint32 }

func newBatch() *batch {
	return &batch{place: map[PackID]uint32{}, entries: map[chunk.ID]freshEntry{}}
}

func (b *batch) add(l *Location) {
	i, ok := b.place[l.Pack]
	if !ok {
		i = uint32(len(b.packs))
		b.place[l.Pack] = i
		b.packs = append(b.packs, l.Pack)
	}
	b.entries[l.ID] = freshEntry{i, l.Offset, l.Stored, l.Frame, l.Plain}
}

func (b *batch) find(id *chunk.ID) (l Location, ok bool) {
	if b == nil {
		return l, false
	}
	e, ok := b.entries[*id]
	if !ok {
		return l, false
	}
	return Location{
		Pack:  b.packs[e.pack],
		Entry: pack.Entry{ID: *id, Offset: e.offset, Stored: e.stored, Frame: e.frame, Plain: e.plain},
	}, true
}

func (b *batch) locations() []Location {
	locs := make([]Location, 0, len(b.entries))
	for id := range b.entries {
		l, _ := b.find(&id)
		locs = append(locs, l)
	}
	return locs
}

// NewFresh returns an empty set. dir is where temporary files go. Whenever
// limit chunks (at most MaxEntries) are finished, emit is given a segment of
// them, one call at a time, and must keep it durably.
func NewFresh(dir string, limit int, emit func(ctx context.Context, segment []byte) error) *Fresh {
	return &Fresh{
		dir: dir, limit: max(1, min(limit, MaxEntries)), emit: emit, key: newPageKey(randomKey()),
		turn: make(chan struct{}, 1), pending: map[chunk.ID]struct{}{}, finished: newBatch(),
	}
}

// Claim asks what to do about a chunk. Of all claimers of one id exactly one
// is told New. An error means that the temporary files are damaged, and the
// session can't go on.
func (f *Fresh) Claim(id chunk.ID) (Location, State, error) {
	f.mu.Lock()
	if _, ok := f.pending[id]; ok {
		f.mu.Unlock()
		return Location{}, Pending, nil
	}
	if l, ok := f.inMemory(&id); ok {
		f.mu.Unlock()
		return l, Known, nil
	}
	// The id is claimed before the tables are searched, without the lock: until
	// the search is over others see it Pending, which is true of a chunk that
	// is found, too (X6).
	f.pending[id] = struct{}{}
	s, err := f.set.acquire()
	f.mu.Unlock()
	var l Location
	var found bool
	if err == nil {
		l, found, err = s.find(&id)
		s.release()
	}
	if err == nil && !found {
		return Location{}, New, nil
	}
	f.mu.Lock()
	delete(f.pending, id)
	f.mu.Unlock()
	if err != nil {
		return Location{}, 0, fmt.Errorf("claim chunk %s: %w", id.Short(), err)
	}
	return l, Known, nil
}

// inMemory searches what mu guards.
func (f *Fresh) inMemory(id *chunk.ID) (Location, bool) {
	if l, ok := f.finished.find(id); ok {
		return l, true
	}
	return f.emitting.find(id)
}

func (n *snapshot) find(id *chunk.ID) (loc Location, found bool, err error) {
	for _, t := range n.tables {
		err := t.find(id, func(l Location) bool {
			loc, found = l, true
			return false
		})
		if err != nil || found {
			return loc, found, err
		}
	}
	return loc, false, nil
}

// Lookup returns the place of a finished chunk.
func (f *Fresh) Lookup(id chunk.ID) (Location, bool, error) {
	f.mu.Lock()
	if l, ok := f.inMemory(&id); ok {
		f.mu.Unlock()
		return l, true, nil
	}
	s, err := f.set.acquire()
	f.mu.Unlock()
	if err != nil {
		return Location{}, false, err
	}
	defer s.release()
	return s.find(&id)
}

// Len returns how many chunks are finished.
func (f *Fresh) Len() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// Done reports where a chunk that was New has been stored. It may emit a
// segment, or wait for one that another call emits.
func (f *Fresh) Done(ctx context.Context, id chunk.ID, loc Location) error {
	if loc.ID != id {
		return fmt.Errorf("finish chunk %s: its place is of chunk %s", id.Short(), loc.ID.Short())
	}
	f.mu.Lock()
	if _, ok := f.pending[id]; !ok || f.failed != nil {
		err := f.failed
		f.mu.Unlock()
		if err != nil {
			return err
		}
		return fmt.Errorf("finish chunk %s: it was not claimed", id.Short())
	}
	delete(f.pending, id)
	f.finished.add(&loc)
	f.total++
	full := len(f.finished.entries) >= f.limit
	f.mu.Unlock()
	if !full {
		return nil
	}
	return f.spill(ctx, f.limit)
}

// Flush emits what has not been emitted. It refuses while chunks are in
// flight: others may have relied on them.
func (f *Fresh) Flush(ctx context.Context) error {
	f.mu.Lock()
	n := len(f.pending)
	f.mu.Unlock()
	if n > 0 {
		return fmt.Errorf("emit index segment: %d chunks are claimed but not stored", n)
	}
	return f.spill(ctx, 1)
}

// spill emits the finished chunks if there are at least this many.
func (f *Fresh) spill(ctx context.Context, least int) error {
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-f.turn }()
	f.mu.Lock()
	if f.failed != nil || len(f.finished.entries) < least {
		defer f.mu.Unlock()
		return f.failed
	}
	b := f.finished
	f.emitting, f.finished = b, newBatch()
	f.mu.Unlock()
	err := f.emitBatch(ctx, b)
	if err == nil {
		err = f.merge(ctx)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("emit index segment: %w", err)
	f.mu.Lock()
	f.failed = err
	f.mu.Unlock()
	return err
}

// emitBatch gives the batch away and moves it from memory into tables.
// Concurrent calls of Done can make it somewhat larger than one segment.
func (f *Fresh) emitBatch(ctx context.Context, b *batch) error {
	s, err := f.set.acquire()
	if err != nil {
		return err
	}
	defer s.release()
	tables := append([]*table(nil), s.tables...)
	for locs := b.locations(); len(locs) > 0; {
		n := min(len(locs), MaxEntries)
		t, err := f.emitSegment(ctx, locs[:n])
		if err != nil {
			closeTables(tables[len(s.tables):])
			return err
		}
		tables, locs = append(tables, t), locs[n:]
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.emitting = nil
	return f.set.replace(tables)
}

// merge keeps the number of tables small, as the Cache does.
func (f *Fresh) merge(ctx context.Context) error {
	s, err := f.set.acquire()
	if err != nil {
		return err
	}
	defer s.release()
	from, needed := planMerge(s.tables, maxTables)
	if !needed {
		return nil
	}
	t, err := f.create(func(w *tableWriter) error { return mergeTables(ctx, w, s.tables[from:]) })
	if err != nil {
		return err
	}
	return f.set.replace(append(append([]*table(nil), s.tables[:from]...), t))
}

func (f *Fresh) emitSegment(ctx context.Context, locs []Location) (*table, error) {
	b, err := EncodeSegment(locs)
	if err != nil {
		return nil, err
	}
	if err := f.emit(ctx, b); err != nil {
		return nil, err
	}
	seg, err := DecodeSegment("new index segment", b)
	if err != nil {
		return nil, err
	}
	return f.create(func(w *tableWriter) error { return writeSegment(ctx, w, &chunk.ID{}, seg) })
}

func (f *Fresh) create(fill func(*tableWriter) error) (*table, error) {
	file, err := os.CreateTemp(f.dir, "tidemark-fresh-*")
	if err != nil {
		return nil, fmt.Errorf("create temporary index: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("unlink temporary index: %w", err), file.Close())
	}
	return buildTable(f.key, newTableID(), file, fill)
}

// Close gives up the temporary files.
func (f *Fresh) Close() error {
	f.set.close()
	return nil
}
