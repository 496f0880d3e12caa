// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// Chunk is what a session is asked to store. Plain stays the caller's; it is
// not kept after Put returns.
type Chunk struct {
	Class      chunk.Class
	Plain      []byte
	Pieces     []chunk.Piece // where in the volume it came from
	DigestSize int
}

// lane is the open pack of one class.
type lane struct {
	class chunk.Class
	mu    sync.Mutex
	open  *openPack
}

// openPack is a builder and the chunks still being encoded into it.
type openPack struct {
	*pack.Builder
	seq      uint32
	inFlight sync.WaitGroup
	done     chan struct{} // closed when its upload ended
}

// tools are what one worker needs at a time.
type tools struct {
	namer *chunk.Namer
	nodes *chunk.Namer
	enc   *pack.Encoder
}

func (t *tools) name(c *Chunk) chunk.ID {
	if c.Class == chunk.Map {
		return t.nodes.Name(c.Plain)
	}
	return t.namer.Name(c.Plain)
}

func newTools(keys *seal.Keys, domain string) *tools {
	return &tools{
		namer: chunk.NewNamer(keys.NameKey(domain)),
		nodes: chunk.NewNamer(keys.NameKey(mapDomain)),
		enc:   pack.NewEncoder(keys.DigestKey(domain)),
	}
}

// Put names the chunk and stores it unless it is known. It returns before the
// chunk is durable; Commit waits for that. Patch chunks do not consult the
// repository's index: random pages never match (DESIGN 4.1). After an error
// the session can't commit: a chunk may be missing.
func (s *Session) Put(ctx context.Context, c Chunk) (id chunk.ID, isNew bool, err error) {
	t := s.tools.Get().(*tools)
	defer s.tools.Put(t)
	id = t.name(&c)
	if c.Class != chunk.Map {
		s.chunks.Add(1)
	}
	if c.Class != chunk.Patch {
		loc, known, err := s.repo.find(ctx, id, true)
		if err == nil && known {
			err = s.seen.present(ctx, loc.Pack)
		}
		if err != nil || known {
			return id, false, s.fail(err)
		}
	}
	if _, state, err := s.fresh.Claim(id); err != nil || state != index.New {
		return id, false, s.fail(err)
	}
	if c.Class != chunk.Map {
		s.newChunks.Add(1)
		s.newBytes.Add(int64(len(c.Plain)))
	}
	ticket, open, err := s.reserve(ctx, c.Class, len(c.Plain))
	if err != nil {
		return id, false, s.fail(err)
	}
	defer open.inFlight.Done()
	enc, err := t.enc.Encode(ticket, c.Plain, pack.Info{ID: id, DigestSize: c.DigestSize, Pieces: c.Pieces})
	if err != nil {
		return id, false, s.fail(fmt.Errorf("encode chunk %s: %w", id.Short(), err))
	}
	if err := open.Add(ticket, enc); err != nil {
		return id, false, s.fail(err)
	}
	return id, true, nil
}

// reserve finds room in the class's open pack, sending a full one on its way.
func (s *Session) reserve(ctx context.Context, class chunk.Class, n int) (pack.Ticket, *openPack, error) {
	l := s.lanes[class]
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if err := errors.Join(ctx.Err(), s.failed()); err != nil {
			return pack.Ticket{}, nil, err
		}
		if l.open == nil {
			b, err := s.newPack(class)
			if err != nil {
				return pack.Ticket{}, nil, err
			}
			l.open = b
		}
		if t, ok := l.open.Reserve(n); ok {
			l.open.inFlight.Add(1)
			return t, l.open, nil
		}
		s.send(l)
		sendStale(s, l)
	}
}

// maxBehind is how many packs may be begun after a pack that is still open.
const maxBehind = 4

// sendStale sends data packs that stayed open while the given lane filled
// several: a backup that is killed is resumed only up to the first byte that is
// in no stored pack. Where another goroutine is at a lane, the next time will do.
func sendStale(s *Session, busy *lane) {
	for _, c := range []chunk.Class{chunk.Base, chunk.Patch} {
		l := s.lanes[c]
		if l == busy || !l.mu.TryLock() {
			continue
		}
		if l.open != nil && s.seq.Load() > l.open.seq+maxBehind {
			s.send(l)
		}
		l.mu.Unlock()
	}
}

func (s *Session) newPack(class chunk.Class) (*openPack, error) {
	domain := s.rec.Domain
	if class == chunk.Map {
		domain = mapDomain
	}
	h := pack.Header{Class: class, Domain: domain, Session: s.rec.Session, Seq: s.seq.Add(1) - 1}
	if _, err := hex.Decode(h.Volume[:], []byte(s.repo.VolumeKey(s.rec.Volume))); err != nil {
		return nil, fmt.Errorf("volume hash: %w", err)
	}
	b, err := pack.NewBuilder(s.repo.keyring.Current(), h, s.opt.Budget.PackBytes)
	if err != nil {
		return nil, err
	}
	return &openPack{Builder: b, seq: h.Seq, done: make(chan struct{})}, nil
}

// send hands the lane's open pack to an upload; it waits while too many are
// under way, which is the back-pressure on everything before. l.mu is held.
func (s *Session) send(l *lane) {
	p := l.open
	l.open = nil
	if p == nil {
		return
	}
	s.room <- struct{}{} // an upload ends soon after upCtx does
	s.mu.Lock()
	s.sent[p] = struct{}{}
	s.mu.Unlock()
	go func() {
		_ = s.fail(s.upload(s.upCtx, p)) // kept for whoever waits
		s.mu.Lock()
		delete(s.sent, p)
		s.mu.Unlock()
		close(p.done)
		<-s.room
	}()
}

