// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// TestManyBatches restores in batches far smaller than the volume; chunks that
// lie in several are fetched again, and that is reported exactly.
func TestManyBatches(t *testing.T) {
	l := newLab(t, mem.New(), 16<<20)
	p := l.history(4)
	for _, cost := range []int{300, 2000, 50_000} {
		target := filepath.Join(t.TempDir(), "target")
		rep := l.restore(p, RestoreOptions{Target: target, tune: func(p *restorePlan) { p.batchCost = cost }})
		l.same(target)
		if rep.RefetchedBytes == 0 && cost < 50_000 {
			t.Errorf("batches of %d: %d bytes fetched again", cost, rep.RefetchedBytes)
		}
		if rep.RefetchedBytes > rep.FetchedBytes {
			t.Errorf("%d bytes fetched, %d of them again", rep.FetchedBytes, rep.RefetchedBytes)
		}
	}
	rep := l.restore(p, RestoreOptions{Target: filepath.Join(t.TempDir(), "target")})
	if rep.RefetchedBytes != 0 {
		t.Errorf("in one batch %d bytes were fetched again", rep.RefetchedBytes)
	}
	var out bytes.Buffer
	l.restore(p, RestoreOptions{Target: "-", Out: &out, tune: func(p *restorePlan) { p.window, p.cacheBytes = 1<<20, 1<<20 }})
	sameBytes(t, out.Bytes(), l.data)
}

func TestFetchedSpans(t *testing.T) {
	var f fetchedSpans
	model := map[uint32]bool{}
	rnd := rand.New(rand.NewPCG(3, 4))
	id := &index.PackID{}
	for range 2000 {
		from := rnd.Uint32N(1000)
		to := from + 1 + rnd.Uint32N(40)
		again := int64(0)
		for i := from; i < to; i++ {
			if model[i] {
				again++
			}
			model[i] = true
		}
		if got := f.add(id, from, to); got != again {
			t.Fatalf("%d–%d: %d bytes again, want %d", from, to, got, again)
		}
	}
}

// TestRoughRangesAreBounded adds ranges that touch, which join, and ones that do
// not, which join only beyond the limit, and are all covered.
func TestRoughRangesAreBounded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 100 {
		s := roughRanges{limit: 1 + rnd.IntN(20)}
		var all blockdiff.Ranges
		for range rnd.IntN(200) {
			r := blockdiff.Range{Offset: rnd.Int64N(1000), Length: 1 + rnd.Int64N(5)}
			all = append(all, r)
			s.add(r.Offset, r.Length)
			if len(s.list) >= 2*s.limit {
				t.Fatalf("%d ranges are kept, the limit is %d", len(s.list), s.limit)
			}
		}
		want := blockdiff.Normalize(all)
		got := s.take()
		if !got.Normalized() || len(got) > s.limit || want.Subtract(got).Total() != 0 {
			t.Fatalf("limit %d: %v of %v", s.limit, got, want)
		}
	}
	s := roughRanges{limit: 1 << 20}
	for at := range int64(1 << 16) {
		s.add(at*4096, 4096)
	}
	if len(s.list) != 1 || cap(s.list) > 4 {
		t.Errorf("a stretch of touching ranges is kept as %d", len(s.list))
	}
}

func TestRingNeverLendsTwice(t *testing.T) {
	r, err := newRing(t.Context(), 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	used := make([]bool, 64<<10)
	var out []*stretch
	for range 20000 {
		if n := 1 + rnd.IntN(9000); rnd.IntN(2) == 0 {
			s := r.try(n)
			if s == nil {
				if len(out) == 0 {
					t.Fatalf("an empty ring has no room for %d bytes", n)
				}
				continue
			}
			if len(s.mem) != n {
				t.Fatalf("asked for %d bytes, got %d", n, len(s.mem))
			}
			for i := range n {
				if used[s.from+i] {
					t.Fatalf("byte %d is lent twice", s.from+i)
				}
				used[s.from+i] = true
			}
			out = append(out, s)
		} else if len(out) > 0 {
			i := rnd.IntN(len(out))
			for k := range out[i].mem {
				used[out[i].from+k] = false
			}
			r.give(out[i])
			out = append(out[:i], out[i+1:]...)
		}
	}
	if _, err := r.take(t.Context(), 64<<10+1); err == nil {
		t.Error("more than the ring was lent")
	}
	for _, s := range out {
		r.give(s)
	}
	if s, err := r.take(t.Context(), 64<<10); err != nil || s == nil {
		t.Errorf("all of an empty ring: %v", err)
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
}

func TestDamageErrorNamesRanges(t *testing.T) {
	var many blockdiff.Ranges
	for i := range 20 {
		many = append(many, blockdiff.Range{Offset: int64(i) * 10, Length: 5})
	}
	err := &DamageError{Point: "0123456789", Volume: "v", Ranges: many, Err: errors.New("x")}
	if s := err.Error(); !strings.Contains(s, "100 bytes") || !strings.Contains(s, "0+5, 10+5") || !strings.Contains(s, "12 more ranges") {
		t.Error(s)
	}
}
