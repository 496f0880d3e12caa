// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// indexArgs are a local index and how many chunks it holds.
type indexArgs struct {
	Dir    string
	Chunks int
}

var indexKey = [32]byte{'i'}

const (
	chunksPerPack = 128
	segmentChunks = 1_000_000
	lookups       = 10_000
)

// indexFillOp makes an index as the first opening of a large repository does.
func indexFillOp(ctx context.Context, a indexArgs) (struct{}, error) {
	c, err := index.OpenCache(a.Dir, indexKey)
	if err != nil {
		return struct{}{}, err
	}
	defer c.Close()
	for from := 0; from < a.Chunks; from += segmentChunks {
		segment, err := index.EncodeSegment(locations(from, min(segmentChunks, a.Chunks-from)))
		if err != nil {
			return struct{}{}, err
		}
		if err := c.Add(ctx, fmt.Sprintf("segment-%d", from), segment); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

// locations are n chunks with random names, full packs of them.
func locations(from, n int) []index.Location {
	r := rand.New(rand.NewPCG(uint64(from), 7))
	locs := make([]index.Location, n)
	for i := range locs {
		locs[i] = index.Location{
			Pack:  index.PackID{Session: uint64(from), Seq: uint32(i / chunksPerPack), Size: 64 << 20, Class: chunk.Base},
			Entry: pack.Entry{ID: randomID(r), Offset: uint32(pack.HeaderSize + i%chunksPerPack*1000), Stored: 1000, Frame: uint32(i % chunksPerPack), Plain: 1000},
		}
	}
	return locs
}

func randomID(r *rand.Rand) (id chunk.ID) {
	for i := 0; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], r.Uint64())
	}
	return id
}

// indexFacts is what opening an index costs.
type indexFacts struct {
	Open         float64 // seconds
	HeapPerChunk float64 // bytes
	Chunks       int64
	Hit          float64 // microseconds per lookup
}

// indexOpenOp opens an index, finds chunks in it, and looks at what stays on the heap.
func indexOpenOp(_ context.Context, a indexArgs) (f indexFacts, err error) {
	before := heap()
	start := time.Now()
	c, err := index.OpenCache(a.Dir, indexKey)
	if err != nil {
		return f, err
	}
	defer c.Close()
	f.Open = time.Since(start).Seconds()
	r := rand.New(rand.NewPCG(0, 7)) // the names of the first segment
	start = time.Now()
	for i := range lookups {
		id := randomID(r)
		if _, ok, err := c.Lookup(id); err != nil || !ok {
			return f, fmt.Errorf("chunk %d is not found: %w", i, err)
		}
	}
	f.Hit = time.Since(start).Seconds() / lookups * 1e6
	f.Chunks = c.Chunks()
	f.HeapPerChunk = float64(heap()-before) / float64(f.Chunks)
	return f, nil
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
