// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"container/list"
	"context"
	"sync"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// chunkCache keeps verified plaintexts that a stream has not used up, least
// recently used out first. A chunk whose every byte was used leaves it, too.
type chunkCache struct {
	mu    sync.Mutex
	limit int
	used  int
	order *list.List // of *cachedChunk, newest in front
	byID  map[chunk.ID]*list.Element
}

type cachedChunk struct {
	id    chunk.ID
	plain []byte
	left  int64 // bytes that were not used
}

func newChunkCache(limit int) *chunkCache {
	return &chunkCache{limit: limit, order: list.New(), byID: map[chunk.ID]*list.Element{}}
}

// known tells the planner which chunks need no fetch.
func (c *chunkCache) known(id chunk.ID) (plain int, in uint32, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byID[id]
	if !ok {
		return 0, 0, false
	}
	c.order.MoveToFront(e)
	return len(e.Value.(*cachedChunk).plain), packCached, true
}

// keep takes a copy of a chunk that was used in part.
func (c *chunkCache) keep(w *wanted, plain []byte, used int64) {
	left := int64(len(plain)) - used
	if left <= 0 || len(plain) > c.limit {
		return
	}
	own := append([]byte(nil), plain...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byID[w.ID]; ok {
		return
	}
	c.byID[w.ID] = c.order.PushFront(&cachedChunk{id: w.ID, plain: own, left: left})
	for c.used += len(own); c.used > c.limit; {
		c.drop(c.order.Back())
	}
}

func (c *chunkCache) drop(e *list.Element) {
	old := c.order.Remove(e).(*cachedChunk)
	delete(c.byID, old.id)
	c.used -= len(old.plain)
}

// serve writes what the batch wants of cached chunks. Nothing was kept, and so
// nothing dropped, since the batch was planned.
func (c *chunkCache) serve(ctx context.Context, h *haul, b *batch) error {
	for i := range b.chunks {
		w := &b.chunks[i]
		if w.pack != packCached {
			continue
		}
		c.mu.Lock()
		e := c.byID[w.ID]
		c.mu.Unlock()
		have := e.Value.(*cachedChunk)
		used, err := h.scatter(ctx, b, w, have.plain)
		if err != nil {
			return err
		}
		if have.left -= used; have.left <= 0 {
			c.mu.Lock()
			c.drop(e)
			c.mu.Unlock()
		}
	}
	return nil
}
