// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// storeBudget is how many times what retained points need a volume's packs may
// hold before an incremental moves live bytes out of the deadest ones.
const storeBudget = 1.5

// maxMoves bounds what one backup moves, in entries (40 bytes each).
const maxMoves = 1 << 18

// moves are unchanged ranges that a backup stores again, so that packs which
// are mostly dead can die: ascending, disjoint. Their births stay.
type moves []move

type move struct {
	blockdiff.Range
	birth uint64 // session number plus one, for 0 is both a session and "in this one"
}

func (m moves) ranges() blockdiff.Ranges {
	rs := make(blockdiff.Ranges, len(m))
	for i := range m {
		rs[i] = m[i].Range
	}
	return blockdiff.Normalize(rs)
}

func (m moves) from(off int64) int {
	return sort.Search(len(m), func(i int) bool { return m[i].End() > off })
}

// within returns the moved ranges inside [off, off+n).
func (m moves) within(off, n int64) blockdiff.Ranges {
	var out blockdiff.Ranges
	for i := m.from(off); i < len(m) && m[i].Offset < off+n; i++ {
		from, to := max(m[i].Offset, off), min(m[i].End(), off+n)
		out = append(out, blockdiff.Range{Offset: from, Length: to - from})
	}
	return blockdiff.Normalize(out)
}

// split calls fn for each part of [off, off+n): moved ones with their birth (plus one),
// the others with 0.
func (m moves) split(off, n int64, fn func(off, n int64, birth uint64)) {
	end := off + n
	for i := m.from(off); i < len(m) && m[i].Offset < end; i++ {
		from, to := max(m[i].Offset, off), min(m[i].End(), end)
		if from > off {
			fn(off, from-off, 0)
		}
		fn(from, to-from, m[i].birth)
		off = to
	}
	if off < end {
		fn(off, end-off, 0)
	}
}

// subtract removes what changed anyway.
func (m moves) subtract(changed blockdiff.Ranges) moves {
	var out moves
	for _, v := range m {
		for len(changed) > 0 && changed[0].End() <= v.Offset {
			changed = changed[1:]
		}
		for _, r := range (blockdiff.Ranges{v.Range}).Subtract(upto(changed, v.End())) {
			out = append(out, move{Range: r, birth: v.birth})
		}
	}
	return out
}

// upto gives the ranges that begin before end: few, for what lies before the
// present place is gone already.
func upto(rs blockdiff.Ranges, end int64) blockdiff.Ranges {
	return rs[:sort.Search(len(rs), func(i int) bool { return rs[i].Offset >= end })]
}

// clip gives the parts of rs inside [off, off+n).
func clip(rs blockdiff.Ranges, off, n int64) blockdiff.Ranges {
	i := sort.Search(len(rs), func(i int) bool { return rs[i].End() > off })
	return upto(rs[i:], off+n).Intersect(blockdiff.Ranges{{Offset: off, Length: n}})
}

// maxPinned is how many times its live bytes the packs of the newest point may
// hold before the worst of them are emptied, so that a restore stays local.
const maxPinned = 3

// planMoves chooses what to clean: the unit is the pack (DESIGN 4.1). Of the
// packs that the collector found to hold dead bytes, the deadest first, it
// takes those whose live bytes the base maps, until the volume's packs would
// hold no more than storeBudget times what is needed and the newest point's no
// more than maxPinned times what it uses, or until limit bytes move.
func planMoves(ctx context.Context, repo *chunkstore.Repository, base *chunkstore.Point, limit int64) (moves, error) {
	u, err := repo.Usage(ctx, base.Volume)
	if err != nil || u == nil {
		return nil, err
	}
	c := newCleaning(u)
	var out moves
	for _, p := range c.candidates {
		if limit <= 0 || len(out) >= maxMoves || !c.wants(p) {
			continue
		}
		n, err := emptyPack(ctx, repo, base, p, &out)
		if err != nil {
			return nil, fmt.Errorf("plan cleaning of %s: %w", p.Name, err)
		}
		c.emptied(p)
		limit -= n
	}
	return out.disjoint(), nil
}

// disjoint sorts moves and drops what overlaps: a chunk that lies in two packs
// is planned twice, with spans that need not be the same.
func (m moves) disjoint() moves {
	slices.SortFunc(m, func(a, b move) int { return cmp.Compare(a.Offset, b.Offset) })
	out := m[:0]
	end := int64(0)
	for _, v := range m {
		if v.Offset < end {
			v.Offset, v.Length = end, v.End()-end
		}
		if v.Length > 0 {
			out = append(out, v)
			end = v.End()
		}
	}
	return out
}

// cleaning keeps the account of one plan, in stored bytes.
type cleaning struct {
	candidates []chunkstore.PackUsage // deadest first
	stored     int64                  // what the volume's packs will hold once older points are gone
	allowed    int64
	pinned     int64 // what the newest point's packs hold
	newest     int64
}

func newCleaning(u *chunkstore.VolumeUsage) *cleaning {
	c := &cleaning{stored: u.Stored, allowed: int64(storeBudget * float64(u.Needed)), pinned: u.Pinned, newest: u.Newest}
	for _, p := range u.Packs {
		switch {
		case p.Shared: // never emptied for space
		case p.Newest == 0:
			c.stored -= p.Stored // it dies with the older points
		default:
			c.candidates = append(c.candidates, p)
		}
	}
	return c
}

// wants tells whether emptying p helps: for space only where something in it is
// dead to all, for locality also where older points still need the rest.
func (c *cleaning) wants(p chunkstore.PackUsage) bool {
	dead := p.Live < p.Stored-p.Stored/16
	return dead && c.stored > c.allowed || c.pinned > maxPinned*c.newest
}

func (c *cleaning) emptied(p chunkstore.PackUsage) {
	c.stored -= p.Stored - p.Newest
	c.pinned -= p.Stored - p.Newest
}

// emptyPack adds the parts of the volume that the base maps to a pack.
func emptyPack(ctx context.Context, repo *chunkstore.Repository, base *chunkstore.Point, u chunkstore.PackUsage, out *moves) (int64, error) {
	session, seq, hash, err := pack.ParseName(u.Name)
	if err != nil {
		return 0, err
	}
	toc, err := repo.TOC(ctx, index.PackID{Session: session, Seq: seq, Hash: hash, Size: uint32(u.Stored)})
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for i := range toc.Chunks {
		c := &toc.Chunks[i]
		for _, p := range span(c.Pieces) {
			n, err := addMoves(ctx, repo, base.Map, c.ID, p, out)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

// span gives the stretch of the volume that a chunk's pieces lie in: one seek in
// the map, however many they are.
func span(ps []chunk.Piece) []chunk.Piece {
	if len(ps) == 0 {
		return nil
	}
	last := ps[len(ps)-1]
	return []chunk.Piece{{Offset: ps[0].Offset, Length: last.Offset + last.Length - ps[0].Offset}}
}

func addMoves(ctx context.Context, src imagemap.Source, m imagemap.Map, id chunk.ID, in chunk.Piece, out *moves) (n int64, err error) {
	it := imagemap.NewIterator(src, m, in.Offset, in.Offset+in.Length, imagemap.Options{})
	for {
		e, ok, err := it.Next(ctx)
		if err != nil || !ok {
			return n, err
		}
		if e.Chunk == id {
			*out = append(*out, move{Range: blockdiff.Range{Offset: e.Off, Length: e.Len}, birth: e.Birth + 1})
			n += e.Len
		}
	}
}
