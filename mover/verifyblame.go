// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"errors"
	"slices"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
)

// maxSuspectRanges bounds the memory of blame; beyond it near ranges are joined.
const maxSuspectRanges = 1 << 16

// blame finds which points suffer from what is bad. It walks the maps a second
// time, which only a damaged repository pays for: once over all nodes, to see
// where in volumes bad chunks and packs are mapped, and then over those places
// of each point, for what newer runs hide does not hurt it.
func (v *verify) blame(ctx context.Context) error {
	if len(v.badNodes)+len(v.badChunks)+len(v.badPacks) == 0 {
		return nil
	}
	b := blamer{v: v, memo: map[chunk.ID][]*problem{}, found: roughRanges{limit: maxSuspectRanges}}
	for _, p := range v.points {
		for _, n := range p.Map.Roots() {
			found, err := b.node(ctx, n)
			if err != nil {
				return err
			}
			for _, f := range found {
				f.points[p.ID] = true
			}
		}
	}
	b.suspects = b.found.take()
	for _, p := range v.points {
		if err := b.extents(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

type blamer struct {
	v        *verify
	memo     map[chunk.ID][]*problem // per node, what is bad of it and below
	found    roughRanges             // where leaves map something bad
	suspects blockdiff.Ranges        // the same, once all leaves were seen
}

// node collects the problems of nodes, for all of a tree's nodes are needed, and
// on the way the ranges of bad extents.
func (b *blamer) node(ctx context.Context, n imagemap.Node) ([]*problem, error) {
	if found, ok := b.memo[n.ID()]; ok {
		return found, nil
	}
	var found []*problem
	add := func(p *problem) {
		if p != nil && !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	add(b.v.badNodes[n.ID()])
	if loc, err := b.v.repo.Locate(ctx, n.ID()); err == nil {
		add(b.v.badPacks[loc.Pack])
	}
	err := imagemap.Visit(ctx, b.v.repo, n, func(c imagemap.Node) error {
		below, err := b.node(ctx, c)
		for _, p := range below {
			add(p)
		}
		return err
	}, func(e imagemap.Extent) error {
		p, err := b.bad(ctx, &e)
		if p != nil {
			b.found.add(e.Off, e.Len)
		}
		return err
	})
	if err != nil && !badNode(err) {
		return nil, err
	}
	b.memo[n.ID()] = found
	return found, nil
}

// bad tells what is wrong with an extent's bytes.
func (b *blamer) bad(ctx context.Context, e *imagemap.Extent) (*problem, error) {
	if e.Hole {
		return nil, nil
	}
	loc, err := b.v.repo.Locate(ctx, e.Chunk)
	if _, gone := errors.AsType[*chunkstore.MissingChunkError](err); gone {
		return b.v.badChunks[e.Chunk], nil
	}
	if err != nil {
		return nil, err
	}
	return b.v.badPacks[loc.Pack], nil
}

// extents blames a point for the bad extents that it sees.
func (b *blamer) extents(ctx context.Context, p *chunkstore.Point) error {
	it := imagemap.NewIterator(b.v.repo, p.Map, 0, p.Size, imagemap.Options{})
	for _, r := range b.suspects {
		it.SkipTo(r.Offset)
		for {
			e, ok, err := it.Next(ctx)
			if badNode(err) {
				return nil // blamed for the node
			}
			if err != nil || !ok {
				return err
			}
			found, err := b.bad(ctx, &e)
			if err != nil {
				return err
			}
			if found != nil {
				found.points[p.ID] = true
			}
			if e.End() >= r.End() {
				break
			}
		}
	}
	return nil
}
