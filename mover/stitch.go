// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"fmt"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/cdc"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// patchBytes is the size at which a patch chunk is closed; maxOpenSlabs how many
// slabs may pass before an open one is closed though not full, so that what the
// collector holds back stays small.
const (
	patchBytes   = 256 << 10
	maxOpenSlabs = 32
)

// chunkJob is one chunk on its way through a worker to the collector.
type chunkJob struct {
	class  chunk.Class
	plain  []byte
	pieces []piece
	hold   *blockio.Buf // one reference, released when the chunk is stored
	id     chunk.ID
	done   chan struct{}
}

// event is what the collector receives, in the order of the stream.
type event struct {
	job   *chunkJob         // wait for it, then take its extents
	holes []blockdiff.Range // explicit zeros
	lost  []blockdiff.Range
	mark  int64 // no later event holds anything below this offset
}

// stitcher is the sequential stage: it finds the true cuts and gathers patches.
type stitcher struct {
	b    *pipeline
	cuts *cdc.Stitcher

	carry       *blockio.Buf // the beginning of a chunk whose end lies in a later block
	carried     int
	carryPieces []piece
	lastEnd     int64 // end in the volume of the last byte that went into the stream; -1: none

	patch       *blockio.Buf
	patched     int
	patchPieces []piece
	patchAge    int
}

func newStitcher(b *pipeline) *stitcher {
	p := b.cutParams
	return &stitcher{b: b, cuts: cdc.NewStitcher(&p), lastEnd: -1}
}

// slab takes the next slab in order and passes on what is complete.
func (st *stitcher) slab(ctx context.Context, s *slab) error {
	for i := range s.blocks {
		if err := st.block(ctx, s.buf, &s.blocks[i]); err != nil {
			return err
		}
	}
	for _, p := range s.patches {
		if err := st.gather(ctx, p); err != nil {
			return err
		}
	}
	if st.carry != nil && s.task.end-st.lastEnd >= longRun {
		// Whatever block comes next lies behind a hole that ends the chunk. Ending it
		// now lets the mark move on over any number of slabs that hold patches only.
		if err := st.endChunk(ctx); err != nil {
			return err
		}
	}
	if st.patch != nil {
		if st.patchAge++; st.patchAge > maxOpenSlabs {
			if err := st.closePatch(ctx); err != nil {
				return err
			}
		}
	}
	mark := s.task.end
	if st.carry != nil {
		mark = min(mark, st.carryPieces[0].off)
	}
	if st.patch != nil {
		mark = min(mark, st.patchPieces[0].off)
	}
	return st.b.collect(ctx, event{holes: s.holes, lost: s.lost, mark: mark})
}

// finish closes what is open at the end of the stream.
func (st *stitcher) finish(ctx context.Context) error {
	if err := st.endChunk(ctx); err != nil {
		return err
	}
	if err := st.closePatch(ctx); err != nil {
		return err
	}
	return st.b.collect(ctx, event{mark: st.b.size})
}

// release gives back buffers after an error.
func (st *stitcher) release() {
	for _, b := range []*blockio.Buf{st.carry, st.patch} {
		if b != nil {
			_ = b.Release()
		}
	}
}

func (st *stitcher) block(ctx context.Context, buf *blockio.Buf, b *block) error {
	if st.lastEnd < 0 || b.pieces[0].off-st.lastEnd >= longRun {
		if err := st.endChunk(ctx); err != nil {
			return err
		}
		st.cuts.Break()
	}
	last := b.pieces[len(b.pieces)-1]
	st.lastEnd = last.off + last.n
	from := 0
	rest := remainder{parts: b.parts, pieces: b.pieces}
	err := st.cuts.NextParts(b.parts, &b.cuts, func(end int) error {
		n := end - from
		from = end
		return st.chunk(ctx, buf, &rest, n)
	})
	if err != nil {
		return err
	}
	return st.keepParts(ctx, &rest, rest.length())
}

// chunk passes on the next n bytes, which end a chunk. Only a chunk whose
// beginning is carried, or that spans parts, is copied.
func (st *stitcher) chunk(ctx context.Context, buf *blockio.Buf, rest *remainder, n int) error {
	if st.carry != nil || len(rest.first()) < n {
		if err := st.keepParts(ctx, rest, n); err != nil {
			return err
		}
		return st.endChunk(ctx)
	}
	if err := buf.Retain(); err != nil {
		return err
	}
	data, p := rest.take(n)
	return st.b.send(ctx, &chunkJob{class: chunk.Base, plain: data, pieces: []piece{p}, hold: buf})
}

