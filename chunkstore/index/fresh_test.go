// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// emitted collects segments as a repository would.
type emitted struct {
	locs []Location
	n    int
}

func (e *emitted) emit(_ context.Context, b []byte) error {
	s, err := DecodeSegment("emitted", b)
	if err != nil {
		return err
	}
	e.n++
	for i := range s.Len() {
		e.locs = append(e.locs, s.At(i))
	}
	return nil
}

func TestFreshModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		out := &emitted{}
		limit := rapid.IntRange(1, 8).Draw(t, "limit")
		f := NewFresh(fastDir(t), limit, out.emit)
		defer f.Close()
		model := map[chunk.ID]*Location{} // nil: in flight
		want := []Location{}
		some := rapid.IntRange(0, 15)
		t.Repeat(map[string]func(*rapid.T){
			"claim": func(t *rapid.T) {
				id := testID(some.Draw(t, "chunk"))
				state := New
				l, claimed := model[id]
				if claimed {
					state = Pending
				}
				if l != nil {
					state = Known
				}
				got, s, err := f.Claim(id)
				if err != nil || s != state || l != nil && got != *l || l == nil && got != (Location{}) {
					t.Fatalf("Claim: %v %v %v, expected %v", got, s, err, state)
				}
				if !claimed {
					model[id] = nil
				}
			},
			"done": func(t *rapid.T) {
				n := some.Draw(t, "chunk")
				l := testLocation(n, rapid.IntRange(0, 9).Draw(t, "pack"))
				old, claimed := model[l.ID]
				err := f.Done(ctx, l.ID, l)
				if (err == nil) != (claimed && old == nil) {
					t.Fatalf("Done of a chunk claimed %v, finished %v: %v", claimed, old != nil, err)
				}
				if err == nil {
					model[l.ID] = &l
					want = append(want, l)
				}
			},
			"lookup": func(t *rapid.T) {
				id := testID(some.Draw(t, "chunk"))
				l, found, err := f.Lookup(id)
				if err != nil || found != (model[id] != nil) || found && l != *model[id] {
					t.Fatalf("Lookup: %v %v %v", l, found, err)
				}
			},
			"flush": func(t *rapid.T) {
				flying := slices.Contains(values(model), nil)
				if err := f.Flush(ctx); (err == nil) == flying {
					t.Fatalf("Flush with chunks in flight %v: %v", flying, err)
				}
			},
			"": func(t *rapid.T) {
				if f.Len() != int64(len(want)) || len(want)-len(out.locs) >= limit {
					t.Fatalf("%d finished, %d emitted, limit %d", len(want), len(out.locs), limit)
				}
			},
		})
		for id, l := range model {
			if l == nil {
				l := Location{Pack: testPack(3), Entry: testLocation(1, 1).Entry}
				l.ID = id
				if err := f.Done(ctx, id, l); err != nil {
					t.Fatal(err)
				}
				want = append(want, l)
			}
		}
		if err := f.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if len(out.locs) != len(want) || !slices.Equal(sorted(out.locs), sorted(want)) {
			t.Fatalf("%d emitted, %d finished", len(out.locs), len(want))
		}
	})
}

func values[K comparable, V any](m map[K]V) (vs []V) {
	for _, v := range m {
		vs = append(vs, v)
	}
	return vs
}

// TestFreshClaimsOnce lets several goroutines claim the same chunks in other
// orders while the set spills and merges: each chunk is New to exactly one.
func TestFreshClaimsOnce(t *testing.T) {
	const chunks, workers = 3000, 6
	dir := fastDir(t)
	out := &emitted{}
	f := NewFresh(dir, 100, out.emit)
	defer f.Close()
	var fresh [chunks]atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range chunks {
				n := (i*(2*w+1) + w*37) % chunks
				want := testLocation(n, n/50)
				l, s, err := f.Claim(want.ID)
				switch {
				case err != nil:
					t.Error(err)
					return
				case s == New:
					fresh[n].Add(1)
					if err := f.Done(t.Context(), want.ID, want); err != nil {
						t.Error(err)
						return
					}
				case s == Known && l != want:
					t.Errorf("chunk %d is at %v", n, l)
				}
			}
		})
	}
	wg.Wait()
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range fresh {
		if got := fresh[n].Load(); got != 1 {
			t.Errorf("chunk %d was new to %d claimers", n, got)
		}
		if l, found, err := f.Lookup(testID(n)); err != nil || !found || l != testLocation(n, n/50) {
			t.Errorf("chunk %d: %v %v %v", n, l, found, err)
		}
	}
	if len(out.locs) != chunks || out.n < chunks/100/2 {
		t.Errorf("%d chunks in %d segments", len(out.locs), out.n)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("temporary files have names: %v, %v", files, err)
	}
}

