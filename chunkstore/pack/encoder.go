// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/pierrec/lz4/v4"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// ErrVerify says that freshly encoded bytes do not decode to what they were
// made from.
var ErrVerify = errors.New("encoded bytes do not decode to their plaintext: memory or library fault")

// Info is what is known of a chunk besides its bytes.
type Info struct {
	ID         chunk.ID
	DigestSize int // 0 for none, or a power of two from 4 KiB to 64 KiB
	Pieces     []chunk.Piece
}

// Encoded is a chunk ready for its place. Its memory belongs to the pack.
type Encoded struct {
	ticket Ticket
	id     chunk.ID
	stored uint32
	record []byte // in the table of contents
	some   [3][]byte
	more   [][]byte // for chunks that cross many slabs
}

// Stored returns how many bytes the chunk takes in the pack.
func (e *Encoded) Stored() int64 { return int64(e.stored) }

// parts yields the stored bytes in order.
func (e *Encoded) parts() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, list := range [2][][]byte{e.some[:], e.more} {
			for _, p := range list {
				if len(p) == 0 || !yield(p) {
					return
				}
			}
		}
	}
}

func (e *Encoded) addPart(p []byte) {
	if len(p) == 0 {
		return
	}
	e.stored += uint32(len(p))
	for i := range e.some {
		if e.some[i] == nil {
			e.some[i] = p
			return
		}
	}
	e.more = append(e.more, p)
}

// Encoder turns chunks into sealed frames, one frame after the other while it
// is in the cache. It is not for concurrent use: every worker has its own. A
// chunk of up to 1 MiB allocates nothing but its share of a slab.
type Encoder struct {
	lz       lz4.Compressor
	digester *chunk.Digester
	decoder  *Decoder
	block    [chunk.FrameSize - 1]byte // LZ4's output, as long as it shrinks
	plain    []byte                    // of the frame that is verified
	head     [8]byte
	record   []byte
	digests  []chunk.Digest
}

// NewEncoder returns an encoder that digests pieces under this key.
func NewEncoder(digestKey [32]byte) *Encoder {
	return &Encoder{
		digester: chunk.NewDigester(digestKey),
		decoder:  NewDecoder(),
		plain:    make([]byte, 0, chunk.FrameSize),
	}
}

// Encode compresses and seals a chunk for the place that the ticket holds,
// and decodes what it made once. The plaintext is the caller's again when
// Encode returns. After an error (ErrVerify among them) the pack can't be
// finished.
func (e *Encoder) Encode(t Ticket, plain []byte, info Info) (Encoded, error) {
	if t.b == nil || len(plain) != t.plain || len(plain) < 1 || len(plain) > MaxPlain {
		return Encoded{}, fmt.Errorf("encode chunk %s: %d bytes, reserved %d, at most %d are allowed", info.ID.Short(), len(plain), t.plain, MaxPlain)
	}
	if err := info.check(t.class(), int64(len(plain))); err != nil {
		return Encoded{}, fmt.Errorf("encode chunk %s: %w", info.ID.Short(), err)
	}
	e.record = appendChunkHead(e.record[:0], info.ID, len(plain))
	w := slabWriter{b: t.b, out: Encoded{ticket: t, id: info.ID}, slab: t.b.takeSlab(frameCost + 1)}
	w.start = w.slab.used
	for i := range frameCount(len(plain)) {
		off := i * chunk.FrameSize
		stored, err := e.frame(&w, t, i, plain[off:min(off+chunk.FrameSize, len(plain))])
		if err != nil {
			return Encoded{}, fmt.Errorf("encode chunk %s: frame %d: %w", info.ID.Short(), i, err)
		}
		e.record = appendFrame(e.record, stored)
	}
	e.digest(plain, info)
	e.record = appendOrigin(e.record, info, e.digests)
	if len(e.record) > slabSize {
		return Encoded{}, fmt.Errorf("encode chunk %s: %d pieces take %d bytes to list, at most %d are allowed", info.ID.Short(), len(info.Pieces), len(e.record), slabSize)
	}
	w.flush()
	w.out.record = append(w.grab(len(e.record)), e.record...)
	t.b.putSlab(w.slab)
	return w.out, nil
}

// frame compresses, seals and verifies one frame.
func (e *Encoder) frame(w *slabWriter, t Ticket, i int, plain []byte) (FrameStored, error) {
	// A destination one byte shorter than the source makes LZ4 give up exactly
	// where the block would not shrink; it then returns 0 or an error.
	payload, raw := plain, true
	if n, err := e.lz.CompressBlock(plain, e.block[:len(plain)-1]); err == nil && n > 0 {
		payload, raw = e.block[:n], false
	}
	f := frameOf(frameStored(len(payload)+seal.Overhead, raw), i, t.plain)
	f.put(&e.head)
	n := uint64(t.frame) + uint64(i)
	out := w.grab(frameCost + len(payload))
	out = t.b.cipher.Seal(out, e.head[:], nil, seal.FrameHeader, n)
	out = t.b.cipher.Seal(out, payload, nil, seal.FramePayload, n)
	return f.stored, e.verify(t, n, f, out, plain)
}

// verify decodes the bytes that will be stored, as a reader would.
func (e *Encoder) verify(t Ticket, n uint64, want frame, stored, plain []byte) error {
	got, err := e.decoder.header(t.b.cipher, stored, n)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrVerify, err)
	}
	if got != want {
		return ErrVerify
	}
	if e.plain, err = e.decoder.payload(t.b.cipher, stored[frameHeader:], n, got, e.plain[:0]); err != nil {
		return fmt.Errorf("%w: %w", ErrVerify, err)
	}
	if !bytes.Equal(e.plain, plain) {
		return ErrVerify
	}
	return nil
}

// digest fills e.digests.
func (e *Encoder) digest(plain []byte, info Info) {
	e.digests = e.digests[:0]
	chunk.DigestPieces(info.Pieces, int64(info.DigestSize), func(off, _, n int64) {
		e.digests = append(e.digests, e.digester.Sum(plain[off:off+n]))
	})
}

// slabWriter hands out room in slabs and notes the stretches that were used.
type slabWriter struct {
	b     *Builder
	out   Encoded
	slab  *slab
	start int // in slab, of what belongs to out and is not noted
}

func (w *slabWriter) grab(n int) []byte {
	if w.slab.room() < n {
		w.flush()
		w.slab = w.b.takeSlab(n)
		w.start = w.slab.used
	}
	return w.slab.grab(n)
}

func (w *slabWriter) flush() {
	w.out.addPart(w.slab.buf[w.start:w.slab.used:w.slab.used])
	w.start = w.slab.used
}
