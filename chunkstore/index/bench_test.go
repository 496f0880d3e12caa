// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// 100 million need 5.4 GB of disk: -index.chunks=100000000.
var benchChunks = flag.Int("index.chunks", 10_000_000, "chunks in the benchmarks' cache")

const (
	chunksPerPack = 80
	sampleSize    = 10_000
)

// uniform yields ascending ids whose first 8 bytes are the order statistics
// of n uniform numbers: of what is left above the last, the least of as many
// as are left takes 1-u^(1/left).
type uniform struct {
	r    *rand.Rand
	left int
	rest float64
	last uint64
}

func newUniform(seed uint64, n int) *uniform {
	return &uniform{r: rand.New(rand.NewPCG(seed, 2)), left: n, rest: 1}
}

func (u *uniform) next() (id chunk.ID) {
	u.rest *= math.Exp(-u.r.ExpFloat64() / float64(u.left))
	u.left--
	u.last = max(u.last+1, uint64((1-u.rest)*(1<<63))<<1) // ties are rounding
	binary.BigEndian.PutUint64(id[:], u.last)
	for i := 8; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], u.r.Uint64())
	}
	return id
}

// fillCache makes a cache of n chunks in some tables, as many in each, and
// returns some of their ids.
func fillCache(b *testing.B, dir string, n, tables int) []chunk.ID {
	b.Helper()
	c := mustOpen(b, dir)
	defer c.Close()
	var sample []chunk.ID
	for i := range tables {
		err := c.change(func(ts []*table) ([]*table, error) {
			t, err := c.create(func(w *tableWriter) (err error) {
				sample, err = fillTable(w, uint64(i), n/tables, sample)
				return err
			})
			return append(ts, t), err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return sample
}

func fillTable(w *tableWriter, seed uint64, n int, sample []chunk.ID) ([]chunk.ID, error) {
	u := newUniform(seed, n)
	packs := n/chunksPerPack + 1
	for i := range packs {
		p := PackID{Session: seed, Seq: uint32(i), Size: 64 << 20, Class: chunk.Base}
		if err := w.addPack(&p); err != nil {
			return nil, err
		}
	}
	for i := range n {
		e := entry{id: u.next(), pack: u.r.Uint32N(uint32(packs)), offset: packHeaderSize, stored: 1, plain: 1}
		if err := w.addEntry(&e); err != nil {
			return nil, err
		}
		if i%max(1, *benchChunks/sampleSize) == 0 {
			sample = append(sample, e.id)
		}
	}
	return sample, nil
}

// cpuTime is what this process has computed so far: on a shared machine it
// says more than the clock.
func cpuTime(b *testing.B) float64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkCache measures opening and looking up in a cache of one table, as
// merging leaves it at best, and of twelve equal ones, its worst state.
func BenchmarkCache(b *testing.B) {
	for _, tables := range []int{1, maxTables} {
		b.Run(fmt.Sprintf("tables=%d", tables), func(b *testing.B) { benchmarkCache(b, tables) })
	}
}

func benchmarkCache(b *testing.B, tables int) {
	dir := b.TempDir()
	sample := fillCache(b, dir, *benchChunks, tables)
	r := rand.New(rand.NewPCG(3, 4))
	r.Shuffle(len(sample), func(i, j int) { sample[i], sample[j] = sample[j], sample[i] })
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			c, err := OpenCache(dir, testKey)
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	before := heapInUse()
	c := mustOpen(b, dir)
	lookup := func(b *testing.B, ids []chunk.ID, want bool) {
		for _, id := range ids { // warms the pages
			if _, found, err := c.Lookup(id); err != nil || found != want {
				b.Fatal(found, err)
			}
		}
		b.ReportAllocs()
		i, start := 0, cpuTime(b)
		for b.Loop() {
			if _, found, err := c.Lookup(ids[i]); err != nil || found != want {
				b.Fatal(found, err)
			}
			if i++; i == len(ids) {
				i = 0
			}
		}
		b.ReportMetric((cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
	}
	absent := make([]chunk.ID, sampleSize)
	for i := range absent {
		for j := range absent[i] {
			absent[i][j] = byte(r.Uint32())
		}
	}
	b.Run("hit", func(b *testing.B) {
		lookup(b, sample, true)
		b.ReportMetric(float64(heapInUse()-before)/float64(c.Chunks()), "heapB/chunk")
	})
	b.Run("miss", func(b *testing.B) { lookup(b, absent, false) })
}

// BenchmarkAdd adds segments as a first opening of a repository does, merges
// and syncs included.
func BenchmarkAdd(b *testing.B) {
	const n = 100_000
	c := mustOpen(b, b.TempDir())
	locs := make([]Location, n)
	b.ReportAllocs()
	added := 0
	for b.Loop() {
		b.StopTimer()
		u := newUniform(uint64(added), n)
		for i := range locs {
			locs[i] = Location{
				Pack:  PackID{Session: uint64(added), Seq: uint32(i / chunksPerPack), Size: 64 << 20, Class: chunk.Base},
				Entry: pack.Entry{ID: u.next(), Offset: packHeaderSize, Stored: 1, Plain: 1},
			}
		}
		segment := mustSegment(b, locs)
		b.StartTimer()
		if err := c.Add(b.Context(), fmt.Sprint(added), segment); err != nil {
			b.Fatal(err)
		}
		added++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(added*n), "ns/chunk")
}

// BenchmarkMerge merges two tables, as bytes of their entries per second.
func BenchmarkMerge(b *testing.B) {
	const n = 500_000
	dir := b.TempDir()
	fillCache(b, dir, n, 2)
	b.SetBytes(n * entryRecordSize)
	for b.Loop() {
		c := mustOpen(b, dir)
		s, err := c.set.acquire()
		if err != nil {
			b.Fatal(err)
		}
		t, err := c.create(func(w *tableWriter) error { return mergeTables(b.Context(), w, s.tables) })
		if err != nil {
			b.Fatal(err)
		}
		s.release()
		if err := t.close(); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkFreshClaim claims and finishes chunks, spills included.
func BenchmarkFreshClaim(b *testing.B) {
	f := NewFresh(b.TempDir(), 1<<16, func(_ context.Context, _ []byte) error { return nil })
	defer f.Close()
	r := rand.New(rand.NewPCG(5, 6))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		var id chunk.ID
		for j := 0; j < len(id); j += 8 {
			binary.LittleEndian.PutUint64(id[j:], r.Uint64())
		}
		if _, s, err := f.Claim(id); err != nil || s != New {
			b.Fatal(s, err)
		}
		l := Location{
			Pack:  PackID{Seq: uint32(i / chunksPerPack), Size: 64 << 20, Class: chunk.Base},
			Entry: pack.Entry{ID: id, Offset: packHeaderSize, Stored: 1, Plain: 1},
		}
		if err := f.Done(b.Context(), id, l); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
