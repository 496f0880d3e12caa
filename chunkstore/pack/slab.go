// SPDX-License-Identifier: Apache-2.0

package pack

import "sync"

// slabSize is what a builder takes from the pool at a time. Frames never
// cross slabs, so half a frame is lost per slab; a bigger slab would lose less
// but every encoder at work leaves one half full.
const slabSize = 512 << 10

// slab is memory for sealed frames, filled from its start. It belongs to one
// pack as long as it lives, so that releasing a pack needs no count of uses.
type slab struct {
	buf  []byte
	used int
}

var slabs = sync.Pool{New: func() any { return &slab{buf: make([]byte, slabSize)} }}

func (s *slab) room() int { return len(s.buf) - s.used }

// grab returns the next n bytes, empty, to append to.
func (s *slab) grab(n int) []byte {
	b := s.buf[s.used : s.used : s.used+n]
	s.used += n
	return b
}

// slabSet is the memory of one pack. The caller locks.
type slabSet struct{ all, partial []*slab }

// take hands out a slab with at least n bytes of room; put brings back one
// that may have room still.
func (s *slabSet) take(n int) *slab {
	if k := len(s.partial) - 1; k >= 0 {
		sl := s.partial[k]
		s.partial = s.partial[:k]
		if sl.room() >= n {
			return sl
		}
	}
	sl := slabs.Get().(*slab)
	sl.used = 0
	s.all = append(s.all, sl)
	return sl
}

func (s *slabSet) put(sl *slab) {
	if sl.room() > frameCost {
		s.partial = append(s.partial, sl)
	}
}

// release gives the memory back. Nothing may refer to it any more.
func (s *slabSet) release() {
	for _, sl := range s.all {
		slabs.Put(sl)
	}
	*s = slabSet{}
}
