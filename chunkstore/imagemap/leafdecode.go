// SPDX-License-Identifier: Apache-2.0

package imagemap

import "github.com/tidemark-io/tidemark/chunkstore/chunk"

// Control byte of an extent; see the table in the package comment.
const (
	atSame = iota
	atSameSkip
	atNew
	atNewOffset
	atBack
	atBackSkip
	atHole

	atMask    = 7
	hasGap    = 1 << 3
	hasLength = 1 << 4
	hasBirth  = 1 << 5
	inBytes   = 1 << 6
	reserved  = 1 << 7

	unitShift = 12
	unitMask  = 1<<unitShift - 1
)

// place is where the last extent of a chunk ended, and its birth's index.
type place struct{ next, birth uint32 }

// leafReader decodes the extents of one leaf, one after the other, and checks
// each before it is handed out. It is used again for the next leaf.
type leafReader struct {
	scan
	node   node
	ids    []byte
	births []uint64
	places []place

	count uint64 // extents
	left  uint64 // of these not yet decoded
	used  int    // ids met so far
	cur   int    // id of the last data extent
	off   int64  // end of the last extent
	len   int64  // its length
	birth uint32 // its birth
	hole  uint32 // birth of the last hole
	holes bool
	bytes int64
}

// open takes the leaf b, which n describes and checkPrefix has passed.
func (l *leafReader) open(n node, b []byte) error {
	l.node = n
	h := l.scan.open(&l.node, b, MaxExtents)
	bytes := l.uvarint(uint64(h.end-h.first), "bytes")
	ids := l.uvarint(h.count, "number of chunk ids")
	births := l.uvarint(h.count, "number of births")
	if l.err == nil && (h.count != n.extents || int64(bytes) != n.bytes || n.root && int64(len(b)) != n.stored) {
		return l.fail("%d extents of %d bytes found, %d of %d expected, in %d bytes stored of %d", h.count, bytes, n.extents, n.bytes, len(b), n.stored)
	}
	l.readBirths(int(births))
	l.ids = l.take(int(ids)*idSize, "chunk ids")
	if l.err != nil {
		return l.err
	}
	l.count, l.left, l.off, l.len = h.count, h.count, h.first, 0
	l.used, l.cur, l.birth, l.hole, l.holes, l.bytes = 0, -1, 0, 0, false, 0
	if cap(l.places) < int(ids) {
		l.places = make([]place, ids)
	}
	l.places = l.places[:ids]
	return nil
}

func (l *leafReader) readBirths(n int) {
	l.births = l.births[:0]
	if n == 0 || n > len(l.b)-l.p {
		_ = l.fail("%d births in %d bytes", n, len(l.b)-l.p)
		return
	}
	var birth, newest uint64
	for range n {
		birth += uint64(unzigzag(l.uvarint(1<<64-1, "birth")))
		l.births = append(l.births, birth)
		newest = max(newest, birth)
	}
	if l.node.root {
		l.node.birth = newest
	} else if newest != l.node.birth {
		_ = l.fail("newest birth %d found, %d expected", newest, l.node.birth)
	}
}

// next decodes one extent into e. Call it only while left > 0.
func (l *leafReader) next(e *Extent) error {
	if l.p >= len(l.b) {
		return l.fail("%d extents are missing", l.left)
	}
	ctl := l.b[l.p]
	l.p++
	shift := unitShift
	if ctl&inBytes != 0 {
		shift = 0
	}
	if ctl&hasGap != 0 {
		l.off += int64(l.uvarint(uint64(l.node.end-l.off)>>shift, "gap") << shift)
	}
	if ctl&hasLength != 0 {
		l.len = int64(l.uvarint(uint64(l.node.end-l.off)>>shift, "length") << shift)
	}
	if l.off > l.node.first && l.left == l.count {
		return l.fail("first extent begins at %d, expected %d", l.off, l.node.first)
	}
	if l.err != nil || ctl&reserved != 0 || l.len <= 0 || l.len > l.node.end-l.off {
		return l.fail("extent at %d has control %#x, length %d, limit %d", l.off, ctl, l.len, l.node.end-l.off)
	}
	e.Off, e.Len = l.off, l.len
	l.off += l.len
	if err := l.locate(e, ctl, shift); err != nil {
		return err
	}
	if l.left--; l.left == 0 {
		return l.finish()
	}
	return nil
}

