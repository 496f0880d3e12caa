// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
	"github.com/zeebo/blake3"
)

// Builder gathers the chunks of one pack. Chunks are reserved in the order in
// which they will lie in the pack, encoded by several encoders at once, and
// added in any order.
type Builder struct {
	header Header
	head   []byte // the pack's first HeaderSize bytes
	keys   *seal.Keys
	cipher *seal.PackCipher
	target int64

	mu       sync.Mutex
	hashIdle sync.Cond
	slots    []slot // one per ticket
	frames   uint32
	size     int64 // of the pack: what is added, and the worst of what is in flight
	toc      int64 // share of size that is table of contents
	memory   slabSet
	hash     *blake3.Hasher
	hashed   int  // slots that hash has taken in
	hashing  bool // somebody is at it, without the lock
	closed   bool
}

type slot struct {
	enc  Encoded
	done bool
}

// Ticket is a chunk's place in a pack.
type Ticket struct {
	b     *Builder
	index int
	frame uint32 // number of the first frame
	plain int
}

// NewBuilder begins a pack of about target stored bytes.
func NewBuilder(keys *seal.Keys, h Header, target int) (*Builder, error) {
	var salt [32]byte
	rand.Read(salt[:]) // never fails
	return newBuilder(keys, h, target, salt)
}

func newBuilder(keys *seal.Keys, h Header, target int, salt [32]byte) (*Builder, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("begin pack: %w", err)
	}
	if target <= 0 || target > MaxPack {
		return nil, fmt.Errorf("begin pack: target of %d bytes, want 1 to %d", target, MaxPack)
	}
	cipher, err := keys.PackCipher(salt)
	if err != nil {
		return nil, fmt.Errorf("begin pack: %w", err)
	}
	b := &Builder{
		header: h,
		head:   makeHeader(h.Class, keys.ID(), salt),
		keys:   keys,
		cipher: cipher,
		target: int64(target),
		size:   HeaderSize + maxTOCHead + seal.Overhead + trailerSize,
		toc:    maxTOCHead + seal.Overhead,
		hash:   blake3.New(),
	}
	b.hashIdle.L = &b.mu
	b.hash.Write(b.head)
	return b, nil
}

// Reserve gives the next place in the pack to a chunk of plainLen bytes. It
// reports false where the chunk may not fit in the target beside what is
// there; to an empty pack every chunk fits. While a chunk is in flight it
// counts as if nothing of it could be compressed. A length that no chunk may
// have is told by Encode.
func (b *Builder) Reserve(plainLen int) (Ticket, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	stored, record := worst(plainLen)
	if b.closed || len(b.slots) > 0 && (b.size+stored+record > b.target || b.toc+record > MaxTOC) {
		return Ticket{}, false
	}
	t := Ticket{b: b, index: len(b.slots), frame: b.frames, plain: plainLen}
	b.slots = append(b.slots, slot{})
	b.frames += uint32(frameCount(plainLen))
	b.size += stored + record
	b.toc += record
	return t, true
}

// worst bounds the stored bytes of a chunk, and its record in the table of
// contents as long as its pieces are whole pages of 4 KiB.
func worst(plain int) (stored, record int64) {
	n := int64(plain)
	frames := int64(frameCount(plain))
	return n + frames*frameCost, 64 + 4*frames + 24*(n/4096+1)
}

// Chunks returns how many places are taken.
func (b *Builder) Chunks() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.slots)
}

// Add puts an encoded chunk in its place. It may be called from any goroutine
// and in any order; now and then a call also hashes what lies ready in order,
// while it is still in the processor's cache.
func (b *Builder) Add(t Ticket, enc Encoded) error {
	if t.b != b || enc.ticket != t || enc.stored == 0 {
		return errors.New("add chunk to pack: it was encoded for another place")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.slots[t.index]
	if b.closed || s.done {
		return errors.New("add chunk to pack: its place is taken already")
	}
	s.enc, s.done = enc, true
	stored, record := worst(t.plain)
	b.toc += int64(len(enc.record)) - record
	b.size += int64(enc.stored) + int64(len(enc.record)) - stored - record
	b.hashReady()
	return nil
}

// hashReady hashes the slots that follow without a gap, unlocking meanwhile.
func (b *Builder) hashReady() {
	if b.hashing {
		return
	}
	b.hashing = true
	for b.hashed < len(b.slots) && b.slots[b.hashed].done {
		enc := b.slots[b.hashed].enc // Reserve may move the slots
		b.mu.Unlock()
		for part := range enc.parts() {
			b.hash.Write(part)
		}
		b.mu.Lock()
		b.hashed++
	}
	b.hashing = false
	b.hashIdle.Broadcast()
}

// Discard gives the memory of a pack back that will not be finished. No
// Encode or Add of it may be under way.
func (b *Builder) Discard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.slots = nil
	b.memory.release()
}

func (b *Builder) takeSlab(n int) *slab {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.memory.take(n)
}

func (b *Builder) putSlab(s *slab) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.memory.put(s)
}

// Class returns the class of the ticket's pack.
func (t Ticket) class() chunk.Class { return t.b.header.Class }
