// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"testing"

	"pgregory.net/rapid"
)

// step does one random thing to the volume.
func (v *volume) step(t *rapid.T, silent bool) {
	switch rapid.IntRange(0, 11).Draw(t, "step") {
	case 0:
		v.full(t)
	case 1:
		v.grow(t, false)
	case 2:
		if silent {
			v.grow(t, true)
		}
	case 3, 4, 5:
		v.compact(t)
	default:
		v.increment(t)
	}
}

func TestOverlayAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := newVolume(t)
		v.full(t)
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			v.step(t, true)
		}
		v.check(t, 0, v.units)
		lo := rapid.IntRange(0, v.units).Draw(t, "from")
		v.check(t, lo, rapid.IntRange(lo, v.units).Draw(t, "to"))
	})
}

// emitted collects what Diff or ChangedSince emits, unit by unit.
func (v *volume) emitted(t *rapid.T, run func(emit func(off, n int64) error) error) []bool {
	out := make([]bool, v.units)
	end := int64(-1)
	err := run(func(off, n int64) error {
		if off <= end || n <= 0 || off%v.unit != 0 || n%v.unit != 0 || off+n > v.m.Size {
			t.Fatalf("emitted %d+%d behind %d of %d", off, n, end, v.m.Size)
		}
		end = off + n
		for x := off; x < end; x += v.unit {
			out[x/v.unit] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestChangedSinceMissesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		silent := rapid.Bool().Draw(t, "silent growth")
		v := newVolume(t)
		v.full(t)
		points := []*volume{v.clone()}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			v.step(t, silent)
			points = append(points, v.clone())
		}
		at := rapid.IntRange(0, len(points)-1).Draw(t, "point")
		p, kept := points[at], points[at].units // kept: never outside of the volume since
		for _, q := range points[at:] {
			kept = min(kept, q.units)
		}
		got := v.emitted(t, func(emit func(off, n int64) error) error {
			return ChangedSince(t.Context(), v.store, v.m, p.births, emit)
		})
		for i := range v.units {
			c := v.cells[i]
			if exact := c.birth > p.births || p.births < v.m.Birth; got[i] != exact {
				t.Errorf("unit %d born %d, since %d: emitted %v", i, c.birth, p.births, got[i])
			}
			differs := i >= p.units || !c.sameBytes(p.cells[i])
			if moved := i < p.units && c.birth == p.cells[i].birth; differs && !moved && !got[i] && (!silent || i < kept) {
				t.Errorf("unit %d differs from point %d, not emitted", i, p.births)
			}
		}
	})
}

func TestDiffIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := newVolume(t)
		a.full(t)
		for range rapid.IntRange(0, 10).Draw(t, "shared steps") {
			a.step(t, true)
		}
		b := a.clone()
		for range rapid.IntRange(0, 8).Draw(t, "steps of a") {
			a.step(t, true)
		}
		b.chunks = a.chunks
		for range rapid.IntRange(0, 8).Draw(t, "steps of b") {
			b.step(t, true)
		}
		got := b.emitted(t, func(emit func(off, n int64) error) error { return Diff(t.Context(), b.store, a.m, b.m, emit) })
		for i := range b.units {
			if want := i >= a.units || !a.cells[i].sameBytes(b.cells[i]); got[i] != want {
				t.Errorf("unit %d: emitted %v; a %+v, b %+v", i, got[i], a.cells[min(i, a.units-1)], b.cells[i])
			}
		}
	})
}

// same compares extents of data with the model in [lo, hi) units.
func (v *volume) same(t *rapid.T, es []Extent, lo, hi int) {
	got := make([]cell, len(v.cells))
	for _, e := range es {
		if e.Off < int64(lo)*v.unit || e.End() > int64(hi)*v.unit {
			t.Fatalf("extent %+v outside of units %d–%d", e, lo, hi)
		}
		for x := e.Off; x < e.End(); x += v.unit {
			got[x/v.unit] = cell{true, e.Chunk, int64(e.ChunkOff) + x - e.Off, e.Birth}
		}
	}
	for i := lo; i < hi; i++ {
		if !got[i].sameBytes(v.cells[i]) {
			t.Fatalf("unit %d: got %+v, want %+v", i, got[i], v.cells[i])
		}
	}
}

func TestLookupAndSkip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := newVolume(t)
		v.full(t)
		for range rapid.IntRange(0, 6).Draw(t, "steps") {
			v.step(t, true)
		}
		lo := rapid.IntRange(0, v.units).Draw(t, "from")
		n := rapid.IntRange(0, v.units).Draw(t, "units")
		es, err := Lookup(t.Context(), v.store, v.m, int64(lo)*v.unit, int64(n)*v.unit)
		if err != nil {
			t.Fatal(err)
		}
		v.same(t, es, lo, min(lo+n, v.units))

		it := NewIterator(v.store, v.m, 0, v.m.Size, Options{})
		for range rapid.IntRange(0, 5).Draw(t, "read before") {
			if e, ok, err := it.Next(t.Context()); err != nil {
				t.Fatal(err)
			} else if ok {
				lo = max(lo, int(e.End()/v.unit))
			}
		}
		it.SkipTo(int64(lo) * v.unit)
		es, err = rest(t.Context(), it)
		if err != nil {
			t.Fatal(err)
		}
		v.same(t, es, lo, v.units)
	})
}

func rest(ctx context.Context, it *Iterator) ([]Extent, error) {
	var es []Extent
	for {
		e, ok, err := it.Next(ctx)
		if !ok || err != nil {
			return es, err
		}
		es = append(es, e)
	}
}