// wait ends when the uploads have that are under way now.
func (s *Session) wait() {
	s.mu.Lock()
	sent := slices.Collect(maps.Keys(s.sent))
	s.mu.Unlock()
	for _, p := range sent {
		<-p.done
	}
}

func (s *Session) upload(ctx context.Context, p *openPack) error {
	p.inFlight.Wait()
	if err := s.failed(); err != nil {
		p.Discard()
		return err
	}
	f, err := p.Finish()
	if err != nil {
		return fmt.Errorf("finish pack %d: %w", p.seq, err)
	}
	defer f.Release()
	id := index.PackID{Session: f.Header.Session, Seq: f.Header.Seq, Hash: f.Hash, Size: uint32(f.Size), Class: f.Header.Class}
	if err := s.store.Put(ctx, id.Name(), objstore.Body(f.Body)); err != nil {
		if err := s.repo.stored(ctx, id.Name(), f.Body, err); err != nil {
			return fmt.Errorf("store pack: %w", err)
		}
	}
	s.packs.Add(1)
	s.packBytes.Add(f.Size)
	s.dataBytes.Add(f.DataBytes)
	report := PackReport{Pack: id, Entries: make([]index.Location, len(f.Entries))}
	for i, e := range f.Entries {
		report.Entries[i] = index.Location{Pack: id, Entry: e}
	}
	if s.opt.OnPack != nil {
		if err := s.opt.OnPack(report); err != nil {
			return err
		}
	}
	for _, loc := range report.Entries {
		if err := s.fresh.Done(ctx, loc.ID, loc); err != nil {
			return err
		}
	}
	return nil
}

// stored forgives a failed put of bytes that are there all the same: an answer
// was lost. It looks, for a store that only says so would lose them.
func (r *vault) stored(ctx context.Context, name string, body objstore.Body, failure error) error {
	if !errors.Is(failure, objstore.ErrExists) {
		return failure
	}
	same, err := objstore.Same(ctx, r.store, name, body)
	if err != nil || !same {
		return errors.Join(failure, err)
	}
	return nil
}

// flush makes durable what the classes' open packs hold.
func (s *Session) flush(classes ...chunk.Class) error {
	for _, c := range classes {
		l := s.lanes[c]
		l.mu.Lock()
		s.send(l)
		l.mu.Unlock()
	}
	s.wait()
	return s.failed()
}

// putSegment stores an index segment; package index calls it when enough
// chunks came together. The name holds the hash of the plaintext, so a resumed
// session that comes to the same segment finds it there.
func (s *Session) putSegment(ctx context.Context, plain []byte) error {
	s.mu.Lock()
	name := segmentName(s.rec.Session, len(s.segments), digestOf(plain))
	s.mu.Unlock()
	sealed, err := s.repo.keyring.SealRecord(s.repo.config.repoID(), name, plain)
	if err != nil {
		return err
	}
	err = s.store.Put(ctx, name, objstore.Body{sealed})
	if errors.Is(err, objstore.ErrExists) {
		sealed, err = s.repo.sameSegment(ctx, name, plain)
	}
	if err != nil {
		return fmt.Errorf("store index segment: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments, Segment{ObjectRef: refOf(name, sealed)})
	return nil
}

func (r *vault) sameSegment(ctx context.Context, name string, plain []byte) ([]byte, error) {
	sealed, err := objstore.ReadAll(ctx, r.store, name, maxRecordSize)
	if err != nil {
		return nil, err
	}
	there, err := r.keyring.OpenRecord(r.config.repoID(), name, sealed)
	if err == nil && !bytes.Equal(there, plain) {
		err = &seal.CorruptError{Object: name, Detail: "holds another segment than its name says"}
	}
	return sealed, err
}

func (l *lane) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != nil {
		l.open.Discard()
		l.open = nil
	}
}

// Durable tells whether a chunk is stored in a pack that exists.
func (s *Session) Durable(id chunk.ID) (bool, error) {
	_, ok, err := s.location(s.upCtx, id, true)
	return ok, err
}

// PlainLength is the length of a durable chunk.
func (s *Session) PlainLength(id chunk.ID) (int64, error) {
	loc, ok, err := s.location(s.upCtx, id, false)
	if err == nil && !ok {
		err = &MissingChunkError{ID: id}
	}
	return int64(loc.Plain), err
}

func (s *Session) location(ctx context.Context, id chunk.ID, writer bool) (index.Location, bool, error) {
	if loc, ok, err := s.fresh.Lookup(id); ok || err != nil {
		return loc, ok, err
	}
	return s.repo.find(ctx, id, writer)
}

func (s *Session) fail(err error) error {
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.cancel()
	}
	return err
}

func (s *Session) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// witnessed are packs that one session saw in the store.
type witnessed struct {
	packs sync.Map // by hash
	store objstore.Store
}

// present proves, once per session and pack, that a pack which the session's
// point is going to rest on is still in the store: nobody may learn at the
// restore that it was lost before the backup.
func (w *witnessed) present(ctx context.Context, p index.PackID) error {
	if _, ok := w.packs.Load(p.Hash); ok {
		return nil
	}
	info, err := w.store.Stat(ctx, p.Name())
	switch {
	case errors.Is(err, objstore.ErrNotExist):
		return &seal.CorruptError{Object: p.Name(), Detail: "is gone from the store, and it holds chunks that this volume has, too"}
	case err != nil:
		return fmt.Errorf("look for pack %s: %w", p.Name(), err)
	case info.Size != int64(p.Size):
		return &seal.CorruptError{Object: p.Name(), Detail: fmt.Sprintf("has %d bytes, its index says %d", info.Size, p.Size)}
	}
	w.packs.Store(p.Hash, struct{}{})
	return nil
}
