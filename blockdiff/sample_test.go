// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const sampleSize = 1000 // bytes of the test volumes, in blocks of 10

func drawClaim(t *rapid.T) Ranges {
	unsorted := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Range {
		off := rapid.Int64Range(0, sampleSize-1).Draw(t, "offset")
		return Range{off, rapid.Int64Range(1, 150).Draw(t, "length")}
	}), 0, 12).Draw(t, "claim")
	return Normalize(unsorted).Clip(sampleSize)
}

func drawPlan(t *rapid.T) SamplePlan {
	return SamplePlan{
		Block:  10,
		Random: rapid.IntRange(-1, 20).Draw(t, "random"),
		Lap:    rapid.SampledFrom([]int64{1, 2, 5, 20, 50, -1}).Draw(t, "lap"),
		Cursor: rapid.Int64Range(-10, sampleSize+10).Draw(t, "cursor"),
		Budget: rapid.Int64Range(1, 300).Draw(t, "budget"),
	}
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// TestSampleStaysOutsideAndWithinBudget is two thirds of I5; the same seed must choose the same.
func TestSampleStaysOutsideAndWithinBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claim, plan := drawClaim(t), drawPlan(t)
		seed := rapid.Uint64().Draw(t, "seed")
		outside := claim.Complement(sampleSize)
		got, cursor := Sample(seeded(seed), outside, sampleSize, plan)
		if !got.Normalized() {
			t.Fatalf("not normalized: %v", got)
		}
		if in := got.Intersect(claim); len(in) > 0 {
			t.Fatalf("%v lies inside the claim", in)
		}
		if over := got.Subtract(outside); len(over) > 0 {
			t.Fatalf("%v lies outside the volume", over)
		}
		if got.Total() > plan.Budget {
			t.Fatalf("%d bytes of a budget of %d", got.Total(), plan.Budget)
		}
		again, cursorAgain := Sample(seeded(seed), outside, sampleSize, plan)
		if !slices.Equal(got, again) || cursor != cursorAgain {
			t.Fatalf("one seed chose %v, %d and %v, %d", got, cursor, again, cursorAgain)
		}
	})
}

// TestRollingPartComesRound is the rest of I5: within Lap calls (and the budget's share of them) all is read once, and
// nothing twice before.
func TestRollingPartComesRound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		outside := drawClaim(t).Complement(sampleSize)
		plan := drawPlan(t)
		plan.Random, plan.Lap = -1, rapid.Int64Range(1, 50).Draw(t, "lap")
		calls := plan.Lap
		share := sampleSize/plan.Lap + 2*plan.Block
		if plan.Budget < share {
			// A call takes more than its budget less a block, and a byte at least.
			calls = sampleSize / max(plan.Budget-plan.Block, 1)
		}
		left := outside
		for call := int64(0); call <= calls && len(left) > 0; call++ {
			var got Ranges
			got, plan.Cursor = Sample(seeded(0), outside, sampleSize, plan)
			if again := got.Subtract(left); len(again) > 0 && len(left.Subtract(got)) > 0 {
				t.Fatalf("call %d read %v again before %v", call, again, left)
			}
			left = left.Subtract(got)
			if got.Total() > min(share, plan.Budget) {
				t.Fatalf("call %d read %d bytes, its share is %d", call, got.Total(), min(share, plan.Budget))
			}
		}
		if len(left) > 0 {
			t.Fatalf("%d calls never read %v", calls+1, left)
		}
	})
}

// TestRandomPartIsUniform counts how often each block is chosen. A claim covers some and half of others.
func TestRandomPartIsUniform(t *testing.T) {
	claim := Ranges{{0, 35}, {200, 400}, {603, 4}, {777, 1}}
	outside := claim.Complement(sampleSize)
	plan := SamplePlan{Block: 10, Random: 5, Lap: -1, Budget: 1000}
	const rounds = 20_000
	r := seeded(42)
	var counts [sampleSize / 10]int
	for range rounds {
		got, _ := Sample(r, outside, sampleSize, plan)
		for block := range counts {
			if got.Overlaps(Range{int64(block) * 10, 10}) {
				counts[block]++
			}
		}
	}
	eligible := 0
	for block := range counts {
		if outside.Overlaps(Range{int64(block) * 10, 10}) {
			eligible++
		}
	}
	mean := rounds * plan.Random / eligible
	for block, n := range counts {
		if !outside.Overlaps(Range{int64(block) * 10, 10}) {
			if n > 0 {
				t.Errorf("block %d is claimed and was chosen %d times", block, n)
			}
			continue
		}
		// Six standard deviations of about sqrt(mean) = 43.
		if n < mean-260 || n > mean+260 {
			t.Errorf("block %d was chosen %d times, the mean is %d", block, n, mean)
		}
	}
}

func TestSampleDefaults(t *testing.T) {
	const tib = 1 << 40
	cases := []struct {
		name   string
		claim  Ranges
		size   int64
		lo, hi int64 // bytes
	}{
		{"64 blocks and a thousandth", nil, 10 << 30, 64*64<<10 + 10<<30/1000 - 2<<20, 64*64<<10 + 10<<30/1000 + 128<<10},
		{"64 MiB of a large volume", nil, tib, 64<<20 - 128<<10, 64 << 20},
		{"a tenth of the claim", Ranges{{0, 1 << 30}}, tib, 1<<30/10 - 128<<10, 1 << 30 / 10},
		{"all of a small volume", nil, 1 << 20, 1 << 20, 1 << 20},
		{"all is claimed", Ranges{{0, 1 << 30}}, 1 << 30, 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, cursor := Sample(seeded(1), c.claim.Complement(c.size), c.size, SamplePlan{})
			if n := got.Total(); n < c.lo || n > c.hi {
				t.Errorf("%d bytes are outside %d to %d", n, c.lo, c.hi)
			}
			if cursor < 0 || cursor > c.size {
				t.Errorf("cursor %d", cursor)
			}
		})
	}
}

// TestSampleGolden fixes the choice, for an audit is repeated from its recorded seed and cursor.
func TestSampleGolden(t *testing.T) {
	outside := Ranges{{100, 50}, {400, 600}}
	got, cursor := Sample(seeded(9), outside, sampleSize, SamplePlan{Block: 10, Random: 3, Lap: 50, Cursor: 140, Budget: 100})
	want := Ranges{{140, 10}, {400, 20}, {550, 10}, {680, 10}, {710, 10}}
	if diff := cmp.Diff(want, got); diff != "" || cursor != 420 {
		t.Errorf("cursor %d; want (-), got (+):\n%s", cursor, diff)
	}
}

func BenchmarkSample(b *testing.B) {
	outside := make(Ranges, 1<<20)
	for i := range outside {
		outside[i] = Range{int64(i) * 1 << 20, 1<<20 - 8192}
	}
	r := seeded(0)
	b.ReportAllocs()
	for b.Loop() {
		Sample(r, outside, 1<<40, SamplePlan{Cursor: 1 << 39})
	}
}
