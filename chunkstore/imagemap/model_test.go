// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// memory keeps nodes in a map and counts traffic.
type memory struct {
	nodes  map[chunk.ID][]byte
	reads  int
	writes int
	bytes  int64
}

func newMemory() *memory { return &memory{nodes: make(map[chunk.ID][]byte)} }

func (m *memory) ReadNode(_ context.Context, id chunk.ID) ([]byte, error) {
	m.reads++
	b, ok := m.nodes[id]
	if !ok {
		return nil, fmt.Errorf("node %s does not exist", id.Short())
	}
	return b, nil
}

func (m *memory) WriteNode(_ context.Context, plain []byte) (chunk.ID, error) {
	id := chunk.ID(blake3.Sum256(plain))
	m.writes++
	m.bytes += int64(len(plain))
	m.nodes[id] = append([]byte(nil), plain...)
	return id, nil
}

func chunkID(n uint64) chunk.ID {
	var id chunk.ID
	binary.LittleEndian.PutUint64(id[:], n+1)
	return chunk.ID(blake3.Sum256(id[:]))
}

// cell is what the model knows about one unit of the volume.
type cell struct {
	data  bool
	chunk chunk.ID
	off   int64
	birth uint64
}

func (c cell) sameBytes(d cell) bool {
	return c.data == d.data && (!c.data || c.chunk == d.chunk && c.off == d.off)
}

// tiny cuts trees so small that a few hundred units make several levels.
func tiny(unit int64) geometry {
	return geometry{window: 32 * unit, groupShift: 1, fanout: 5, baseLeaf: 160, runLeaf: 120, leafMax: 9}
}

// volume is a map under test beside the plain array that it should equal.
type volume struct {
	unit   int64
	geo    geometry
	store  *memory
	m      Map
	cells  []cell // may reach beyond the volume's size: what trees hold there
	units  int    // size
	births uint64
	chunks uint64
}

func newVolume(t *rapid.T) *volume {
	unit := rapid.SampledFrom([]int64{1, 1000, 4096, 3 * 4096}).Draw(t, "unit")
	v := &volume{unit: unit, geo: tiny(unit), store: newMemory(), births: 1}
	v.resize(rapid.IntRange(1, 400).Draw(t, "units"))
	return v
}

// clone keeps what a point is while the volume goes on.
func (v *volume) clone() *volume {
	c := *v
	c.cells = append([]cell(nil), v.cells...)
	return &c
}

func (v *volume) resize(units int) {
	for len(v.cells) < units {
		v.cells = append(v.cells, cell{birth: v.m.Birth})
	}
	v.units = units
	v.m.Size = int64(units) * v.unit
}

// drawExtents makes a session's writes within [lo, hi) units and applies them to the model.
func (v *volume) drawExtents(t *rapid.T, lo, hi int) []Extent {
	var out []Extent
	pos := lo
	id, chunkOff := chunkID(v.chunks), int64(0)
	for n := rapid.IntRange(0, 30).Draw(t, "extents"); n > 0 && pos < hi; n-- {
		pos += rapid.SampledFrom([]int{0, 0, 1, 2, 20}).Draw(t, "gap")
		length := min(rapid.SampledFrom([]int{1, 1, 2, 2, 5, 50}).Draw(t, "len"), hi-pos)
		if length <= 0 {
			break
		}
		e := Extent{Off: int64(pos) * v.unit, Len: int64(length) * v.unit, Birth: v.births}
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1:
			e.Hole = true
		case 2:
			v.chunks++
			id, chunkOff = chunkID(v.chunks), int64(rapid.IntRange(0, 9).Draw(t, "begin"))*v.unit
		case 3:
			id = chunkID(uint64(rapid.IntRange(0, int(v.chunks)).Draw(t, "old chunk")))
		case 4:
			chunkOff = int64(rapid.IntRange(0, 90).Draw(t, "jump")) * v.unit
		}
		if !e.Hole {
			e.Chunk, e.ChunkOff = id, uint32(chunkOff)
			chunkOff = (chunkOff + e.Len) % (4 << 20)
		}
		out = append(out, e)
		pos += length
	}
	v.apply(out)
	return out
}

func (v *volume) apply(es []Extent) {
	for _, e := range es {
		for x := e.Off; x < e.End(); x += v.unit {
			c := cell{birth: e.Birth}
			if !e.Hole {
				c = cell{true, e.Chunk, int64(e.ChunkOff) + x - e.Off, e.Birth}
			}
			v.cells[x/v.unit] = c
		}
	}
}

// moved copies live data into a new chunk, as cleaning does: births stay.
func (v *volume) moved(t *rapid.T, es []Extent) []Extent {
	v.chunks++
	id, chunkOff := chunkID(v.chunks), int64(0)
	written := make(map[int64]bool)
	for _, e := range es {
		for x := e.Off; x < e.End(); x += v.unit {
			written[x/v.unit] = true
		}
	}
	var all []Extent
	from := rapid.IntRange(0, v.units).Draw(t, "move from")
	to := min(v.units, from+rapid.IntRange(0, 40).Draw(t, "move"))
	next := 0
	for i := range v.cells {
		x := int64(i) * v.unit
		for next < len(es) && es[next].Off == x {
			all = append(all, es[next])
			next++
		}
		if c := v.cells[i]; i >= from && i < to && c.data && !written[int64(i)] {
			e := Extent{Off: x, Len: v.unit, Chunk: id, ChunkOff: uint32(chunkOff), Birth: c.birth}
			chunkOff += v.unit
			all = append(all, e)
			v.apply([]Extent{e})
		}
	}
	return all
}

