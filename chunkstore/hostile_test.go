// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// hostileBed is a repository with every kind of object in it, twice.
func hostileBed(t testing.TB) (*mem.Store, history) {
	t.Helper()
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	want := history{}
	for i := range uint64(2) {
		data := noise(i, 3*testChunk+100)
		p := backup{repo: r, volume: "v", data: data}.must(t)
		want[p.ID] = data
		next := edited(data, i+8, 2, 3)
		want[backup{repo: r, volume: "v", base: p, old: data, data: next}.must(t).ID] = next
	}
	open, err := r.Begin(t.Context(), SessionOptions{Volume: "v"})
	if err != nil {
		t.Fatal(err)
	}
	must(t, open.Close())
	config, err := objstore.ReadAll(t.Context(), s, configName, maxConfigSize)
	if err != nil {
		t.Fatal(err)
	}
	slot, err := seal.NewSlot(r.keyring, []byte("second"), config, cheapKDF)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, slotName(1), string(slot))
	condemn(t, r, 0, "packs/0000000009/000000-"+strings.Repeat("a", 64))
	publish(t, r, 1, 2, outcomeOf(t, r, 0), outcomeOf(t, r, 1))
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	u, err := r.Survey(t.Context(), nil)
	if err == nil {
		err = r.PublishUsage(t.Context(), u)
	}
	if err == nil {
		err = r.PublishUsage(t.Context(), u)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, want
}

// kindOf groups objects that are alike.
func kindOf(name string) string {
	dir, _, _ := strings.Cut(name, "/")
	if dir == "gc" {
		dir = strings.Join(strings.Split(name, "/")[:2], "/")
	}
	if strings.HasSuffix(name, "/outcome") {
		dir += " outcome"
	}
	return dir
}

// named tells whether an error says which object is bad.
func named(err error, object string) bool {
	return strings.Contains(err.Error(), object) || kindOf(object) == "keys" && strings.Contains(err.Error(), "key slot") ||
		object == configName && strings.Contains(err.Error(), "config")
}

// useAll reads everything there is and backs up once more: what readers and
// writers do.
func useAll(t testing.TB, s *mem.Store, want history) []error {
	t.Helper()
	failures := checkNeverWrong(t, s, want, nil)
	r, err := tryOpen(t.Context(), s, "")
	if err != nil {
		return append(failures, err)
	}
	defer r.Close()
	if _, err := r.Usage(t.Context(), "v"); err != nil {
		failures = append(failures, err)
	}
	ix, err := r.Index(t.Context())
	if err != nil {
		return append(failures, err)
	}
	err = ix.Packs(t.Context(), func(id index.PackID) error {
		if _, err := r.TOC(t.Context(), id); err != nil {
			failures = append(failures, err)
		}
		return nil
	})
	if err != nil {
		return append(failures, err)
	}
	data := noise(77, testChunk)
	p, err := backup{repo: r, volume: "new", data: data}.run(t.Context())
	if err != nil {
		return append(failures, err)
	}
	if got, err := read(t.Context(), r, p); err != nil || !bytes.Equal(got, data) {
		t.Errorf("a new point does not read back: %v", err)
	}
	return failures
}

// Each kind of object, with each sampled byte flipped, cut short and replaced:
// an error that names it, or no effect, never wrong bytes.
func TestHostileBytes(t *testing.T) {
	bed, want := hostileBed(t)
	seen := map[string]int{}
	unnoticed := map[string]int{}
	for _, name := range bed.Objects() {
		kind := kindOf(name)
		if seen[kind]++; seen[kind] > 1 && kind != "packs" || seen[kind] > 2 { // packs: one of data, one of nodes
			continue
		}
		data, err := objstore.ReadAll(t.Context(), bed, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range hostileChanges(data) {
			s := bed.Clone()
			s.Tamper(name, change)
			failures := useAll(t, s, want)
			if len(failures) == 0 {
				unnoticed[kind]++
			}
			for _, err := range failures {
				if !named(err, name) {
					t.Errorf("damage to %s is reported as %v", name, err)
				}
			}
		}
	}
	// A slot that isn't needed, a proof, an older epoch, outcomes that the
	// catalogue has: these may be anything. What follows a pack nobody reads.
	for kind, most := range map[string]int{"config": 0, "packs": 2, "points": 0, "gc/catalogue": 0, "index": 0} {
		if n := unnoticed[kind]; n > most || seen[kind] == 0 {
			t.Errorf("%d damages to %s had no effect, of %d objects", n, kind, seen[kind])
		}
	}
}

func hostileChanges(data []byte) []func([]byte) []byte {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[at] ^= 1 << (at % 8)
			return b
		}
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	out := []func([]byte) []byte{
		cut(0), cut(len(data) / 2), cut(len(data) - 1),
		func(b []byte) []byte { return append(b, 0) },
		func(b []byte) []byte { return make([]byte, len(b)) },
	}
	step := max(1, len(data)/12)
	for at := 0; at < len(data); at += step {
		out = append(out, flip(at))
	}
	return append(out, flip(len(data)-1))
}

