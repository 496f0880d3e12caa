// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// garbage is what somebody without the key can put under a name: nothing like a
// record, or one with a good header, of an unknown key or a version to come.
var garbage = map[string]string{
	"text":    "garbage",
	"key":     "TDMR\x01\x00\x00\x00" + strings.Repeat("k", 80),
	"version": "TDMR\x02\x00\x00\x00" + strings.Repeat("k", 80),
	"long":    strings.Repeat("x", maxOpenSize+1),
}

// A tombstone counts if the key sealed it, for that point; another is reported.
func TestForgedTombstone(t *testing.T) {
	for kind, bytes := range garbage {
		s := mem.New()
		initRepo(t, s)
		r := openRepo(t, s, "")
		data := noise(1, 4*testChunk)
		p := backup{repo: r, volume: "v", data: data}.must(t)
		put(t, s, forgottenName(p.ID), bytes)
		r = openRepo(t, s, "")
		history{p.ID: data}.checkIn(t, r)
		wantDamaged(t, r, forgottenName(p.ID))
		if gone, err := r.Forgotten(t.Context(), p.ID); gone || err != nil {
			t.Errorf("%s: a forged tombstone is believed (%v)", kind, err)
		}
		// A writer is careful all the same: a true one may have rotted.
		var careful bool
		next := backup{repo: r, volume: "v", base: p, old: data, data: data, begun: func(s *Session) error {
			careful = s.BaseForgotten
			return nil
		}}.must(t)
		if !careful || next.Base != nil {
			t.Errorf("%s: a point with a damaged tombstone is built upon", kind)
		}
	}
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	p := backup{repo: r, volume: "v", data: noise(1, testChunk)}.must(t)
	putRecord(t, r, forgottenName(p.ID), TombstoneRecord{Point: PointRef{ID: hexID(3)}})
	if gone, _ := r.Forgotten(t.Context(), p.ID); gone {
		t.Error("another point's tombstone counts")
	}
	q := backup{repo: r, volume: "v", data: noise(2, testChunk)}.must(t)
	must(t, r.Forget(t.Context(), PointRef{ID: q.ID}, "test"))
	for range 2 {
		if gone, err := r.Forgotten(t.Context(), q.ID); !gone || err != nil {
			t.Errorf("a true tombstone is not believed: %v", err)
		}
	}
}

// Garbage under free names stops nobody from reading, and only that of an epoch
// stops writers, who say why.
func TestGarbageUnderFreeNames(t *testing.T) {
	for _, name := range []string{epochName(0), outcomeName(1), slotRemovedName(0), sessionName(1)} {
		for kind, bytes := range garbage {
			t.Run(kind+" "+name, func(t *testing.T) { garbageUnder(t, name, bytes) })
		}
	}
}

func garbageUnder(t *testing.T, name, bytes string) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	data := noise(1, 4*testChunk)
	p := backup{repo: r, volume: "v", data: data}.must(t)
	if name == outcomeName(1) {
		undecided, err := r.Begin(t.Context(), SessionOptions{Volume: "w", Budget: Budget{PackBytes: 1 << 20}})
		must(t, err)
		must(t, undecided.Close())
	}
	if name == epochName(0) && len(bytes) > maxOpenSize {
		t.Skip("an epoch may be so long")
	}
	put(t, s, name, bytes)
	r = openRepo(t, s, "")
	want := history{p.ID: data}
	want.checkIn(t, r)
	if name != sessionName(1) { // looked at by those only who extend the same base
		wantDamaged(t, r, name)
	}
	next := noise(3, 4*testChunk)
	q, err := backup{repo: r, volume: "v", base: p, old: data, data: next}.run(t.Context())
	if name == epochName(0) {
		wantCorrupt(t, err, name)
		return
	}
	must(t, err)
	if name == sessionName(1) && q.Line == p.Line {
		t.Error("a session that may extend the same base makes no branch")
	}
	want[q.ID] = next
	want.check(t, s)
}

// A removed slot does not open, though its object is there; a mark that another
// slot's keys did not seal for it is none.
func TestRemovedSlot(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	putRecord(t, r, slotRemovedName(0), RemovedRecord{Slot: 1})
	wantDamaged(t, openRepo(t, s, ""), slotRemovedName(0))
	must(t, s.Delete(t.Context(), slotRemovedName(0)))
	second := []byte("second")
	slot, err := seal.NewSlot(r.Keyring(), second, r.configRaw, cheapKDF)
	must(t, err)
	put(t, s, slotName(1), string(slot))
	putRecord(t, r, slotRemovedName(0), RemovedRecord{Slot: 0})
	if _, err := tryOpen(t.Context(), s, ""); !errors.Is(err, seal.ErrWrongPassphrase) {
		t.Errorf("%v, want %v", err, seal.ErrWrongPassphrase)
	}
	for range 2 { // with the slot's object and without
		again, err := Open(t.Context(), s, second, OpenOptions{})
		must(t, err)
		must(t, again.Close())
		_ = s.Delete(t.Context(), slotName(0))
	}
}

// Slots that somebody put behind the true ones cost a bounded time.
func TestManySlots(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	slot, err := seal.NewSlot(r.Keyring(), []byte("another"), r.configRaw, cheapKDF)
	must(t, err)
	for n := 1; n < 2*maxSlots; n++ {
		put(t, s, slotName(n), string(slot))
	}
	openRepo(t, s, "")
	_, err = Open(t.Context(), s, []byte("wrong"), OpenOptions{})
	if !errors.Is(err, seal.ErrWrongPassphrase) || !strings.Contains(err.Error(), fmt.Sprint(maxSlots)) {
		t.Errorf("%v, want the number of slots tried", err)
	}
	v := &vault{config: r.config, configRaw: r.configRaw}
	rec := &recorder{Store: s}
	_ = v.unlock(t.Context(), rec, []byte("wrong"))
	if n := len(rec.trace()); n > 2*maxSlots {
		t.Errorf("%d requests", n)
	}
}
