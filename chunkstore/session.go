// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/meter"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// Errors of a session's end.
var (
	ErrFenced  = errors.New("the session was ended by a collector: nothing of it counts, run the backup again")
	ErrDecided = errors.New("the session is already decided")
	ErrForeign = errors.New("the session is another writer's")
)

// Budget bounds what a session keeps in memory and in flight.
type Budget struct {
	PackBytes    int // a pack is closed at this size; at most 64 MiB
	Uploads      int // packs on their way to the store at once
	FreshEntries int // new chunks remembered on the heap before they become an index segment
}

// SessionOptions describe a writer.
type SessionOptions struct {
	Volume string
	Domain string
	Base   *Point // pinned for the session's life; nil for none
	Budget Budget
	// OnPack is called once for each pack that is durable, from any goroutine.
	OnPack func(PackReport) error
}

// PackReport tells a journal about a durable pack.
type PackReport struct {
	Pack    index.PackID     `json:"pack"`
	Entries []index.Location `json:"-"`
}

// Packs calls yield for each pack that a journal saw become durable; nil is none.
type Packs func(yield func(PackReport) error) error

// Session is one writer. Put and the node methods are safe for concurrent use;
// Commit and Close are called once, after all of those returned.
type Session struct {
	repo   *Repository
	store  *meter.Store
	rec    SessionRecord
	opt    SessionOptions
	fresh  *index.Fresh
	lanes  [chunk.Map + 1]*lane
	tools  sync.Pool
	seen   witnessed
	room   chan struct{} // one token per upload under way
	upCtx  context.Context
	cancel context.CancelFunc

	BaseForgotten bool // the base has a tombstone: it must not be used
	Branched      bool // another session extends the same base

	openBytes int64 // of the announcement, which this process put

	packs     atomic.Int64
	packBytes atomic.Int64
	dataBytes atomic.Int64
	newBytes  atomic.Int64
	chunks    atomic.Int64
	newChunks atomic.Int64
	seq       atomic.Uint32

	mu       sync.Mutex
	sent     map[*openPack]struct{} // uploads under way
	segments []Segment
	err      error
}

// Begin creates the session (and so pins the base), then reads the base's
// tombstone, the epochs and the sessions since the base: in that order (C3). A
// number that a collector folded meanwhile is void, whatever is created under it.
func (r *Repository) Begin(ctx context.Context, opt SessionOptions) (*Session, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	if r.writable() != nil { // looked at again before anything is created
		if err := r.refreshToWrite(ctx); err != nil {
			return nil, fmt.Errorf("begin session: %w", err)
		}
	}
	if err := r.proveCreateOnce(ctx); err != nil {
		return nil, err
	}
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("draw session nonce: %w", err)
	}
	rec := SessionRecord{
		Nonce: hex.EncodeToString(nonce[:]), Volume: opt.Volume, Domain: opt.Domain,
		Host: r.opt.Host, Program: r.opt.Program, Started: r.now().UTC(),
	}
	if opt.Base != nil {
		rec.Base = &PointRef{ID: opt.Base.ID, Session: opt.Base.Session}
	}
	var put int64
	for void := true; void; {
		n, err := r.createOpen(ctx, &rec)
		if err != nil {
			return nil, fmt.Errorf("begin session: %w", err)
		}
		put += n
		if err := errors.Join(r.Refresh(ctx), r.writable()); err != nil {
			return nil, err
		}
		r.mu.Lock()
		void = rec.Session < r.watermark()
		r.mu.Unlock()
	}
	s, err := r.newSession(ctx, rec, opt, nil)
	if err == nil {
		s.openBytes = put
	}
	return s, err
}

const maxVolumeName = 1024

// check refuses names that the format can't hold as they are: JSON would change
// what is no UTF-8, and the volume would be another one when it is read again.
func (o *SessionOptions) check() error {
	switch {
	case o.Volume == "" || len(o.Volume) > maxVolumeName || !utf8.ValidString(o.Volume):
		return fmt.Errorf("volume name %.40q is empty, longer than %d bytes or not UTF-8", o.Volume, maxVolumeName)
	case len(o.Domain) > pack.MaxDomain || !utf8.ValidString(o.Domain):
		return fmt.Errorf("deduplication domain %.40q is longer than %d bytes or not UTF-8", o.Domain, pack.MaxDomain)
	}
	return nil
}

