// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// batch is a part of a volume whose extents fit in memory: they are restored
// in the order in which they are stored. Its lists refer to each other by
// number, so that the garbage collector has nothing to follow.
type batch struct {
	from, to int64 // of the volume
	extents  []mapped
	chunks   []wanted
	packs    []wantedPack
	order    []uint32 // chunks to fetch, by pack and offset
	turns    []uint32 // the same by stripe, pack and offset
	place    []uint32 // of each chunk in order
	taken    []bool   // chunks that are in a job
	zeros    []blockdiff.Range
	cost     int   // bytes of memory
	skipped  int64 // bytes of the volume that need nothing

	byID   map[chunk.ID]uint32
	byPack map[index.PackID]uint32
	ranks  []uint32 // of packs, by their place in packs
}

// stripe is what part of a volume is worked on at a time. Packs hold stretches of
// the volume, each in its order, so on the way through the volume every pack is
// read from its beginning to its end. Emptying them one after the other would
// fetch in larger pieces, but each would send pages all over the target, and the
// disk would write the whole volume in single pages (measured: a volume with 100
// generations of pages took three times as long).
const stripe = 4 << 20

// stripeOf is where a chunk is first mapped.
func (b *batch) stripeOf(c *wanted) int64 { return b.extents[c.first-1].off / stripe }

// mapped is an extent in the list of its chunk.
type mapped struct {
	off   int64
	n, at uint32
	next  uint32 // number of the chunk's next extent plus one; 0 at the end
}

// wanted is a chunk of the batch.
type wanted struct {
	pack.Entry
	pack        uint32 // place in packs, or packCached
	first, last uint32 // extents, plus one
}

// packCached is the place of chunks that are not fetched: a stream has their plaintext.
const packCached = 1<<32 - 1

// wantedPack is a pack of the batch.
type wantedPack struct {
	id     index.PackID
	name   string
	asked  bool          // some job brings the cipher
	ready  chan struct{} // closed when it has
	cipher *seal.PackCipher
}

// gap is how far apart chunks of a pack may lie to be fetched by one request:
// what a round trip to a near store is worth in bytes.
const gap = 256 << 10

// What the lists cost, with what append and maps keep in reserve.
const (
	extentCost = 2 * 24
	chunkCost  = 2*64 + 96
	zeroCost   = 2 * 16
	packCost   = 2*128 + 256
)

// largestStored is what a chunk can take in a pack at most.
const largestStored = pack.MaxPlain + (pack.MaxPlain/chunk.FrameSize)*(24+seal.Overhead)

func (b *batch) reset(from int64) {
	if b.byID == nil {
		b.byID, b.byPack = map[chunk.ID]uint32{}, map[index.PackID]uint32{}
	}
	clear(b.byID)
	clear(b.byPack)
	clear(b.packs)
	b.from, b.to, b.cost, b.skipped = from, from, 0, 0
	b.extents, b.chunks, b.packs = b.extents[:0], b.chunks[:0], b.packs[:0]
	b.order, b.zeros = b.order[:0], b.zeros[:0]
}

func (b *batch) zero(off, n int64) {
	if last := len(b.zeros) - 1; last >= 0 && b.zeros[last].End() == off {
		b.zeros[last].Length += n
		return
	}
	b.zeros = append(b.zeros, blockdiff.Range{Offset: off, Length: n})
}

// addChunk takes in a chunk that no extent of the batch named before.
func (b *batch) addChunk(e pack.Entry, in uint32) uint32 {
	i := uint32(len(b.chunks))
	b.chunks = append(b.chunks, wanted{Entry: e, pack: in})
	b.byID[e.ID] = i
	b.cost += chunkCost
	if in != packCached {
		b.order = append(b.order, i)
	}
	return i
}

func (b *batch) packOf(id index.PackID) uint32 {
	i, ok := b.byPack[id]
	if !ok {
		i = uint32(len(b.packs))
		b.packs = append(b.packs, wantedPack{id: id, name: id.Name(), ready: make(chan struct{})})
		b.byPack[id] = i
	}
	return i
}

