// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

func TestWriterRefuses(t *testing.T) {
	page := Extent{Off: 8192, Len: 4096, Chunk: chunkID(1), Birth: 1}
	with := func(change func(e *Extent)) []Extent {
		e := page
		change(&e)
		return []Extent{e}
	}
	for _, tt := range []struct {
		name, want string
		extents    []Extent
	}{
		{"overlapping", "begins before 12288", []Extent{page, page}},
		{"descending", "begins before 12288", []Extent{page, {Off: 0, Len: 1, Hole: true}}},
		{"empty", "has length 0", with(func(e *Extent) { e.Len = 0 })},
		{"negative", "extent at -1", with(func(e *Extent) { e.Off = -1 })},
		{"past the end of numbers", "has length", with(func(e *Extent) { e.Off = maxOffset })},
		{"past the end of its chunk", "limit 8388608", with(func(e *Extent) { e.ChunkOff = MaxChunk })},
		{"longer than a chunk", "limit 8388608", with(func(e *Extent) { e.Len = MaxChunk + 1 })},
		{"without chunk", "no chunk", with(func(e *Extent) { e.Chunk = chunk.ID{} })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWriter(newMemory(), false)
			var err error
			for _, e := range tt.extents {
				err = w.Add(t.Context(), e)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Add: %v, want %q", err, tt.want)
			}
			if _, closeErr := w.Close(t.Context()); !errors.Is(closeErr, err) {
				t.Errorf("Close: %v, want the error of Add", closeErr)
			}
		})
	}
}

func TestWriterClosed(t *testing.T) {
	w := NewWriter(newMemory(), true)
	if ref, err := w.Close(t.Context()); err != nil || ref != (Ref{}) {
		t.Fatalf("Close of an empty tree: %+v, %v", ref, err)
	}
	if err := w.Add(t.Context(), Extent{Len: 1, Hole: true}); err == nil {
		t.Error("Add after Close succeeded")
	}
	if _, err := w.Close(t.Context()); err == nil {
		t.Error("second Close succeeded")
	}
}

// broken fails at the nth call.
type broken struct {
	memory
	left int
	err  error
}

func (b *broken) call() error {
	if b.left--; b.left < 0 {
		return b.err
	}
	return nil
}

func (b *broken) WriteNode(ctx context.Context, plain []byte) (chunk.ID, error) {
	if err := b.call(); err != nil {
		return chunk.ID{}, err
	}
	return b.memory.WriteNode(ctx, plain)
}

func (b *broken) ReadNode(ctx context.Context, id chunk.ID) ([]byte, error) {
	if err := b.call(); err != nil {
		return nil, err
	}
	return b.memory.ReadNode(ctx, id)
}

