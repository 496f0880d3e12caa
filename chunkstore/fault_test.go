// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/fault"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/retry"
)

// faulty opens the repository and runs one incremental backup over a store with
// faults. It tells the point, if the backup says that there is one.
func faulty(ctx context.Context, s objstore.Store, base *Point, old, data []byte) (*Point, error) {
	r, err := tryOpen(ctx, s, "")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return backup{repo: r, volume: "v", base: base, old: old, data: data, uploads: 1}.run(ctx)
}

type faultBed struct {
	store     *mem.Store
	base      *Point
	old, data []byte
}

func newFaultBed(t testing.TB) faultBed {
	t.Helper()
	b := faultBed{store: mem.New(), old: noise(1, 4*testChunk)}
	b.data = edited(b.old, 3, 0, 5, 9)
	initRepo(t, b.store)
	b.base = backup{repo: openRepo(t, b.store, ""), volume: "v", data: b.old}.must(t)
	return b
}

// check opens what a fault left behind: the old point is there, the new one
// whole or not at all, and if the backup succeeded it is there.
func (b faultBed) check(t testing.TB, s *mem.Store, p *Point, err error) {
	t.Helper()
	r := openRepo(t, s, "")
	want := history{b.base.ID: b.old}
	for _, m := range r.Metas("v") {
		if m.ID != b.base.ID {
			want[m.ID] = b.data
		}
	}
	if err == nil && want[p.ID] == nil {
		t.Error("the backup succeeded, but there is no point")
	}
	if len(want) > 2 {
		t.Errorf("%d points", len(want))
	}
	want.checkIn(t, r)
	// And the repository goes on as if nothing had been.
	next := edited(b.data, 11, 2)
	p, err = faulty(t.Context(), s, b.base, b.old, next)
	if err != nil {
		t.Fatalf("the next backup: %v", err)
	}
	want[p.ID] = next
	want.check(t, s)
}

// Each call of a small backup fails once, in each way.
func TestEveryCallFails(t *testing.T) {
	actions := []string{
		"error=retryable", "error=not-exist", "error=exists", "lost", "crash", "crash-after",
	}
	bed := newFaultBed(t)
	for _, action := range actions {
		t.Run(action, func(t *testing.T) {
			failed := 0
			for n := 1; ; n++ {
				s := bed.store.Clone()
				f := wrapFault(t, s, fmt.Sprintf("any * nth=%d %s", n, action))
				p, err := faulty(t.Context(), f, bed.base, bed.old, bed.data)
				if f.Fired()[0] == 0 {
					if err != nil || n < 20 {
						t.Fatalf("no fault at call %d: %v", n, err)
					}
					break
				}
				if err != nil {
					failed++
				}
				bed.check(t, s, p, err)
			}
			if failed == 0 {
				t.Error("no fault made a backup fail: they had no effect")
			}
		})
	}
}

// Bodies are cut or falsified on their way: puts that report success all the
// same, and gets. Damage to what is committed must be named; what is named
// must not be served.
func TestEveryBodyIsWrong(t *testing.T) {
	bed := newFaultBed(t)
	for _, rule := range []string{"get * nth=%d cut=0", "get * nth=%d cut=20", "get * nth=%d flip=0", "get * nth=%d flip=70"} {
		t.Run(rule, func(t *testing.T) {
			for n := 1; ; n++ {
				s := bed.store.Clone()
				f := wrapFault(t, s, fmt.Sprintf(rule, n))
				p, err := faulty(t.Context(), f, bed.base, bed.old, bed.data)
				if f.Fired()[0] == 0 {
					break
				}
				bed.check(t, s, p, err)
			}
		})
	}
	for _, rule := range []string{"put * nth=%d cut=0", "put * nth=%d cut=60", "put * nth=%d flip=0", "put * nth=%d flip=100"} {
		t.Run(rule, func(t *testing.T) {
			for n := 1; ; n++ {
				s := bed.store.Clone()
				f := wrapFault(t, s, fmt.Sprintf(rule, n))
				_, _ = faulty(t.Context(), f, bed.base, bed.old, bed.data)
				if f.Fired()[0] == 0 {
					break
				}
				checkNeverWrong(t, s, history{bed.base.ID: bed.old}, bed.data)
			}
		})
	}
}

