// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"math/rand/v2"
	"slices"
)

// Defaults of a [SamplePlan].
const (
	SampleBlock  = 64 << 10
	SampleRandom = 64
	SampleLap    = 1000
)

const (
	sampleBudget = 64 << 20
	claimedShare = 10 // the budget is at least 1/10 of what the claim has a backup read anyway
	randomShare  = 2  // of the budget at most 1/2 goes to the random part, so the rolling part always moves on
)

// SamplePlan says how much of what a claim leaves out is looked at. Zero fields mean the defaults.
type SamplePlan struct {
	// Block is the unit: the grid of the volume's offsets that are multiples of it.
	Block int64
	// Random is how many random blocks are read; none if negative.
	Random int
	// Lap is in how many calls the rolling part comes round the volume, if the budget allows; no rolling part if negative.
	Lap int64
	// Cursor is where the rolling part goes on: the last call's answer.
	Cursor int64
	// Budget bounds the bytes: by default the larger of 64 MiB and a tenth of the claimed bytes.
	Budget int64
}

func (p SamplePlan) withDefaults(claimed int64) SamplePlan {
	if p.Block <= 0 {
		p.Block = SampleBlock
	}
	if p.Random == 0 {
		p.Random = SampleRandom
	}
	if p.Lap == 0 {
		p.Lap = SampleLap
	}
	if p.Budget <= 0 {
		p.Budget = max(sampleBudget, claimed/claimedShare)
	}
	return p
}

// Sample chooses what to re-read of the bytes outside a claim on a volume of size bytes, and says where the rolling part
// goes on next time. Its random part takes blocks with equal probability of all that have bytes outside the claim,
// so that no source knows where it may lie safely; its rolling part takes the bytes outside in order, so that none can hide
// the same block for ever. Of a block that the claim covers in part, only the rest is taken (I5). Equal arguments, r's
// state among them, give equal answers.
func Sample(r *rand.Rand, outside Ranges, size int64, plan SamplePlan) (Ranges, int64) {
	if n := len(outside); n > 0 && outside[n-1].End() > size {
		outside = outside.Clip(size)
	}
	total := outside.Total()
	plan = plan.withDefaults(size - total)
	if total == 0 {
		return nil, plan.Cursor
	}
	random := outside.Intersect(randomBlocks(r, outside, size, plan))
	if plan.Lap < 0 {
		return random, plan.Cursor
	}
	// take stops up to a block early, hence the second one.
	share := roundUp((size-1)/plan.Lap+1, plan.Block) + plan.Block
	rolling, cursor := roll(outside, plan.Cursor, min(share, plan.Budget-random.Total(), total), plan.Block)
	return random.Union(rolling), cursor
}

func roundUp(n, unit int64) int64 { return (n-1)/unit*unit + unit }

// randomBlocks returns whole blocks, chosen without repetition.
func randomBlocks(r *rand.Rand, outside Ranges, size int64, plan SamplePlan) Ranges {
	count := countBlocks(outside, plan.Block)
	want := min(int64(max(plan.Random, 0)), plan.Budget/randomShare/plan.Block)
	var out Ranges
	picked := pick(r, count, want)
	var next, before int64 // the next block to count, and how many were counted so far
	for _, o := range outside {
		first, last := max(o.Offset/plan.Block, next), (o.End()-1)/plan.Block
		if last < first {
			continue // in a block that the range before touched
		}
		for len(picked) > 0 && picked[0] <= before+last-first {
			block := (first + picked[0] - before) * plan.Block
			out = out.appendRange(Range{block, min(plan.Block, size-block)})
			picked = picked[1:]
		}
		before += last - first + 1
		next = last + 1
	}
	return out
}

// countBlocks returns how many blocks the ranges touch.
func countBlocks(rs Ranges, block int64) int64 {
	var n, next int64
	for _, r := range rs {
		first, last := max(r.Offset/block, next), (r.End()-1)/block
		n += max(last-first+1, 0)
		next = last + 1
	}
	return n
}

// pick returns want different numbers below n, ascending, every set of them equally likely (Floyd's algorithm), or all
// if there are fewer.
func pick(r *rand.Rand, n, want int64) []int64 {
	want = min(want, n)
	seen := make(map[int64]bool, want)
	picked := make([]int64, 0, want)
	for top := n - want; top < n; top++ {
		x := r.Int64N(top + 1)
		if seen[x] {
			x = top
		}
		seen[x] = true
		picked = append(picked, x)
	}
	slices.Sort(picked)
	return picked
}

// roll takes bytes of outside, in order from the cursor on and round the end, and returns where it stopped.
func roll(outside Ranges, cursor, budget, block int64) (Ranges, int64) {
	end := outside[len(outside)-1].End()
	if cursor < 0 || cursor >= end {
		cursor = 0
	}
	tail, stop := take(outside, Range{cursor, end - cursor}, budget, block)
	if stop < end {
		return tail, stop
	}
	head, stop := take(outside, Range{0, cursor}, budget-tail.Total(), block)
	return head.Union(tail), stop
}

// take returns the first bytes within the budget of what rs has in the window, and where it stopped. It stops at
// block seams, for a block's digest needs all of the block; only a budget that is too small for the first block
// cuts that one.
func take(rs Ranges, window Range, budget, block int64) (Ranges, int64) {
	var out Ranges
	for _, r := range rs[rs.search(window.Offset):] {
		from, to := max(r.Offset, window.Offset), min(r.End(), window.End())
		if from >= to {
			break
		}
		if to-from <= budget {
			out = out.appendRange(Range{from, to - from})
			budget -= to - from
			continue
		}
		stop := max((from+budget)/block*block, from)
		if stop == from && len(out) == 0 {
			stop = from + budget
		}
		return out.appendRange(Range{from, stop - from}), stop
	}
	return out, window.End()
}
