// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"container/list"
	"sync"
)

// metaCache keeps small decoded things (map nodes, blocks of map packs, tables
// of contents, pack ciphers, places of chunks) up to a number of bytes, least recently used out
// first. Values are immutable.
type metaCache struct {
	mu    sync.Mutex
	limit int
	used  int
	order *list.List // of *metaEntry, newest in front
	items map[metaKey]*list.Element
}

// metaKey is a chunk's name, or a pack and a block number or one of the kinds below.
type metaKey struct {
	kind  metaKind
	id    [32]byte // chunk id, or the pack's hash
	block int64
}

type metaKind uint8

const (
	metaNode metaKind = iota
	metaBlock
	metaTOC
	metaCipher
	metaLocation
)

type metaEntry struct {
	key   metaKey
	value any
	size  int
}

func newMetaCache(limit int) *metaCache {
	return &metaCache{limit: limit, order: list.New(), items: map[metaKey]*list.Element{}}
}

func (c *metaCache) get(k metaKey) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[k]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*metaEntry).value, true
}

func (c *metaCache) put(k metaKey, value any, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[k]; ok || size > c.limit {
		return
	}
	c.items[k] = c.order.PushFront(&metaEntry{key: k, value: value, size: size})
	c.used += size
	for c.used > c.limit {
		last := c.order.Back()
		e := c.order.Remove(last).(*metaEntry)
		delete(c.items, e.key)
		c.used -= e.size
	}
}

// drop forgets everything of one kind.
func (c *metaCache) drop(kind metaKind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.items {
		if k.kind == kind {
			c.used -= c.order.Remove(e).(*metaEntry).size
			delete(c.items, k)
		}
	}
}