// locate reads the rest of an extent: where its bytes are and when it was born.
func (l *leafReader) locate(e *Extent, ctl byte, shift int) error {
	at := ctl & atMask
	if at >= atHole {
		if at > atHole {
			return l.fail("extent at %d has control %#x", e.Off, ctl)
		}
		birth := l.hole
		if !l.holes {
			birth = l.birth
		}
		l.hole, l.holes = l.readBirth(ctl, birth), true
		l.birth = l.hole
		e.Hole, e.ChunkOff, e.Birth = true, 0, l.births[l.birth]
		clear(e.Chunk[:])
		return l.err
	}
	pl, birth := l.chunkOf(at), l.birth
	if pl == nil {
		return l.err
	}
	start := int64(pl.next)
	if at == atNew || at == atNewOffset {
		start = 0
	} else {
		birth = pl.birth
	}
	switch at {
	case atNewOffset:
		start = int64(l.uvarint(MaxChunk>>shift, "chunk offset") << shift)
	case atSameSkip, atBackSkip:
		start += unzigzag(l.uvarint(2*MaxChunk>>shift, "skip")) << shift
	}
	if start < 0 || start > MaxChunk-e.Len {
		return l.fail("extent at %d of length %d begins at %d of its chunk, limit %d", e.Off, e.Len, start, MaxChunk)
	}
	l.birth = l.readBirth(ctl, birth)
	pl.next, pl.birth = uint32(start+e.Len), l.birth
	l.bytes += e.Len
	e.Hole, e.ChunkOff, e.Birth = false, uint32(start), l.births[l.birth]
	copy(e.Chunk[:], l.ids[l.cur*idSize:])
	return l.err
}

// chunkOf makes the chunk that the control byte means the current one.
func (l *leafReader) chunkOf(at byte) *place {
	switch at {
	case atNew, atNewOffset:
		if l.used == len(l.places) {
			_ = l.fail("more chunks than the %d ids", l.used)
			return nil
		}
		l.cur = l.used
		l.used++
		if chunk.ID(l.ids[l.cur*idSize:][:idSize]).IsZero() {
			_ = l.fail("chunk id %d is zero", l.cur)
			return nil
		}
	case atBack, atBackSkip:
		back := l.uvarint(MaxExtents, "distance to an earlier id")
		if l.err != nil || back >= uint64(l.used) {
			_ = l.fail("id %d back, %d known", back, l.used)
			return nil
		}
		l.cur = l.used - 1 - int(back)
	}
	if l.cur < 0 {
		_ = l.fail("first data extent without a chunk")
		return nil
	}
	return &l.places[l.cur]
}

func (l *leafReader) readBirth(ctl byte, implied uint32) uint32 {
	if ctl&hasBirth == 0 {
		return implied
	}
	return uint32(l.uvarint(uint64(len(l.births)-1), "index of birth"))
}

// finish checks what can be known only behind the last extent.
func (l *leafReader) finish() error {
	switch {
	case l.p != len(l.b):
		return l.fail("%d bytes behind the last extent", len(l.b)-l.p)
	case l.off != l.node.end:
		return l.fail("extents end at %d, expected %d", l.off, l.node.end)
	case l.used != len(l.places):
		return l.fail("%d chunks used, %d ids", l.used, len(l.places))
	case l.bytes != l.node.bytes:
		return l.fail("extents of %d bytes, expected %d", l.bytes, l.node.bytes)
	}
	return nil
}
