// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"fmt"
	"sync"

	"github.com/tidemark-io/tidemark/blockio"
)

// ring lends contiguous stretches of one buffer outside the heap, so that what
// is fetched is bounded by bytes, however large or small the requests are.
// One goroutine takes; stretches may be given back in any order, and space is
// free again when everything lent before it is back, too.
type ring struct {
	arena *blockio.Arena
	buf   *blockio.Buf
	mem   []byte
	freed chan struct{} // holds one token: somebody gave something back

	mu   sync.Mutex
	head int // where the next stretch begins, if there is room
	lent []*stretch
}

// stretch is a lent part of a ring.
type stretch struct {
	mem  []byte
	from int
	back bool
}

func newRing(ctx context.Context, size int) (*ring, error) {
	arena, err := blockio.NewArena(size, 1)
	if err != nil {
		return nil, err
	}
	buf, err := arena.Get(ctx)
	if err != nil {
		return nil, err
	}
	return &ring{arena: arena, buf: buf, mem: buf.Bytes(), freed: make(chan struct{}, 1)}, nil
}

// close frees the memory; nothing lent may be used any more.
func (r *ring) close() error {
	if err := r.buf.Release(); err != nil {
		return err
	}
	return r.arena.Close()
}

// take waits for n contiguous bytes.
func (r *ring) take(ctx context.Context, n int) (*stretch, error) {
	if n > len(r.mem) {
		return nil, fmt.Errorf("fetch %d bytes at once: only %d fit in memory", n, len(r.mem))
	}
	for {
		if s := r.try(n); s != nil {
			return s, nil
		}
		select {
		case <-r.freed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (r *ring) try(n int) *stretch {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.lent) == 0:
		r.head = 0
	case r.head > r.lent[0].from && len(r.mem)-r.head < n: // free: the end, too short, and the beginning
		if r.lent[0].from < n {
			return nil
		}
		r.head = 0
	case r.head <= r.lent[0].from && r.lent[0].from-r.head < n: // free: the gap between
		return nil
	}
	s := &stretch{mem: r.mem[r.head : r.head+n : r.head+n], from: r.head}
	r.head += n
	r.lent = append(r.lent, s)
	return s
}

func (r *ring) give(s *stretch) {
	r.mu.Lock()
	s.back = true
	i := 0
	for i < len(r.lent) && r.lent[i].back {
		i++
	}
	r.lent = append(r.lent[:0], r.lent[i:]...)
	r.mu.Unlock()
	select {
	case r.freed <- struct{}{}:
	default:
	}
}
