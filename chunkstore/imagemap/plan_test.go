// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestPlan(t *testing.T) {
	eight := []int64{9, 9, 9, 9, 9, 9, 9, 9}
	for _, tt := range []struct {
		name string
		base int64
		runs []int64
		fold bool
		want []int // runs per segment
	}{
		{name: "nothing to do", base: 1000},
		{name: "few runs", base: 1000, runs: []int64{9, 9}, want: []int{1, 1}},
		{name: "half of the base", base: 36, runs: []int64{9, 9}, fold: true},
		{name: "empty base", runs: []int64{9}, fold: true},
		{name: "full tier", base: 1 << 20, runs: eight, want: []int{8}},
		{name: "full tier behind a larger run", base: 1 << 20, runs: append([]int64{5000}, eight...), want: []int{1, 8}},
		{name: "smaller runs between", base: 1 << 20, runs: []int64{1, 5000, 1, 5000, 5000, 5000, 5000, 5000, 5000, 5000, 1}, want: []int{1, 9, 1}},
		{name: "no tier is full", base: 1 << 20, runs: []int64{9, 9, 9, 9, 5000, 9, 9, 9, 9}, want: []int{1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{name: "cascade", base: 1 << 20, runs: []int64{600, 600, 600, 600, 600, 600, 600, 600, 5000, 5000, 5000, 5000, 5000, 5000, 5000}, want: []int{15}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fold, segs := Policy{}.plan(tt.base, tt.runs)
			if fold != tt.fold || !fold && len(segs) != len(tt.want) {
				t.Fatalf("fold %v, segments %v", fold, segs)
			}
			for i, n := range tt.want {
				if segs[i].to-segs[i].from != n {
					t.Errorf("segment %d: %+v, want %d runs", i, segs[i], n)
				}
			}
		})
	}
}

// Whatever the sizes, a plan leaves few runs and loses or doubles none.
func TestPlanCoversAllRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{Fanout: rapid.IntRange(0, 9).Draw(t, "fan-out"), MaxRuns: rapid.IntRange(0, 9).Draw(t, "runs"), FoldPercent: 100}
		sizes := rapid.SliceOfN(rapid.Int64Range(1, 1<<40), 0, 60).Draw(t, "sizes")
		fold, segs := p.plan(1<<62, sizes)
		if fold || len(segs) > p.withDefaults().MaxRuns {
			t.Fatalf("fold %v, %d segments", fold, len(segs))
		}
		next := 0
		for _, s := range segs {
			var sum int64
			for _, size := range sizes[s.from:s.to] {
				sum += size
			}
			if s.from != next || s.to <= s.from || sum != s.size {
				t.Fatalf("segments %+v of %v", segs, sizes)
			}
			next = s.to
		}
		if next != len(sizes) {
			t.Fatalf("segments %+v of %d runs", segs, len(sizes))
		}
	})
}

// A quarter-hourly month: metadata written stays within a few times what the
// increments themselves are.
func TestPlanOverAMonth(t *testing.T) {
	for _, tt := range []struct {
		name string
		base int64
		size func(r *rand.Rand) int64
	}{
		{"equal increments", 80 << 20, func(*rand.Rand) int64 { return 3500 }},
		{"mixed increments", 80 << 20, func(r *rand.Rand) int64 { return int64(1000 * (1 + r.ExpFloat64()*r.ExpFloat64()*20)) }},
		{"small volume", 5 << 10, func(*rand.Rand) int64 { return 400 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			var runs []int64
			var added, written int64
			base, folds, most := tt.base, 0, 0
			for range 2880 {
				size := tt.size(r)
				added += size
				runs = append([]int64{size}, runs...)
				fold, segs := Policy{}.plan(base, runs)
				if fold {
					written += base + sum(runs)
					runs, folds = nil, folds+1
					continue
				}
				runs = runs[:0:0]
				for _, s := range segs {
					if s.to-s.from > 1 {
						written += s.size
					}
					runs = append(runs, s.size)
				}
				most = max(most, len(runs))
			}
			amp := float64(written) / float64(added)
			t.Logf("at most %d runs, %d folds, %.1f bytes rewritten per byte added", most, folds, amp)
			if most > 32 || amp > 8 {
				t.Errorf("at most %d runs, rewritten %.1f", most, amp)
			}
		})
	}
}

func sum(sizes []int64) (total int64) {
	for _, s := range sizes {
		total += s
	}
	return total
}