// addExtent appends to the chunk's list, or stretches the last one.
func (b *batch) addExtent(i uint32, off int64, n, at uint32) {
	b.cost += extentCost
	c := &b.chunks[i]
	if c.last != 0 {
		last := &b.extents[c.last-1]
		if last.off+int64(last.n) == off && last.at+last.n == at {
			last.n += n
			return
		}
	}
	b.extents = append(b.extents, mapped{off: off, n: n, at: at})
	number := uint32(len(b.extents))
	if c.last == 0 {
		c.first = number
	} else {
		b.extents[c.last-1].next = number
	}
	c.last = number
}

// sort brings the chunks into the order in which they are fetched: that of
// stripes and, within one, that of packs and places in them.
func (b *batch) sort() {
	byRank := make([]uint32, len(b.packs))
	for i := range byRank {
		byRank[i] = uint32(i)
	}
	slices.SortFunc(byRank, func(x, y uint32) int { return b.packs[x].id.Compare(b.packs[y].id) })
	b.ranks = slices.Grow(b.ranks[:0], len(b.packs))[:len(b.packs)]
	for rank, i := range byRank {
		b.ranks[i] = uint32(rank)
	}
	slices.SortFunc(b.order, func(x, y uint32) int {
		cx, cy := &b.chunks[x], &b.chunks[y]
		return cmp.Or(cmp.Compare(b.ranks[cx.pack], b.ranks[cy.pack]), cmp.Compare(cx.Offset, cy.Offset))
	})
	b.place = slices.Grow(b.place[:0], len(b.chunks))[:len(b.chunks)]
	for i, c := range b.order {
		b.place[c] = uint32(i)
	}
	b.turns = append(b.turns[:0], b.order...)
	slices.SortFunc(b.turns, func(x, y uint32) int {
		return cmp.Or(cmp.Compare(b.stripeOf(&b.chunks[x]), b.stripeOf(&b.chunks[y])), cmp.Compare(b.place[x], b.place[y]))
	})
	b.taken = slices.Grow(b.taken[:0], len(b.chunks))[:len(b.chunks)]
	clear(b.taken)
}

// each calls fn for the extents of a chunk.
func (b *batch) each(c *wanted, fn func(off int64, n, at uint32) error) error {
	for i := c.first; i != 0; i = b.extents[i-1].next {
		e := &b.extents[i-1]
		if err := fn(e.off, e.n, e.at); err != nil {
			return err
		}
	}
	return nil
}

// planner divides what is to be restored into batches, in volume order.
type planner struct {
	repo   *chunkstore.Repository
	point  *chunkstore.Point
	it     *imagemap.Iterator
	budget int   // a batch's cost
	window int64 // a batch ends at the next multiple; 0: anywhere

	next   func(ctx context.Context) (blockdiff.Range, bool, error) // ascending, disjoint
	known  func(id chunk.ID) (plain int, in uint32, ok bool)        // chunks that need no fetch
	zeroes bool                                                     // gaps must be made zeros

	todo blockdiff.Range
	held imagemap.Extent
}

func newPlanner(repo *chunkstore.Repository, p *chunkstore.Point, budget int) *planner {
	return &planner{
		repo: repo, point: p, budget: budget,
		it:    imagemap.NewIterator(repo, p.Map, 0, p.Size, imagemap.Options{}),
		next:  once(blockdiff.Range{Offset: 0, Length: p.Size}),
		known: func(chunk.ID) (int, uint32, bool) { return 0, 0, false },
	}
}

func once(r blockdiff.Range) func(context.Context) (blockdiff.Range, bool, error) {
	return func(context.Context) (blockdiff.Range, bool, error) {
		out := r
		r = blockdiff.Range{}
		return out, out.Length > 0, nil
	}
}

