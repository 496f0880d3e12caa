// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
)

// drawMoves draws moves and the same as births of single bytes, 0 for none.
func drawMoves(t *rapid.T) (moves, []uint64) {
	model := make([]uint64, 300)
	var m moves
	at := int64(0)
	for at < int64(len(model)) {
		at += rapid.Int64Range(0, 20).Draw(t, "gap")
		n := rapid.Int64Range(1, 30).Draw(t, "length")
		if at+n > int64(len(model)) {
			break
		}
		birth := rapid.Uint64Range(1, 3).Draw(t, "birth")
		m = append(m, move{Range: blockdiff.Range{Offset: at, Length: n}, birth: birth})
		for i := at; i < at+n; i++ {
			model[i] = birth
		}
		at += n
	}
	return m, model
}

func drawWindow(t *rapid.T, size int) (off, n int64) {
	off = rapid.Int64Range(0, int64(size-1)).Draw(t, "offset")
	return off, rapid.Int64Range(1, int64(size)-off).Draw(t, "bytes")
}

func TestMovesAgainstBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, model := drawMoves(t)
		off, n := drawWindow(t, len(model))

		at := off
		m.split(off, n, func(from, length int64, birth uint64) {
			if from != at || length <= 0 {
				t.Fatalf("part [%d,+%d) does not follow %d", from, length, at)
			}
			for i := from; i < from+length; i++ {
				if model[i] != birth {
					t.Fatalf("byte %d has birth %d, split says %d", i, model[i], birth)
				}
			}
			at += length
		})
		if at != off+n {
			t.Fatalf("split ends at %d, not %d", at, off+n)
		}

		wantSame(t, "within", model, m.within(off, n), func(i int64) bool { return i >= off && i < off+n && model[i] != 0 })
		wantSame(t, "ranges", model, m.ranges(), func(i int64) bool { return model[i] != 0 })

		changed := make([]bool, len(model))
		var rs blockdiff.Ranges
		for range rapid.IntRange(0, 8).Draw(t, "changes") {
			off, n := drawWindow(t, len(model))
			rs = append(rs, blockdiff.Range{Offset: off, Length: n})
			for i := off; i < off+n; i++ {
				changed[i] = true
			}
		}
		left := m.subtract(blockdiff.Normalize(rs))
		got := make([]uint64, len(model))
		for _, v := range left {
			for i := v.Offset; i < v.End(); i++ {
				if got[i] != 0 {
					t.Fatalf("byte %d is moved twice", i)
				}
				got[i] = v.birth
			}
		}
		for i := range model {
			want := model[i]
			if changed[i] {
				want = 0
			}
			if got[i] != want {
				t.Fatalf("byte %d has birth %d after the subtraction, want %d", i, got[i], want)
			}
		}
	})
}

func wantSame(t *rapid.T, what string, model []uint64, rs blockdiff.Ranges, in func(int64) bool) {
	if !rs.Normalized() {
		t.Fatalf("%s: %v is not normalized", what, rs)
	}
	for i := range int64(len(model)) {
		if rs.Contains(blockdiff.Range{Offset: i, Length: 1}) != in(i) {
			t.Fatalf("%s is wrong at byte %d", what, i)
		}
	}
}

func TestCleaningChoice(t *testing.T) {
	pack := func(name string, stored, live, newest int64) chunkstore.PackUsage {
		return chunkstore.PackUsage{Name: name, Stored: stored, Live: live, Newest: newest}
	}
	shared := pack("shared", 100, 10, 10)
	shared.Shared = true
	tests := []struct {
		name string
		u    chunkstore.VolumeUsage
		want []string
	}{
		{"within the budget nothing is moved", chunkstore.VolumeUsage{Stored: 150, Needed: 100, Newest: 100, Pinned: 150, Packs: []chunkstore.PackUsage{pack("a", 100, 40, 40)}}, nil},
		{"beyond it the deadest first, until it fits", chunkstore.VolumeUsage{Stored: 400, Needed: 200, Newest: 200, Pinned: 400, Packs: []chunkstore.PackUsage{
			pack("a", 100, 10, 10), pack("b", 100, 20, 20), pack("c", 100, 70, 70),
		}}, []string{"a", "b"}},
		{"a pack that only older points need dies with them", chunkstore.VolumeUsage{Stored: 400, Needed: 200, Newest: 150, Pinned: 200, Packs: []chunkstore.PackUsage{
			pack("old", 200, 50, 0), pack("a", 100, 60, 60),
		}}, nil},
		{"shared packs are never emptied", chunkstore.VolumeUsage{Stored: 400, Needed: 100, Newest: 100, Pinned: 400, Packs: []chunkstore.PackUsage{shared}}, nil},
		{"a pack with nothing dead to all stays, for it buys no space", chunkstore.VolumeUsage{Stored: 400, Needed: 200, Newest: 150, Pinned: 400, Packs: []chunkstore.PackUsage{pack("a", 100, 98, 20)}}, nil},
		{"but goes for locality", chunkstore.VolumeUsage{Stored: 400, Needed: 400, Newest: 100, Pinned: 400, Packs: []chunkstore.PackUsage{pack("a", 100, 98, 20), pack("b", 100, 100, 50)}}, []string{"a", "b"}},
		{"until the newest point is local enough", chunkstore.VolumeUsage{Stored: 400, Needed: 400, Newest: 100, Pinned: 350, Packs: []chunkstore.PackUsage{pack("a", 100, 98, 20), pack("b", 100, 100, 50)}}, []string{"a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCleaning(&tt.u)
			var got []string
			for _, p := range c.candidates {
				if c.wants(p) {
					got = append(got, p.Name)
					c.emptied(p)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
