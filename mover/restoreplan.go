// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"fmt"
	"runtime"

	"github.com/tidemark-io/tidemark/chunkstore"
)

// restorePlan divides a restore's memory, in bytes.
type restorePlan struct {
	limit      int64
	ringBytes  int // fetched, not yet decoded
	jobBytes   int // one request at most
	fetchers   int // requests under way
	plainBytes int // one decoded chunk
	workers    int
	batchCost  int   // one of two batches
	syncBytes  int64 // written between two syncs of the target: what a kill costs
	slabBytes  int   // delta: one read of the target
	slabs      int
	window     int64 // stream: one of two stretches of the volume in memory
	cacheBytes int   // stream: decoded chunks that are not used up
}

// planRestore divides limit for a repository whose largest chunk is maxChunk.
func planRestore(limit int64, maxChunk int) (restorePlan, error) {
	if limit == 0 {
		limit = DefaultMemory
	}
	if limit < MinMemory {
		return restorePlan{}, fmt.Errorf("%w: %d MiB; at least %d MiB are needed", ErrMemory, limit>>20, MinMemory>>20)
	}
	share := int(min(limit, 16<<30) / 16)
	p := restorePlan{
		limit:      limit,
		ringBytes:  min(4*share, 64<<20),
		fetchers:   32, // few are under way at once unless requests are small, and then the store's latency counts
		plainBytes: maxChunk,
		batchCost:  3 * share / 2,
		syncBytes:  256 << 20,
		slabBytes:  min(max(share/8, 1<<20), 4<<20) &^ (1<<20 - 1),
		window:     int64(share) &^ (1<<20 - 1),
		cacheBytes: 2 * share,
	}
	p.jobBytes = p.ringBytes / 16
	p.workers = max(2, min(2*runtime.GOMAXPROCS(0), 2*share/maxChunk))
	p.slabs = max(4, min(2*share/p.slabBytes, 4*runtime.GOMAXPROCS(0)))
	return p, nil
}

func maxChunkOf(repo *chunkstore.Repository) int { return max(repo.Config().Chunker.Max, patchBytes) }