func TestFreshBoundsMemory(t *testing.T) {
	const limit = 50
	f := NewFresh(fastDir(t), limit, func(context.Context, []byte) error { return nil })
	defer f.Close()
	for n := range 20 * limit {
		l := testLocation(n, 1)
		if _, s, err := f.Claim(l.ID); err != nil || s != New {
			t.Fatal(s, err)
		}
		if err := f.Done(t.Context(), l.ID, l); err != nil {
			t.Fatal(err)
		}
		if k := len(f.finished.entries); k >= limit || len(f.pending) != 0 || f.emitting != nil {
			t.Fatalf("%d finished chunks in memory, limit %d", k, limit)
		}
	}
	if n := len(f.set.now.tables); n > maxTables {
		t.Errorf("%d temporary tables", n)
	}
}

func TestFreshFailedEmitEndsTheSession(t *testing.T) {
	broken := errors.New("store is gone")
	f := NewFresh(fastDir(t), 1, func(context.Context, []byte) error { return broken })
	defer f.Close()
	a, b := testLocation(1, 1), testLocation(2, 1)
	for _, l := range []Location{a, b} {
		if _, s, err := f.Claim(l.ID); s != New || err != nil {
			t.Fatal(s, err)
		}
	}
	if err := f.Done(t.Context(), a.ID, a); !errors.Is(err, broken) {
		t.Errorf("Done: %v", err)
	}
	if l, s, err := f.Claim(a.ID); s != Known || l != a || err != nil {
		t.Errorf("a chunk got lost by the failure: %v %v %v", l, s, err)
	}
	if err := f.Done(t.Context(), b.ID, b); !errors.Is(err, broken) {
		t.Errorf("next Done: %v", err)
	}
	if err := f.Flush(t.Context()); err == nil {
		t.Error("Flush after a failure")
	}
}

// TestFreshHoldsBack shows that finished chunks can't pile up behind a slow
// store: the second batch waits, and waits no longer than its context.
func TestFreshHoldsBack(t *testing.T) {
	started, release := make(chan struct{}), make(chan struct{})
	f := NewFresh(fastDir(t), 1, func(context.Context, []byte) error {
		close(started)
		<-release
		return nil
	})
	defer f.Close()
	a, b := testLocation(1, 1), testLocation(2, 1)
	for _, l := range []Location{a, b} {
		if _, _, err := f.Claim(l.ID); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Done(t.Context(), a.ID, a); err != nil {
			t.Error(err)
		}
	})
	<-started
	if l, s, err := f.Claim(a.ID); s != Known || l != a || err != nil {
		t.Errorf("while it is emitted: %v %v %v", l, s, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Done(ctx, b.ID, b); !errors.Is(err, context.Canceled) {
		t.Errorf("Done while another emits: %v", err)
	}
	close(release)
	wg.Wait()
}

func TestFreshRefuses(t *testing.T) {
	f := NewFresh(fastDir(t), 10, nil)
	a := testLocation(1, 1)
	if err := f.Done(t.Context(), a.ID, a); err == nil || !strings.Contains(err.Error(), "not claimed") {
		t.Errorf("not claimed: %v", err)
	}
	if err := f.Done(t.Context(), testID(2), a); err == nil || !strings.Contains(err.Error(), "its place is of chunk") {
		t.Errorf("another's place: %v", err)
	}
	if err := f.Flush(t.Context()); err != nil {
		t.Errorf("Flush of nothing: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Claim(a.ID); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Claim after Close: %v", err)
	}
	if len(f.pending) != 0 {
		t.Error("a claim that failed is still pending")
	}
}

func TestFreshNoticesDamage(t *testing.T) {
	f := NewFresh(fastDir(t), 1, func(context.Context, []byte) error { return nil })
	defer f.Close()
	a := testLocation(1, 1)
	if _, _, err := f.Claim(a.ID); err != nil {
		t.Fatal(err)
	}
	if err := f.Done(t.Context(), a.ID, a); err != nil {
		t.Fatal(err)
	}
	tab := f.set.now.tables[0]
	if _, err := tab.f.WriteAt([]byte{0xff}, int64(tab.entries.first)*pageSize); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Claim(a.ID); !errors.Is(err, ErrCacheDamaged) {
		t.Errorf("Claim: %v", err)
	}
	if _, _, err := f.Lookup(a.ID); !errors.Is(err, ErrCacheDamaged) {
		t.Errorf("Lookup: %v", err)
	}
}
