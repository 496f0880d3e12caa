// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

const streamPages = 64

// stream reads a section in order. It reads the file, not the mapping: a pass
// over everything profits from large reads and should not claim to be in use.
type stream struct {
	t    *table
	s    section
	buf  []byte
	page uint64 // next page of the section to read
	have int    // pages in buf
	at   int    // page in buf
	i    int    // record in page
}

func newStream(t *table, s section) *stream {
	return &stream{t: t, s: s, buf: make([]byte, min(streamPages, s.pages())*pageSize)}
}

// next returns the next record, valid until the next call, or nil at the end.
func (r *stream) next() ([]byte, error) {
	if r.at == r.have {
		if r.page == r.s.pages() {
			return nil, nil
		}
		r.have, r.at = int(min(streamPages, r.s.pages()-r.page)), 0
		if err := r.t.read(r.buf[:r.have*pageSize], r.s.first+r.page); err != nil {
			r.have = 0
			return nil, err
		}
		r.page += uint64(r.have)
	}
	p := r.page - uint64(r.have-r.at)
	rec := r.buf[r.at*pageSize+r.i*r.s.size:][:r.s.size]
	if r.i++; r.i == r.s.inPage(p) {
		r.at, r.i = r.at+1, 0
	}
	return rec, nil
}

// source yields ascending values, false at the end.
type source[T any] func(*T) (bool, error)

// kway calls emit for every value of every source in ascending order; equal
// values of different sources come one after the other.
func kway[T any](ctx context.Context, from []source[T], compare func(a, b *T) int, emit func(src int, v *T) error) error {
	var heads []*head[T] // a heap
	for i, next := range from {
		h := &head[T]{src: i}
		if ok, err := next(&h.v); err != nil {
			return err
		} else if ok {
			heads = append(heads, h)
		}
	}
	for i := len(heads)/2 - 1; i >= 0; i-- {
		siftDown(heads, i, compare)
	}
	for n := 0; len(heads) > 0; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h := heads[0]
		if err := emit(h.src, &h.v); err != nil {
			return err
		}
		ok, err := from[h.src](&h.v)
		if err != nil {
			return err
		}
		if !ok {
			heads[0] = heads[len(heads)-1]
			heads = heads[:len(heads)-1]
		}
		siftDown(heads, 0, compare)
	}
	return nil
}

// head is a source's next value.
type head[T any] struct {
	v   T
	src int
}

// siftDown restores the heap's order where only its i-th element may break it.
func siftDown[T any](heap []*head[T], i int, compare func(a, b *T) int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(heap); c++ {
			if compare(&heap[c].v, &heap[least].v) < 0 {
				least = c
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// distinct passes on the first of equal values.
func distinct[T comparable](emit func(*T) error) func(int, *T) error {
	var prev T
	first := true
	return func(_ int, v *T) error {
		if !first && prev == *v {
			return nil
		}
		first, prev = false, *v
		return emit(v)
	}
}

func sources[T any](ts []*table, open func(i int, t *table) source[T]) []source[T] {
	from := make([]source[T], len(ts))
	for i, t := range ts {
		from[i] = open(i, t)
	}
	return from
}

func packSource(_ int, t *table) source[PackID] {
	r := newStream(t, t.packs)
	return func(p *PackID) (bool, error) {
		b, err := r.next()
		if b == nil {
			return false, err
		}
		p.get(b)
		return true, nil
	}
}

func nameSource(_ int, t *table) source[chunk.ID] {
	r := newStream(t, t.names)
	return func(id *chunk.ID) (bool, error) {
		b, err := r.next()
		copy(id[:], b)
		return b != nil, err
	}
}

// entrySource yields entries whose packs are renumbered by remap.
func entrySource(t *table, remap []uint32) source[entry] {
	r := newStream(t, t.entries)
	return func(e *entry) (bool, error) {
		b, err := r.next()
		if b == nil {
			return false, err
		}
		e.get(b)
		if uint64(e.pack) >= uint64(len(remap)) {
			return false, t.damage(0, fmt.Sprintf("entry names pack %d of %d", e.pack, len(remap)))
		}
		e.pack = remap[e.pack]
		return true, nil
	}
}

// locationSource yields entries with their packs. Packs are hit at random, so
// their pages are checked when first used in this pass and remembered.
func locationSource(_ int, t *table) source[Location] {
	r := newStream(t, t.entries)
	checked := make([]bool, t.packs.pages())
	pack := func(i uint32) (p PackID, err error) {
		defer t.faultGuard(debug.SetPanicOnFault(true), &err)
		n := uint64(i) / t.packs.perPage()
		if n >= uint64(len(checked)) || !checked[n] {
			p, err = t.pack(i)
			if err == nil {
				checked[n] = true
			}
			return p, err
		}
		p.get(t.data[(t.packs.first+n)*pageSize:][int(uint64(i)%t.packs.perPage())*t.packs.size:])
		return p, nil
	}
	return func(l *Location) (bool, error) {
		b, err := r.next()
		if b == nil {
			return false, err
		}
		var e entry
		e.get(b)
		p, err := pack(e.pack)
		if err != nil {
			return false, err
		}
		*l = e.location(p)
		return true, nil
	}
}

// mergeTables writes what the tables hold together, each thing once (X5).
func mergeTables(ctx context.Context, w *tableWriter, ts []*table) error {
	remap := make([][]uint32, len(ts))
	for i, t := range ts {
		remap[i] = make([]uint32, 0, t.packs.count)
	}
	addPack := distinct(w.addPack)
	err := kway(ctx, sources(ts, packSource), (*PackID).compare, func(src int, p *PackID) error {
		if err := addPack(src, p); err != nil {
			return err
		}
		remap[src] = append(remap[src], uint32(w.counts[0]-1))
		return nil
	})
	if err != nil {
		return err
	}
	if err := kway(ctx, sources(ts, nameSource), compareIDs, distinct(w.addName)); err != nil {
		return err
	}
	entries := sources(ts, func(i int, t *table) source[entry] { return entrySource(t, remap[i]) })
	return kway(ctx, entries, (*entry).compare, distinct(w.addEntry))
}

func compareIDs(a, b *chunk.ID) int { return a.Compare(*b) }

// Tables are merged when there are more than maxTables, at least mergeLeast of
// the smallest at once, and then every next one that is at most half of what
// has come together: so a table is rewritten only when the result is at least
// three times as large or it is among the smallest.
const (
	maxTables  = 12
	mergeLeast = 4
)

// planMerge takes tables by descending size and returns from where on they
// are merged into one.
func planMerge(ts []*table, most int) (from int, needed bool) {
	if len(ts) <= most {
		return 0, false
	}
	from = len(ts)
	least := max(len(ts)-most+1, min(mergeLeast, most))
	var sum uint64
	for from > 0 && (len(ts)-from < least || ts[from-1].entries.count <= sum/2) {
		from--
		sum += ts[from].entries.count
	}
	return from, true
}