// keepParts copies the next n bytes out of their slab.
func (st *stitcher) keepParts(ctx context.Context, rest *remainder, n int) error {
	for n > 0 {
		data, p := rest.take(min(n, len(rest.first())))
		n -= len(data)
		if err := st.keep(ctx, data, p); err != nil {
			return err
		}
	}
	return nil
}

// remainder is what is left of a block.
type remainder struct {
	parts  [][]byte
	pieces []piece // one for each part
	used   int     // bytes of the first part that are gone
}

// first is what is left of the first part.
func (r *remainder) first() []byte { return r.parts[0][r.used:] }

// take splits n bytes off the first part; it has that many.
func (r *remainder) take(n int) ([]byte, piece) {
	data := r.first()[:n]
	p := piece{off: r.pieces[0].off + int64(r.used), n: int64(n)}
	r.used += n
	if r.used == len(r.parts[0]) {
		r.parts, r.pieces, r.used = r.parts[1:], r.pieces[1:], 0
	}
	return data, p
}

func (r *remainder) length() int {
	n := -r.used
	for _, p := range r.parts {
		n += len(p)
	}
	return n
}

// keep copies the beginning of a chunk out of its slab.
func (st *stitcher) keep(ctx context.Context, data []byte, p piece) error {
	if st.carry == nil {
		buf, err := st.b.chunkBufs.Get(ctx)
		if err != nil {
			return err
		}
		st.carry, st.carried, st.carryPieces = buf, 0, nil
	}
	if room := st.carry.Bytes()[st.carried:]; len(data) > len(room) {
		return fmt.Errorf("a chunk of more than %d bytes came from the cutter: nothing is stored", st.carried+len(room))
	}
	st.carried += copy(st.carry.Bytes()[st.carried:], data)
	st.carryPieces = appendPiece(st.carryPieces, p)
	return nil
}

// endChunk passes on the carried chunk.
func (st *stitcher) endChunk(ctx context.Context) error {
	if st.carry == nil {
		return nil
	}
	buf := st.carry
	st.carry = nil
	return st.b.send(ctx, &chunkJob{class: chunk.Base, plain: buf.Bytes()[:st.carried], pieces: st.carryPieces, hold: buf})
}

// gather adds a scattered piece to the open patch chunk.
func (st *stitcher) gather(ctx context.Context, p piece) error {
	for p.n > 0 {
		if st.patch == nil {
			buf, err := st.b.chunkBufs.Get(ctx)
			if err != nil {
				return err
			}
			st.patch, st.patched, st.patchPieces, st.patchAge = buf, 0, nil, 0
		}
		n := copy(st.patch.Bytes()[st.patched:patchBytes], p.data)
		st.patchPieces = appendPiece(st.patchPieces, piece{off: p.off, n: int64(n), birth: p.birth})
		st.patched += n
		p.off, p.n, p.data = p.off+int64(n), p.n-int64(n), p.data[n:]
		if st.patched == patchBytes {
			if err := st.closePatch(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (st *stitcher) closePatch(ctx context.Context) error {
	if st.patch == nil {
		return nil
	}
	buf := st.patch
	st.patch = nil
	return st.b.send(ctx, &chunkJob{class: chunk.Patch, plain: buf.Bytes()[:st.patched], pieces: st.patchPieces, hold: buf})
}

// store is a chunk worker's step.
func (p *pipeline) store(ctx context.Context, j *chunkJob, origin []chunk.Piece) ([]chunk.Piece, error) {
	origin = origin[:0]
	for _, from := range j.pieces {
		origin = append(origin, chunk.Piece{Offset: from.off, Length: from.n})
	}
	size := p.opt.DigestSize
	if j.class == chunk.Patch {
		size = patchDigest
	}
	id, _, err := p.session.Put(ctx, chunkstore.Chunk{Class: j.class, Plain: j.plain, Pieces: origin, DigestSize: size})
	j.id = id
	return origin, err
}

// patchDigest is the size of digest pieces of patch chunks: a database's page.
const patchDigest = 8 << 10