// An error at any read or write comes out of whatever needed it.
func TestErrorsComeOut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := &broken{memory: *newMemory(), left: 1 << 30, err: errors.New("disk on fire")}
	geo := tiny(4096)
	one := func(birth uint64, base bool) Ref {
		w := newWriter(b, base, geo)
		for _, e := range randomPages(r, 8<<20, 100, birth) {
			if err := w.Add(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		ref, err := w.Close(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	m := Map{Size: 8 << 20, Base: one(1, true), Runs: []Ref{one(3, false), one(2, false)}}
	other := Map{Size: 8 << 20, Base: one(4, true)}
	nothing := func(off, n int64) error { return nil }
	ops := map[string]func() error{
		"iterate": func() error { _, err := Lookup(t.Context(), b, m, 0, m.Size); return err },
		"fold": func() error {
			_, _, err := compact(t.Context(), b, b, m, Policy{FoldPercent: 1}, geo)
			return err
		},
		"merge": func() error {
			_, _, err := compact(t.Context(), b, b, m, Policy{Fanout: 2, FoldPercent: 1 << 30}, geo)
			return err
		},
		"diff":    func() error { return Diff(t.Context(), b, m, other, nothing) },
		"changed": func() error { return ChangedSince(t.Context(), b, m, 1, nothing) },
		"walk":    func() error { return Walk(t.Context(), b, m, func(chunk.ID) error { return nil }) },
	}
	for name, op := range ops {
		t.Run(name, func(t *testing.T) {
			b.left = 1 << 30
			if err := op(); err != nil {
				t.Fatal(err)
			}
			calls := 1<<30 - b.left
			for n := range calls {
				b.left = n
				if err := op(); !errors.Is(err, b.err) {
					t.Fatalf("call %d of %d fails: %v", n, calls, err)
				}
			}
		})
	}
}

func TestEmitErrorStops(t *testing.T) {
	store := newMemory()
	m := Map{Size: 1 << 30, Runs: []Ref{build(t, store, false, randomPages(rand.New(rand.NewPCG(1, 2)), 1<<30, 50, 2))}}
	stop := errors.New("enough")
	calls := 0
	emit := func(off, n int64) error { calls++; return stop }
	if err := ChangedSince(t.Context(), store, m, 1, emit); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("ChangedSince: %v after %d calls", err, calls)
	}
	calls = 0
	if err := Diff(t.Context(), store, Map{Size: 1 << 30}, m, emit); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("Diff: %v after %d calls", err, calls)
	}
	if err := Walk(t.Context(), store, m, func(chunk.ID) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Walk: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	store := newMemory()
	m := Map{Size: 1 << 30, Base: build(t, store, true, cutChunks(rand.New(rand.NewPCG(1, 2)), 1<<30, 2))}
	ctx, cancel := context.WithCancel(t.Context())
	it := NewIterator(store, m, 0, m.Size, Options{})
	if _, ok, err := it.Next(ctx); !ok || err != nil {
		t.Fatal(ok, err)
	}
	cancel()
	if _, err := rest(ctx, it); !errors.Is(err, context.Canceled) {
		t.Errorf("iterate on: %v", err)
	}
	if _, _, err := it.Next(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("the error does not stick: %v", err)
	}
}

// A large map is found, compared and folded by reading little of it.
func TestReadsOnlyWhatIsNeeded(t *testing.T) {
	const volume = 256 << 30
	r := rand.New(rand.NewPCG(1, 2))
	store := newMemory()
	old := Map{Size: volume, Birth: 1, Base: build(t, store, true, cutChunks(r, volume, 1))}
	if old.Base.Height != 2 {
		t.Fatalf("base of height %d", old.Base.Height)
	}
	page := Extent{Off: 100 << 30, Len: 8192, Chunk: chunkID(1 << 60), Birth: 2}
	now := old
	now.Runs = []Ref{build(t, store, false, []Extent{page})}
	reads := func(what string, limit int, do func() error) {
		t.Helper()
		store.reads, store.writes = 0, 0
		if err := do(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d nodes read, %d written", what, store.reads, store.writes)
		if store.reads+store.writes > limit {
			t.Errorf("%s: limit %d nodes", what, limit)
		}
	}
	emit := func(off, n int64) error {
		if off != page.Off || n != page.Len {
			t.Errorf("emitted %d+%d", off, n)
		}
		return nil
	}
	reads("look up", 4, func() error { _, err := Lookup(t.Context(), store, now, 50<<30, 4096); return err })
	reads("look up what a run hides", 1, func() error { _, err := Lookup(t.Context(), store, now, page.Off, page.Len); return err })
	reads("changed since", 2, func() error { return ChangedSince(t.Context(), store, now, 1, emit) })
	reads("changed since itself", 2, func() error { return ChangedSince(t.Context(), store, now, 2, emit) })
	reads("diff", 8, func() error { return Diff(t.Context(), store, old, now, emit) })
	var folded Map
	reads("fold", 12, func() error {
		ref, shared, err := foldRuns(t.Context(), store, store, now, standard)
		folded = Map{Size: volume, Birth: 1, Base: ref}
		if shared != 31+127 {
			t.Errorf("%d subtrees shared", shared)
		}
		return err
	})
	reads("diff of bases", 12, func() error { return Diff(t.Context(), store, old, folded, emit) })
	reads("diff of equal maps", 0, func() error { return Diff(t.Context(), store, folded, folded, emit) })
	reads("changed since, folded", 6, func() error { return ChangedSince(t.Context(), store, folded, 1, emit) })
}

func TestWalkVisitsEveryNodeOnce(t *testing.T) {
	store := newMemory()
	r := rand.New(rand.NewPCG(1, 2))
	m := Map{Size: 64 << 30, Base: build(t, store, true, cutChunks(r, 64<<30, 1))}
	m.Runs = []Ref{{}, build(t, store, false, randomPages(r, 64<<30, 50_000, 2))}
	seen := make(map[chunk.ID]int)
	if err := Walk(t.Context(), store, m, func(id chunk.ID) error { seen[id]++; return nil }); err != nil {
		t.Fatal(err)
	}
	for id := range store.nodes {
		if seen[id] != 1 {
			t.Errorf("node %s seen %d times", id.Short(), seen[id])
		}
	}
	if len(seen) != len(store.nodes) {
		t.Errorf("%d of %d nodes", len(seen), len(store.nodes))
	}
	calls := 0
	err := Walk(t.Context(), store, m, func(chunk.ID) error { calls++; return ErrSkip })
	if err != nil || calls != 2 {
		t.Errorf("%d roots, %v", calls, err)
	}
}

func TestDigestBindsEverything(t *testing.T) {
	m := Map{Size: 9, Birth: 1, Base: Ref{Root: chunkID(1)}, Runs: []Ref{{Root: chunkID(2)}, {Root: chunkID(3)}}}
	seen := map[[32]byte]string{m.Digest(): "the map"}
	for name, change := range map[string]func(m *Map){
		"size":      func(m *Map) { m.Size++ },
		"birth":     func(m *Map) { m.Birth++ },
		"base":      func(m *Map) { m.Base.Root[31]++ },
		"no base":   func(m *Map) { m.Base = Ref{} },
		"order":     func(m *Map) { m.Runs = []Ref{m.Runs[1], m.Runs[0]} },
		"fewer":     func(m *Map) { m.Runs = m.Runs[:1] },
		"empty run": func(m *Map) { m.Runs = append(m.Runs, Ref{}) },
	} {
		c := m
		change(&c)
		if other, known := seen[c.Digest()]; known {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[c.Digest()] = name
	}
}

func TestMapAsJSON(t *testing.T) {
	m := Map{Size: 9, Birth: 4, Base: Ref{Root: chunkID(1), Height: 2, Extents: 3, Bytes: 4, Stored: 5}, Runs: []Ref{{Root: chunkID(2)}}}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var got Map
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got); d != "" {
		t.Error(d)
	}
	var ref map[string]any
	if err := json.Unmarshal(b, &struct{ Base *map[string]any }{&ref}); err != nil || ref["stored"] != 5.0 || ref["height"] != 2.0 {
		t.Errorf("base is %v, %v", ref, err)
	}
}

// A leaf that does not decode to what went in is never stored.
func TestVerifiedBeforeStored(t *testing.T) {
	store := newMemory()
	w := NewWriter(store, false)
	for i := range int64(5) {
		if err := w.Add(t.Context(), Extent{Off: i * 8192, Len: 4096, Chunk: chunkID(1), Birth: 3}); err != nil {
			t.Fatal(err)
		}
	}
	w.leaf.entries[len(w.leaf.entries)-1] ^= 1 // a bit flips in memory
	if _, err := w.Close(t.Context()); !errors.Is(err, ErrVerify) || store.writes != 0 {
		t.Errorf("Close: %v, %d nodes stored", err, store.writes)
	}
}

func TestIterationAllocatesNothing(t *testing.T) {
	const volume = 8 << 30
	r := rand.New(rand.NewPCG(1, 2))
	store := newMemory()
	m := Map{Size: volume, Base: build(t, store, true, cutChunks(r, volume, 1))}
	for i := range 4 {
		m.Runs = append([]Ref{build(t, store, false, randomPages(r, volume, 10_000, uint64(i+2)))}, m.Runs...)
	}
	it := NewIterator(store, m, 0, volume, Options{})
	ctx := t.Context()
	next := func() {
		if _, ok, err := it.Next(ctx); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	for range 10_000 {
		next()
	}
	if n := testing.AllocsPerRun(20_000, next); n != 0 {
		t.Errorf("%v allocations per extent", n)
	}
}