// Objects of one kind under each other's names.
func TestHostileSwaps(t *testing.T) {
	bed, want := hostileBed(t)
	byKind := map[string][]string{}
	for _, n := range bed.Objects() {
		byKind[kindOf(n)] = append(byKind[kindOf(n)], n)
	}
	swaps := 0
	for kind, names := range byKind {
		for i, a := range names {
			for _, b := range names[i+1:] {
				if kind == "probe" {
					continue
				}
				s := bed.Clone()
				da, err := objstore.ReadAll(t.Context(), bed, a, 1<<30)
				must(t, err)
				db, err := objstore.ReadAll(t.Context(), bed, b, 1<<30)
				must(t, err)
				s.Tamper(a, func([]byte) []byte { return db })
				s.Tamper(b, func([]byte) []byte { return da })
				swaps++
				for _, err := range useAll(t, s, want) {
					if !named(err, a) && !named(err, b) {
						t.Errorf("%s and %s swapped: %v", a, b, err)
					}
				}
			}
		}
	}
	if swaps < 30 {
		t.Errorf("only %d swaps", swaps)
	}
}

// An object of another repository with the same keys is not accepted, for
// records are bound to theirs.
func TestHostileTransplant(t *testing.T) {
	a := mem.New()
	initRepo(t, a)
	r := openRepo(t, a, "")
	want := history{}
	data := noise(1, testChunk)
	want[backup{repo: r, volume: "v", data: data}.must(t).ID] = data
	other := *r.config
	other.ID = hexID(5)
	r.config = &other
	for _, n := range a.Objects() {
		if strings.HasPrefix(n, "sessions/") || strings.HasPrefix(n, "points/") {
			plain := map[string]any{}
			sealed, err := objstore.ReadAll(t.Context(), a, n, 1<<20)
			must(t, err)
			if err := r.openRecord(n, sealed, &plain); err == nil {
				t.Errorf("%s opens in another repository", n)
			}
		}
	}
}

// Missing objects are named as damage, with the error that programs exit 3 on.
func TestHostileAbsence(t *testing.T) {
	bed, want := hostileBed(t)
	for _, name := range bed.Objects() {
		s := del(t, bed.Clone(), name)
		kind := kindOf(name)
		switch kind {
		case "probe", "keys", "config", "sessions", "sessions outcome", "gc/epochs":
			continue // absence means something there, and is tested elsewhere
		}
		failures := useAll(t, s, want)
		for _, err := range failures {
			if _, ok := errors.AsType[*seal.CorruptError](err); !ok || !named(err, name) {
				t.Errorf("without %s: %v", name, err)
			}
		}
		if len(failures) == 0 && (kind == "packs" || kind == "points" || kind == "index") {
			t.Errorf("nobody misses %s", name)
		}
	}
}

// What a holder of the key wrote wrongly (a bug, not an attack) is refused, and
// never a panic: a map that points beyond its chunk, a node in a data pack.
func TestSenselessMaps(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	session, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 1 << 20}})
	must(t, err)
	defer session.Close()
	plain := noise(1, testChunk)
	id, _, err := session.Put(t.Context(), Chunk{Class: chunk.Base, Plain: plain})
	must(t, err)
	w := imagemap.NewWriter(session, true)
	must(t, w.Add(t.Context(), imagemap.Extent{Off: 0, Len: 2 * testChunk, Chunk: id, Birth: session.Number()}))
	ref, err := w.Close(t.Context())
	must(t, err)
	for i, m := range []imagemap.Map{
		{Size: 2 * testChunk, Base: ref},
		{Size: testChunk, Base: imagemap.Ref{Root: id, Extents: 1, Bytes: testChunk, Stored: testChunk}},
		{Size: testChunk, Base: imagemap.Ref{Root: chunk.ID{1}, Extents: 1}},
	} {
		p := &Point{ID: hexID(byte(i + 1)), Volume: "v", Size: m.Size, Map: m, Line: "l"}
		if i > 0 {
			session, err = r.Begin(t.Context(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 1 << 20}})
			must(t, err)
			defer session.Close()
		}
		must(t, session.Commit(t.Context(), p))
		if _, err := read(t.Context(), r, p); err == nil {
			t.Errorf("map %d is read", i)
		}
	}
	loc, err := r.Locate(t.Context(), id)
	must(t, err)
	toc, err := r.TOC(t.Context(), loc.Pack)
	must(t, err)
	var c *pack.TOCChunk
	for i := range toc.Chunks {
		if toc.Chunks[i].ID == id {
			c = &toc.Chunks[i]
		}
	}
	f := r.NewFrameReader()
	for _, span := range [][2]int64{{-1, 5}, {5, 5}, {6, 5}, {0, testChunk + 1}, {testChunk, testChunk + 1}, {1 << 40, 1<<40 + 1}} {
		if _, err := f.Read(t.Context(), loc, c, span[0], span[1]); err == nil {
			t.Errorf("bytes %v are read", span)
		}
	}
	got, err := f.Read(t.Context(), loc, c, 5, testChunk)
	if err != nil || !bytes.Equal(got, plain[5:]) {
		t.Errorf("bytes 5 to the end: %v", err)
	}
}
