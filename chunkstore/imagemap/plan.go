// SPDX-License-Identifier: Apache-2.0

package imagemap

import "math/bits"

// Policy says when [Compact] merges. The zero Policy means the defaults.
type Policy struct {
	Fanout      int // runs of one size tier that become one; default 8
	MaxRuns     int // never more runs than this; default 32
	FoldPercent int // runs are folded into the base when together they are this share of it; default 50
}

func (p Policy) withDefaults() Policy {
	if p.Fanout < 2 {
		p.Fanout = 8
	}
	if p.MaxRuns < 1 {
		p.MaxRuns = 32
	}
	if p.FoldPercent < 1 {
		p.FoldPercent = 50
	}
	return p
}

// segment is a stretch of adjacent runs, newest first, that become one.
type segment struct {
	from, to int
	size     int64
}

// smallest run that has a tier of its own: below, rewriting costs next to nothing
const tierUnit = 512

func (p Policy) tier(size int64) int {
	t := 0
	for size /= tierUnit; size >= int64(p.Fanout); size /= int64(p.Fanout) {
		t++
	}
	return t
}

// plan decides over sizes alone: fold everything, or which runs to merge. Each
// run is rewritten at most once, however far merges cascade.
func (p Policy) plan(base int64, runs []int64) (fold bool, segs []segment) {
	p = p.withDefaults()
	var total int64
	for i, size := range runs {
		total += size
		segs = append(segs, segment{i, i + 1, size})
	}
	if len(runs) == 0 {
		return false, nil
	}
	// total/base >= FoldPercent/100, without overflow
	th, tl := bits.Mul64(uint64(total), 100)
	bh, bl := bits.Mul64(uint64(base), uint64(p.FoldPercent))
	if th > bh || th == bh && tl >= bl {
		return true, nil
	}
	for {
		i, j, found := p.fullTier(segs)
		if !found {
			break
		}
		segs = merge(segs, i, j)
	}
	for len(segs) > p.MaxRuns {
		i := cheapest(segs, p.Fanout)
		segs = merge(segs, i, min(i+p.Fanout, len(segs)))
	}
	return false, segs
}

// fullTier finds a stretch, lowest tier first, that holds at least Fanout
// segments of one tier and between them only smaller ones.
func (p Policy) fullTier(segs []segment) (from, to int, found bool) {
	highest := 0
	for _, s := range segs {
		highest = max(highest, p.tier(s.size))
	}
	for t := 0; t <= highest; t++ {
		n := 0
		for i, s := range segs {
			switch tier := p.tier(s.size); {
			case tier > t:
				n = 0
			case tier == t:
				if n == 0 {
					from = i
				}
				if n++; n == p.Fanout {
					return from, i + 1, true
				}
			}
		}
	}
	return 0, 0, false
}

// cheapest finds the n adjacent segments that are smallest together.
func cheapest(segs []segment, n int) int {
	best, at := int64(maxOffset), 0
	for i := 0; i+min(n, len(segs)) <= len(segs); i++ {
		var sum int64
		for _, s := range segs[i:min(i+n, len(segs))] {
			sum += s.size
		}
		if sum < best {
			best, at = sum, i
		}
	}
	return at
}

func merge(segs []segment, i, j int) []segment {
	one := segment{from: segs[i].from, to: segs[j-1].to}
	for _, s := range segs[i:j] {
		one.size += s.size
	}
	return append(append(segs[:i:i], one), segs[j:]...)
}