// fill plans the next batch; false at the end.
func (p *planner) fill(ctx context.Context, b *batch) (bool, error) {
	b.reset(p.todo.Offset)
	for begun := false; ; begun = true {
		if p.todo.Length == 0 {
			r, ok, err := p.next(ctx)
			if err != nil {
				return false, err
			}
			if !ok {
				b.sort()
				return begun, nil
			}
			p.todo = r
		}
		if !begun {
			b.from = p.todo.Offset
		}
		full, err := p.step(ctx, b)
		if err != nil {
			return false, err
		}
		if full {
			b.sort()
			return true, nil
		}
	}
}

// step takes the next extent or gap of todo into the batch.
func (p *planner) step(ctx context.Context, b *batch) (full bool, err error) {
	pos, limit := p.todo.Offset, p.todo.End()
	edge := int64(0)
	if p.window > 0 {
		edge = (pos/p.window + 1) * p.window
		limit = min(limit, edge)
	}
	e, ok, err := p.extent(ctx, pos)
	if err != nil {
		return false, p.unreadable(pos, err)
	}
	if !ok || e.Off > pos {
		end := limit
		if ok {
			end = min(end, e.Off)
		}
		b.cost += zeroCost
		if p.zeroes {
			b.zero(pos, end-pos)
		} else {
			b.skipped += end - pos
		}
		limit = end
	} else {
		limit = min(limit, e.End())
		if err := p.take(ctx, b, &e, pos, limit); err != nil {
			return false, err
		}
	}
	b.to = limit
	p.todo = blockdiff.Range{Offset: limit, Length: p.todo.End() - limit}
	return b.cost >= p.budget || limit == edge, nil
}

// extent finds the first one that ends behind pos.
func (p *planner) extent(ctx context.Context, pos int64) (imagemap.Extent, bool, error) {
	if p.held.Len > 0 && p.held.End() > pos {
		return p.held, true, nil
	}
	p.it.SkipTo(pos)
	e, ok, err := p.it.Next(ctx)
	p.held = e
	return e, ok, err
}

// take adds the part [from, to) of an extent.
func (p *planner) take(ctx context.Context, b *batch, e *imagemap.Extent, from, to int64) error {
	i, ok := b.byID[e.Chunk]
	if !ok {
		var err error
		if i, err = p.find(ctx, b, e.Chunk); err != nil {
			return damage(err, p.point, blockdiff.Ranges{{Offset: e.Off, Length: e.Len}})
		}
	}
	c := &b.chunks[i]
	if int64(e.ChunkOff)+e.Len > int64(c.Plain) {
		err := &seal.CorruptError{Object: "the image map of point " + p.point.ID, Offset: e.Off, Detail: fmt.Sprintf(
			"maps bytes %d to %d of chunk %s, which has %d", e.ChunkOff, int64(e.ChunkOff)+e.Len, e.Chunk.Short(), c.Plain)}
		return damage(err, p.point, blockdiff.Ranges{{Offset: e.Off, Length: e.Len}})
	}
	b.addExtent(i, from, uint32(to-from), e.ChunkOff+uint32(from-e.Off))
	return nil
}

func (p *planner) find(ctx context.Context, b *batch, id chunk.ID) (uint32, error) {
	if plain, in, ok := p.known(id); ok {
		return b.addChunk(pack.Entry{ID: id, Plain: uint32(plain)}, in), nil
	}
	loc, err := p.repo.Locate(ctx, id)
	if err != nil {
		return 0, err
	}
	if loc.Stored > largestStored {
		return 0, &seal.CorruptError{Object: loc.Pack.Name(), Offset: int64(loc.Offset), Detail: fmt.Sprintf(
			"the index says that chunk %s takes %d bytes, more than one can", id.Short(), loc.Stored)}
	}
	return b.addChunk(loc.Entry, b.packOf(loc.Pack)), nil
}

// unreadable says what a node that can't be read costs: where the volume's
// content lies is unknown from there on.
func (p *planner) unreadable(pos int64, err error) error {
	return damage(err, p.point, blockdiff.Ranges{{Offset: pos, Length: p.point.Size - pos}})
}