func (v *volume) write(t *rapid.T, es []Extent, base bool) Ref {
	w := newWriter(v.store, base, v.geo)
	for _, e := range es {
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

// full begins a new line; its base has no holes (I4).
func (v *volume) full(t *rapid.T) {
	v.births++
	v.cells = nil
	v.m = Map{Birth: v.births}
	v.resize(v.units)
	var es []Extent
	for _, e := range v.drawExtents(t, 0, v.units) {
		if !e.Hole {
			es = append(es, e)
		}
	}
	v.m.Base = v.write(t, es, true)
}

func (v *volume) increment(t *rapid.T) {
	v.births++
	es := v.drawExtents(t, rapid.IntRange(0, v.units-1).Draw(t, "lo"), v.units)
	if rapid.Bool().Draw(t, "clean") {
		es = v.moved(t, es)
	}
	v.push(v.write(t, es, false))
}

// grow changes the size as I7 wants it, or silently: larger, with no extents.
func (v *volume) grow(t *rapid.T, silently bool) {
	old := v.units
	lo := 1
	if silently {
		lo = old
	}
	v.resize(rapid.IntRange(lo, old+100).Draw(t, "units"))
	if silently || old == v.units {
		return
	}
	v.births++
	from, to := min(old, v.units), max(old, v.units)
	var es []Extent
	if from > 0 {
		es = v.drawExtents(t, from/2, from)
	}
	hole := Extent{Off: int64(from) * v.unit, Len: int64(to-from) * v.unit, Hole: true, Birth: v.births}
	v.apply([]Extent{hole})
	v.push(v.write(t, append(es, hole), false))
}

func (v *volume) compact(t *rapid.T) {
	p := Policy{
		Fanout:      rapid.IntRange(2, 4).Draw(t, "fan-out"),
		MaxRuns:     rapid.IntRange(1, 6).Draw(t, "runs"),
		FoldPercent: rapid.SampledFrom([]int{1, 50, 1000, 1 << 30}).Draw(t, "fold"),
	}
	m, stats, err := compact(t.Context(), v.store, v.store, v.m, p, v.geo)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Runs) > p.MaxRuns || stats.Folded > 0 && len(m.Runs) > 0 {
		t.Fatalf("%d runs left by %+v: %+v", len(m.Runs), p, stats)
	}
	v.m = m
	if stats.Folded > 0 {
		v.cells = v.cells[:v.units]
		v.checkCanonical(t)
	}
}

// checkCanonical compares a folded base with one written in a single pass.
func (v *volume) checkCanonical(t *rapid.T) {
	var es []Extent
	for i, c := range v.cells {
		e := Extent{Off: int64(i) * v.unit, Len: v.unit, Chunk: c.chunk, ChunkOff: uint32(c.off), Hole: !c.data, Birth: c.birth}
		if c.data || c.birth > v.m.Birth {
			es = append(es, e)
		}
	}
	if got, want := v.m.Base, v.write(t, es, true); got != want {
		t.Fatalf("folded base %+v, written in one pass %+v", got, want)
	}
}

func (v *volume) push(r Ref) {
	v.m.Runs = append([]Ref{r}, v.m.Runs...)
}

// check reads a range in full and compares it with the model.
func (v *volume) check(t *rapid.T, lo, hi int) {
	v.checkIter(t, NewIterator(v.store, v.m, int64(lo)*v.unit, int64(hi)*v.unit, Options{}), lo, hi, false)
	v.checkIter(t, NewIterator(v.store, v.m, int64(lo)*v.unit, int64(hi)*v.unit, Options{Holes: true}), lo, hi, true)
}

func (v *volume) checkIter(t *rapid.T, it *Iterator, lo, hi int, holes bool) {
	got := make([]cell, len(v.cells))
	for i := range got {
		got[i].birth = v.m.Birth
	}
	end := int64(lo) * v.unit
	var last Extent
	for {
		e, ok, err := it.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if e.Off < end || e.End() > min(int64(hi)*v.unit, v.m.Size) || e.Hole && !holes || e.check() != nil || last.joins(&e) {
			t.Fatalf("extent %+v behind %+v in [%d,%d) of %d", e, last, lo, hi, v.units)
		}
		end, last = e.End(), e
		for x := e.Off; x < e.End(); x += v.unit {
			got[x/v.unit] = cell{!e.Hole, e.Chunk, int64(e.ChunkOff) + x - e.Off, e.Birth}
		}
	}
	for i := lo; i < min(hi, v.units); i++ {
		w := v.cells[i]
		if !got[i].sameBytes(w) || (holes || w.data) && got[i].birth != w.birth {
			t.Fatalf("unit %d: got %+v, want %+v", i, got[i], w)
		}
	}
}
