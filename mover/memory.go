// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/tidemark-io/tidemark/chunkstore"
)

// DefaultMemory is the limit for the whole process when none is given; MinMemory
// the least that works.
const (
	DefaultMemory = 512 << 20
	MinMemory     = 128 << 20
)

// ErrMemory is returned for a limit below MinMemory.
var ErrMemory = errors.New("memory limit is too small")

// plan divides the process's memory, in bytes. Off-heap buffers, packs and
// caches take fixed shares; the rest is the runtime's and the libraries'.
type plan struct {
	slabBytes int // one read unit
	slabs     int
	chunkBufs int // buffers of one largest chunk each
	workers   int // chunk workers
	readers   int // slab workers
	session   chunkstore.Budget
	nodeBytes int
}

// planMemory divides limit for a repository whose largest chunk is maxChunk.
func planMemory(limit int64, maxChunk int) (plan, error) {
	if limit == 0 {
		limit = DefaultMemory
	}
	if limit < MinMemory {
		return plan{}, fmt.Errorf("%w: %d MiB; at least %d MiB are needed", ErrMemory, limit>>20, MinMemory>>20)
	}
	cores := runtime.GOMAXPROCS(0)
	share := int(min(limit, 16<<30) / 16)
	p := plan{
		slabBytes: min(max(share/4, 1<<20), 8<<20) &^ (1<<20 - 1),
		workers:   cores,
		nodeBytes: share,
	}
	p.slabs = max(4, 4*share/p.slabBytes)
	p.readers = min(p.slabs-2, max(4, 2*cores))
	p.chunkBufs = max(4, min(2*cores+4, 2*share/maxChunk))
	p.workers = max(1, min(cores, p.chunkBufs-2))
	p.session = chunkstore.Budget{
		PackBytes:    min(64<<20, share),
		Uploads:      2,
		FreshEntries: share / 4 / 256,
	}
	return p, nil
}

// LimitHeap tells the runtime's collector about the limit: the heap may use
// what the off-heap arenas leave. It returns a function that restores the
// former limit.
func LimitHeap(limit int64) (restore func()) {
	if limit == 0 {
		limit = DefaultMemory
	}
	before := debug.SetMemoryLimit(limit - limit/4 - limit/16)
	return func() { debug.SetMemoryLimit(before) }
}

// NodeBytes is the share of a memory limit that a repository's cache of
// metadata may use; see chunkstore.OpenOptions.
func NodeBytes(limit int64) int {
	if limit == 0 {
		limit = DefaultMemory
	}
	return int(min(max(limit, MinMemory), 16<<30) / 16)
}