// checkNeverWrong reads everything there is: each point is right or an error.
func checkNeverWrong(t testing.TB, s objstore.Store, want history, other []byte) (failures []error) {
	t.Helper()
	r, err := tryOpen(t.Context(), s, "")
	if err != nil {
		return []error{err}
	}
	defer r.Close()
	for _, m := range r.Metas("") {
		p, err := r.ReadPoint(t.Context(), m)
		var got []byte
		if err == nil {
			got, err = read(t.Context(), r, p)
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		expect, ok := want[m.ID]
		if !ok {
			expect = other
		}
		if !bytes.Equal(got, expect) {
			t.Errorf("point %.8s reads wrong bytes without an error", m.ID)
		}
	}
	return failures
}

// With the retrying decorator, as programs use it, lost answers are no failures
// at all: for each kind of object.
func TestLostAnswersWithRetry(t *testing.T) {
	bed := newFaultBed(t)
	for _, object := range []string{"probe/*", "sessions/*/open", "packs/*", "index/*", "points/*", "sessions/*/outcome"} {
		for _, action := range []string{"lost", "taken"} {
			s := bed.store.Clone()
			f := wrapFault(t, s, "put "+object+" nth=1 "+action)
			p, err := faulty(t.Context(), retry.Wrap(f, retry.Policy{Initial: 1, MaxPause: 1}), bed.base, bed.old, bed.data)
			if f.Fired()[0] != 1 {
				t.Fatalf("%s: no fault", object)
			}
			if err != nil {
				t.Errorf("%s, %s: %v", object, action, err)
			}
			bed.check(t, s, p, err)
		}
	}
}

// A store that runs full says so, and takes up again when there is space.
func TestFullStore(t *testing.T) {
	bed := newFaultBed(t)
	for n := 1; n < 7; n++ {
		s := bed.store.Clone()
		f := wrapFault(t, s, fmt.Sprintf("put * from=%d error=full", n))
		_, err := faulty(t.Context(), f, bed.base, bed.old, bed.data)
		if !errors.Is(err, objstore.ErrFull) {
			t.Errorf("full at put %d: %v, want %v", n, err, objstore.ErrFull)
		}
		bed.check(t, s, nil, err)
	}
}

// Random faults on everything, over several backups: whatever is committed
// stays right.
func TestRandomFaults(t *testing.T) {
	for seed := range 12 {
		bed := newFaultBed(t)
		script := fmt.Sprintf("seed %d; any * p=0.04 lost; put * p=0.02 taken; any * p=0.03 error=retryable; get * p=0.03 cut=33; get * p=0.02 flip=50", seed)
		f, err := fault.Wrap(bed.store, script)
		if err != nil {
			t.Fatal(err)
		}
		want := history{bed.base.ID: bed.old}
		data := bed.data
		var tried [][]byte
		for i := range 12 {
			data = edited(data, uint64(seed*100+i), i)
			tried = append(tried, data)
			if p, err := faulty(t.Context(), f, bed.base, bed.old, data); err == nil {
				want[p.ID] = data
			}
		}
		r := openRepo(t, bed.store, "")
		for _, m := range r.Metas("") {
			if want[m.ID] != nil {
				continue
			}
			// Committed though its writer heard otherwise: whole all the same.
			p, err := r.ReadPoint(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			got, err := read(t.Context(), r, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range tried {
				if bytes.Equal(d, got) {
					want[m.ID] = d
				}
			}
		}
		want.checkIn(t, r)
	}
}
