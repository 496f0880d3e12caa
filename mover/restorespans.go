// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"cmp"
	"slices"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore/index"
)

// fetchedSpans remembers which parts of which packs were fetched, so that what
// is fetched again is counted. Batches go through the volume and packs hold
// stretches of it, so few spans per pack are all there is; above maxSpans
// packs are forgotten and the count is a lower bound.
type fetchedSpans struct {
	packs map[[16]byte][]fetchedSpan // by the beginning of the pack's hash
	count int
}

type fetchedSpan struct{ from, to uint32 }

const maxSpans = 1 << 18

// add records a fetch and returns how many of its bytes were fetched before.
func (f *fetchedSpans) add(p *index.PackID, from, to uint32) (again int64) {
	if f.packs == nil || f.count >= maxSpans {
		f.packs, f.count = map[[16]byte][]fetchedSpan{}, 0
	}
	key := [16]byte(p.Hash[:16])
	spans := f.packs[key]
	i, _ := slices.BinarySearchFunc(spans, from, func(s fetchedSpan, from uint32) int { return cmp.Compare(s.to, from) })
	n, j := fetchedSpan{from, to}, i
	for ; j < len(spans) && spans[j].from <= to; j++ {
		s := spans[j]
		again += int64(min(s.to, to)) - int64(max(s.from, from))
		n.from, n.to = min(n.from, s.from), max(n.to, s.to)
	}
	f.count += 1 - (j - i)
	f.packs[key] = slices.Replace(spans, i, j, n)
	return again
}

// roughRanges collects ranges in any order, for who can bear that bytes between
// them are taken for theirs: beyond the limit near ones are joined.
type roughRanges struct {
	limit int
	list  blockdiff.Ranges
}

func (s *roughRanges) add(off, n int64) {
	if last := len(s.list) - 1; last >= 0 && s.list[last].End() == off {
		s.list[last].Length += n
		return
	}
	s.list = append(s.list, blockdiff.Range{Offset: off, Length: n})
	if len(s.list) >= 2*s.limit {
		s.list = blockdiff.Normalize(s.list).Coalesce(s.limit)
	}
}

// take hands over what was collected, ascending and disjoint, and begins anew.
func (s *roughRanges) take() blockdiff.Ranges {
	out := blockdiff.Normalize(s.list).Coalesce(s.limit)
	s.list = nil
	return out
}
