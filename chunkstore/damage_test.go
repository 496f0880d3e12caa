// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// One outcome rots: its session is lost and told, every other is intact, and
// nobody counts on its chunks, a warm cache or not.
func TestOneRottenOutcome(t *testing.T) {
	for _, warm := range []bool{false, true} {
		s := mem.New()
		initRepo(t, s)
		dir := ""
		if warm {
			dir = t.TempDir()
		}
		r := openRepo(t, s, dir)
		want := history{}
		var lost []byte
		for i := range uint64(3) {
			data := noise(i+1, 4*testChunk)
			p := backup{repo: r, volume: "v", data: data}.must(t)
			if want[p.ID] = data; i == 2 {
				delete(want, p.ID)
				lost = data
			}
		}
		_, err := r.Index(t.Context())
		must(t, err)
		must(t, r.Close())
		s.Tamper(outcomeName(2), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		r = openRepo(t, s, dir)
		want.checkIn(t, r)
		wantDamaged(t, r, outcomeName(2))
		seen := 0
		must(t, r.CheckRecords(t.Context(), func(object string, err error) {
			wantCorrupt(t, err, outcomeName(2))
			seen++
		}))
		if seen != 1 {
			t.Errorf("%d damages are found by a check, want 1", seen)
		}
		_, err = r.Resolve(t.Context(), "v@-7")
		wantCorrupt(t, err, outcomeName(2))
		p, n := newChunks(t, r, lost)
		if n != 4 {
			t.Errorf("%d chunks stored, want 4: those of a lost session count", n)
		}
		want[p.ID] = lost
		want.check(t, s)
	}
}

// A damaged epoch between good ones is of no consequence; as the newest it
// leaves the one before in force for readers.
func TestRottenEpoch(t *testing.T) {
	for _, n := range []uint64{0, 1} {
		s := mem.New()
		initRepo(t, s)
		r := openRepo(t, s, "")
		data := noise(1, testChunk)
		want := history{backup{repo: r, volume: "v", data: data}.must(t).ID: data}
		publish(t, r, 0, 1, outcomeOf(t, r, 0))
		condemn(t, r, 1)
		s.Tamper(epochName(1), func([]byte) []byte { return nil })
		publish(t, r, 2, 1, outcomeOf(t, r, 0))
		if n == 1 {
			del(t, s, epochName(2))
		}
		r = openRepo(t, s, "")
		want.checkIn(t, r)
		p, err := backup{repo: r, volume: "v", data: data}.run(t.Context())
		if n == 1 {
			wantDamaged(t, r, epochName(1))
			wantCorrupt(t, err, epochName(1))
			continue
		}
		must(t, err)
		if want[p.ID] = data; len(r.Damaged()) > 0 {
			t.Errorf("damaged: %v", r.Damaged())
		}
		want.check(t, s)
	}
}
