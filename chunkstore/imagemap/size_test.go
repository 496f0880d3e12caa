// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// build writes extents that ascend.
func build(tb testing.TB, sink Sink, base bool, es []Extent) Ref {
	tb.Helper()
	w := NewWriter(sink, base)
	for _, e := range es {
		if err := w.Add(tb.Context(), e); err != nil {
			tb.Fatal(err)
		}
	}
	ref, err := w.Close(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return ref
}

// randomPages are n pages of 8 KiB in a volume, written into patch chunks of 256 KiB.
func randomPages(r *rand.Rand, volume int64, n int, birth uint64) []Extent {
	const page = 8 << 10
	at := make(map[int64]bool, n)
	for len(at) < n {
		at[r.Int64N(volume/page)] = true
	}
	var es []Extent
	for p := range at {
		es = append(es, Extent{Off: p * page, Len: page, Birth: birth})
	}
	slices.SortFunc(es, func(a, b Extent) int { return int((a.Off - b.Off) / page) })
	for i := range es {
		es[i].Chunk = chunkID(birth<<32 | uint64(i/32))
		es[i].ChunkOff = uint32(i % 32 * page)
	}
	return es
}

// cutChunks are base chunks as content-defined cutting makes them, about 485 KB each.
func cutChunks(r *rand.Rand, volume int64, birth uint64) []Extent {
	var es []Extent
	for off := int64(0); off < volume; {
		n := min(256<<10+int64(r.ExpFloat64()*230_000), 1<<20, volume-off)
		es = append(es, Extent{Off: off, Len: n, Chunk: chunkID(birth<<32 | uint64(len(es))), Birth: birth})
		off += n
	}
	return es
}

// An incremental's map costs next to nothing beside its 8 KiB pages.
func TestRunBytesPerPage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	store := newMemory()
	ref := build(t, store, false, randomPages(r, 4<<30, 5243, 7))
	perPage := float64(ref.Stored) / 5243
	t.Logf("%d pages, %d extents, %d bytes in %d nodes: %.2f B/page", 5243, ref.Extents, ref.Stored, store.writes, perPage)
	if perPage > 4.2 {
		t.Errorf("%.2f B per page, budget 4.2", perPage)
	}
	if ref.Bytes != 5243*8<<10 {
		t.Errorf("maps %d bytes", ref.Bytes)
	}
}

// Merging eight increments must not cost more per page than writing them.
func TestMergedRunBytesPerPage(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	store := newMemory()
	m := Map{Size: 4 << 30, Base: build(t, store, true, cutChunks(r, 4<<30, 1))}
	pages := 0
	for i := range 8 {
		m.Runs = append([]Ref{build(t, store, false, randomPages(r, 4<<30, 5243, uint64(i+2)))}, m.Runs...)
	}
	out, stats, err := Compact(t.Context(), store, store, m, Policy{FoldPercent: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Runs) != 1 || stats.Merged != 8 {
		t.Fatalf("%d runs, %+v", len(out.Runs), stats)
	}
	pages = int(out.Runs[0].Bytes / (8 << 10))
	perPage := float64(out.Runs[0].Stored) / float64(pages)
	t.Logf("%d pages, %d bytes: %.2f B/page", pages, out.Runs[0].Stored, perPage)
	if perPage > 5 {
		t.Errorf("%.2f B per page, budget 5", perPage)
	}
}

func TestBaseLeafBytesPerExtent(t *testing.T) {
	store := newMemory()
	ref := build(t, store, true, cutChunks(rand.New(rand.NewPCG(5, 6)), 64<<20, 1))
	perExtent := float64(ref.Stored) / float64(ref.Extents)
	t.Logf("%d extents, %d bytes: %.2f B/extent", ref.Extents, ref.Stored, perExtent)
	if ref.Height != 0 || perExtent > 37 {
		t.Errorf("height %d, %.2f B per extent, budget 37", ref.Height, perExtent)
	}
}

// discard names nodes without keeping them.
type discard struct{ n uint64 }

func (d *discard) WriteNode(context.Context, []byte) (chunk.ID, error) {
	d.n++
	return chunk.ID{byte(d.n), byte(d.n >> 8), byte(d.n >> 16), 1}, nil
}

func perExtent(b *testing.B, extents uint64, bytes int64) {
	b.ReportAllocs()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(uint64(b.N)*extents), "ns/extent")
	b.ReportMetric(float64(uint64(b.N)*extents)/b.Elapsed().Seconds(), "extents/s")
	b.ReportMetric(float64(bytes)/float64(extents), "B/extent")
}

func benchBuild(b *testing.B, base bool, es []Extent) {
	var ref Ref
	b.ReportAllocs()
	for b.Loop() {
		ref = build(b, new(discard), base, es)
	}
	perExtent(b, ref.Extents, ref.Stored)
}

func BenchmarkBuildRun(b *testing.B) {
	benchBuild(b, false, randomPages(rand.New(rand.NewPCG(1, 2)), 64<<30, 200_000, 7))
}

func BenchmarkBuildBase(b *testing.B) {
	benchBuild(b, true, cutChunks(rand.New(rand.NewPCG(1, 2)), 64<<30, 7))
}

func benchIterate(b *testing.B, runs int) {
	const volume = 32 << 30
	r := rand.New(rand.NewPCG(1, 2))
	store := newMemory()
	m := Map{Size: volume, Base: build(b, store, true, cutChunks(r, volume, 1))}
	stored := m.Base.Stored
	for i := range runs {
		ref := build(b, store, false, randomPages(r, volume, 40_000, uint64(i+2)))
		m.Runs = append([]Ref{ref}, m.Runs...)
		stored += ref.Stored
	}
	var n uint64
	for b.Loop() {
		n = 0
		it := NewIterator(store, m, 0, volume, Options{})
		for {
			_, ok, err := it.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				break
			}
			n++
		}
	}
	perExtent(b, n, stored)
}

func BenchmarkIterateBase(b *testing.B)   { benchIterate(b, 0) }
func BenchmarkIterateRuns1(b *testing.B)  { benchIterate(b, 1) }
func BenchmarkIterateRuns8(b *testing.B)  { benchIterate(b, 8) }
func BenchmarkIterateRuns32(b *testing.B) { benchIterate(b, 32) }

func BenchmarkFold(b *testing.B) {
	const volume = 32 << 30
	r := rand.New(rand.NewPCG(1, 2))
	store := newMemory()
	m := Map{Size: volume, Base: build(b, store, true, cutChunks(r, volume, 1))}
	m.Runs = []Ref{build(b, store, false, randomPages(r, volume, 400_000, 2))}
	var out Map
	for b.Loop() {
		var err error
		if out, _, err = Compact(b.Context(), store, new(discard), m, Policy{FoldPercent: 1}); err != nil {
			b.Fatal(err)
		}
	}
	perExtent(b, out.Base.Extents, out.Base.Stored)
}