// proveCreateOnce sees the store refuse to create a name again, or nothing in
// here would be safe. What lies under the name counts for nothing, and each
// proof has bytes of its own: a put that was tried again may find its own.
func (r *vault) proveCreateOnce(ctx context.Context) error {
	if r.proven.Load() {
		return nil
	}
	for range 2 { // the first proof ever creates the object
		err := r.store.Put(ctx, proofName, objstore.Body{[]byte(rand.Text())})
		if errors.Is(err, objstore.ErrExists) {
			r.proven.Store(true)
			return nil
		}
		if err != nil {
			return fmt.Errorf("prove that the store creates names once: %w", err)
		}
	}
	return fmt.Errorf("%s: %w", r.store, ErrOverwrites)
}

// createOpen wins the next free session number and tells how many bytes it put.
func (r *roster) createOpen(ctx context.Context, rec *SessionRecord) (int64, error) {
	if err := r.findEnd(ctx); err != nil {
		return 0, err
	}
	r.mu.Lock()
	rec.Session = max(r.end, r.watermark())
	r.mu.Unlock()
	for {
		name := sessionName(rec.Session)
		data, err := r.sealRecord(name, rec)
		if err != nil {
			return 0, err
		}
		err = r.store.Put(ctx, name, objstore.Body{data})
		won := err == nil
		if errors.Is(err, objstore.ErrExists) {
			// What is refused must be there to be read, or the store lies and this
			// would go on for ever; and it may be our own, if the answer was lost. A
			// damaged one is somebody's.
			var there *SessionRecord
			there, err = r.readOpen(ctx, rec.Session)
			won = err == nil && there.Nonce == rec.Nonce
			if _, bad := asDamage(name, err); bad {
				err = nil
			}
		}
		if err != nil {
			return 0, err
		}
		r.mu.Lock()
		r.end = max(r.end, rec.Session+1)
		r.mu.Unlock()
		if won {
			return int64(len(data)), nil
		}
		rec.Session++
	}
}

// Resume continues a session that a killed process of this machine left
// undecided. known are the packs that its journal saw become durable.
func (r *Repository) Resume(ctx context.Context, number uint64, nonce string, opt SessionOptions, known Packs) (*Session, error) {
	if err := r.proveCreateOnce(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(r.Refresh(ctx), r.writable()); err != nil {
		return nil, err
	}
	r.mu.Lock()
	folded := number < r.watermark()
	r.mu.Unlock()
	if folded {
		return nil, fmt.Errorf("session %d: %w", number, ErrDecided)
	}
	rec, err := r.readOpen(ctx, number)
	if errors.Is(err, objstore.ErrNotExist) {
		return nil, fmt.Errorf("session %d: %w", number, ErrForeign)
	}
	if err != nil {
		return nil, err
	}
	if rec.Nonce != nonce || rec.Volume != opt.Volume || rec.Domain != opt.Domain || !rec.pins(opt.Base) {
		return nil, fmt.Errorf("session %d: %w", number, ErrForeign)
	}
	if o, err := r.readOutcome(ctx, number); err != nil || o != nil {
		return nil, errors.Join(err, ErrDecided)
	}
	return r.newSession(ctx, *rec, opt, known)
}

// pins tells whether the session was announced with this base, or with none.
func (s *SessionRecord) pins(base *Point) bool {
	if s.Base == nil || base == nil {
		return s.Base == nil && base == nil
	}
	return s.Base.ID == base.ID
}

func (r *Repository) newSession(ctx context.Context, rec SessionRecord, opt SessionOptions, known Packs) (*Session, error) {
	if _, err := r.Index(ctx); err != nil {
		return nil, err
	}
	s := &Session{repo: r, store: meter.Wrap(r.store), rec: rec, opt: opt, sent: map[*openPack]struct{}{}}
	s.seen.store = r.store
	if err := s.checkBase(ctx); err != nil {
		return nil, err
	}
	s.tools.New = func() any { return newTools(r.keyring.Current(), rec.Domain) }
	for c := chunk.Base; c <= chunk.Map; c++ {
		s.lanes[c] = &lane{class: c}
	}
	s.upCtx, s.cancel = context.WithCancel(ctx) // a cancelled backup stops its uploads
	s.room = make(chan struct{}, max(1, opt.Budget.Uploads))
	s.fresh = index.NewFresh(r.dir, min(max(1024, opt.Budget.FreshEntries), index.MaxEntries), s.putSegment)
	if err := s.adopt(known); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// adopt takes over the packs of the session's earlier life. Others that its
// journal did not see may exist under the next numbers; a pack's name holds its
// hash, so nothing is overwritten.
func (s *Session) adopt(known Packs) error {
	if known == nil {
		return nil
	}
	return known(func(p PackReport) error {
		s.packs.Add(1)
		s.packBytes.Add(int64(p.Pack.Size))
		s.seq.Store(max(s.seq.Load(), p.Pack.Seq+1))
		for _, loc := range p.Entries {
			_, state, err := s.fresh.Claim(loc.ID)
			if err == nil && state == index.New {
				err = s.fresh.Done(s.upCtx, loc.ID, loc)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// checkBase looks for the base's tombstone and for another session that
// extends the same base, which makes this one a branch of its line. A tombstone
// that does not open may have been a true one, upon which a collector acted: a
// forged one costs a full backup, to build on a forgotten point costs the new one.
func (s *Session) checkBase(ctx context.Context) error {
	base := s.rec.Base
	if base == nil {
		return nil
	}
	there, _, err := s.repo.tombstone(ctx, base.ID)
	if err != nil {
		return err
	}
	s.BaseForgotten = there
	s.Branched, err = s.repo.extendedBefore(ctx, *base, s.rec.Session)
	return err
}

// extendedBefore tells whether a session below number, that counts or may
// still count, has the same base.
func (r *roster) extendedBefore(ctx context.Context, base PointRef, number uint64) (bool, error) {
	for n := base.Session + 1; n < number; n++ {
		r.mu.Lock()
		o, folded := r.outcomes[n], n < r.watermark()
		r.mu.Unlock()
		if o != nil {
			for _, p := range o.Points {
				if o.State == StateCommitted && p.Base == base.ID {
					return true, nil
				}
			}
			continue
		}
		if folded {
			continue // void: it can never count
		}
		rec, err := r.readOpen(ctx, n)
		_, unknown := asDamage(sessionName(n), err)
		unknown = unknown || errors.Is(err, objstore.ErrNotExist)
		if err != nil && !unknown {
			return false, err
		}
		// One that is damaged, or should be there and is not, may have had this
		// base: a branch too many costs little.
		if unknown || rec.Base != nil && rec.Base.ID == base.ID {
			return true, nil
		}
	}
	return false, nil
}

// Number is the session's number: the birth of what it changes.
func (s *Session) Number() uint64 { return s.rec.Session }

// Nonce proves to a later process of this machine that the session is its own.
func (s *Session) Nonce() string { return s.rec.Nonce }

// Stats are exact counts of what the session did so far.
type Stats struct {
	Chunks, NewChunks int64
	NewBytes          int64 // plaintext of new data chunks
	ShippedBytes      int64 // bytes of all objects put
	DataBytes         int64 // sealed frames of base and patch chunks among them
}

// Stats may be called at any time.
func (s *Session) Stats() Stats {
	return Stats{
		Chunks: s.chunks.Load(), NewChunks: s.newChunks.Load(), NewBytes: s.newBytes.Load(),
		ShippedBytes: s.openBytes + s.store.Counts().PutBytes, DataBytes: s.dataBytes.Load(),
	}
}

// Close gives up what is in flight and releases memory. The session stays
// undecided unless Commit succeeded, so that it can be resumed.
func (s *Session) Close() error {
	s.cancel()
	s.wait()
	for _, l := range s.lanes {
		if l != nil {
			l.drop()
		}
	}
	return s.fresh.Close()
}
