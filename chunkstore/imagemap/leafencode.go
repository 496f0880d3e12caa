// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// leafWriter encodes extents as they come; only ids and births wait in tables
// of their own until the leaf is assembled.
type leafWriter struct {
	node     node // bounds and sums so far
	entries  []byte
	ids      []byte
	births   []byte
	places   []place
	idIndex  map[chunk.ID]int
	birthIdx map[uint64]uint32

	cur       int
	len       int64
	lastBirth uint64 // of the births table, for its differences
	birth     uint32
	hole      uint32
	holes     bool
	sum       uint64 // over all extents, to verify the finished leaf

	out    []byte
	verify leafReader
}

func (l *leafWriter) reset() {
	l.node = node{}
	l.entries, l.ids, l.births, l.places = l.entries[:0], l.ids[:0], l.births[:0], l.places[:0]
	if l.idIndex == nil {
		l.idIndex, l.birthIdx = make(map[chunk.ID]int), make(map[uint64]uint32)
	}
	clear(l.idIndex)
	clear(l.birthIdx)
	l.cur, l.len, l.lastBirth, l.birth, l.hole, l.holes, l.sum = -1, 0, 0, 0, 0, false, 0
}

// size is the encoded size so far, but for at most 64 bytes of header.
func (l *leafWriter) size() int { return len(l.entries) + len(l.ids) + len(l.births) + 64 }

// add appends a checked extent that begins at or behind the end of the last.
func (l *leafWriter) add(e *Extent) {
	if l.node.extents == 0 {
		l.reset()
		l.node.first, l.node.end, l.node.birth = e.Off, e.Off, e.Birth
	}
	var ctl byte
	at, back, skip := l.locate(e)
	gap := e.Off - l.node.end
	numbers := gap | skip
	if gap != 0 {
		ctl |= hasGap
	}
	if e.Len != l.len {
		ctl |= hasLength
		numbers |= e.Len
	}
	shift := unitShift
	if numbers&unitMask != 0 {
		ctl, shift = ctl|inBytes, 0
	}
	birth, implied := l.birthOf(e, at)
	if birth != implied {
		ctl |= hasBirth
	}
	b := append(l.entries, ctl|at)
	if gap != 0 {
		b = binary.AppendUvarint(b, uint64(gap)>>shift)
	}
	if e.Len != l.len {
		b = binary.AppendUvarint(b, uint64(e.Len)>>shift)
	}
	if at == atBack || at == atBackSkip {
		b = binary.AppendUvarint(b, uint64(back))
	}
	switch at {
	case atNewOffset:
		b = binary.AppendUvarint(b, uint64(skip)>>shift)
	case atSameSkip, atBackSkip:
		b = binary.AppendUvarint(b, zigzag(skip>>shift))
	}
	if birth != implied {
		b = binary.AppendUvarint(b, uint64(birth))
	}
	l.entries = b
	l.account(e, birth)
}

// locate finds how to say where e's bytes are and makes its chunk current.
// skip is the number that goes with it, from the end of the chunk's last extent
// or, for a new one, from its begin.
func (l *leafWriter) locate(e *Extent) (at byte, back int, skip int64) {
	if e.Hole {
		return atHole, 0, 0
	}
	if l.cur < 0 || chunk.ID(l.ids[l.cur*idSize:][:idSize]) != e.Chunk {
		known := false
		if l.cur, known = l.idIndex[e.Chunk]; !known {
			l.cur = len(l.places)
			l.idIndex[e.Chunk] = l.cur
			l.ids = append(l.ids, e.Chunk[:]...)
			l.places = append(l.places, place{})
			if e.ChunkOff == 0 {
				return atNew, 0, 0
			}
			return atNewOffset, 0, int64(e.ChunkOff)
		}
		at, back = atBack, len(l.places)-1-l.cur
	}
	if skip = int64(e.ChunkOff) - int64(l.places[l.cur].next); skip != 0 {
		at++
	}
	return at, back, skip
}

// birthOf returns the index of e's birth and the one that the reader will take
// for it if none is written.
func (l *leafWriter) birthOf(e *Extent, at byte) (index, implied uint32) {
	index, known := l.birthIdx[e.Birth]
	if !known {
		index = uint32(len(l.birthIdx))
		l.birthIdx[e.Birth] = index
		l.births = binary.AppendUvarint(l.births, zigzag(int64(e.Birth-l.lastBirth)))
		l.lastBirth = e.Birth
	}
	switch {
	case at == atHole && l.holes:
		return index, l.hole
	case at == atHole || at == atNew || at == atNewOffset:
		return index, l.birth
	}
	return index, l.places[l.cur].birth
}

func (l *leafWriter) account(e *Extent, birth uint32) {
	if e.Hole {
		l.hole, l.holes = birth, true
	} else {
		l.places[l.cur] = place{e.ChunkOff + uint32(e.Len), birth}
		l.node.bytes += e.Len
	}
	l.birth, l.len = birth, e.Len
	l.node.end = e.End()
	l.node.extents++
	l.node.birth = max(l.node.birth, e.Birth)
	l.sum = mix(l.sum, e)
}

// mix folds an extent into a sum; equal sums mean equal extents for the purpose
// of catching a fault.
func mix(sum uint64, e *Extent) uint64 {
	const prime = 0x9E3779B97F4A7C15
	sum = (sum ^ uint64(e.Off)) * prime
	sum = (sum ^ uint64(e.Len)<<32 ^ uint64(e.ChunkOff)) * prime
	sum = (sum ^ e.Birth ^ sum>>29) * prime
	for i := 0; i < idSize && !e.Hole; i += 8 {
		sum = (sum ^ binary.LittleEndian.Uint64(e.Chunk[i:])) * prime
	}
	return sum ^ sum>>32
}

// finish assembles, verifies and stores the leaf and leaves the writer empty.
func (l *leafWriter) finish(ctx context.Context, sink Sink) (node, error) {
	n := l.node
	b := appendHeader(l.out[:0], 0, header{n.first, n.end, n.extents})
	b = binary.AppendUvarint(b, uint64(n.bytes))
	b = binary.AppendUvarint(b, uint64(len(l.places)))
	b = binary.AppendUvarint(b, uint64(len(l.birthIdx)))
	b = append(b, l.births...)
	b = append(b, l.ids...)
	b = append(b, l.entries...)
	l.out = b
	n.stored = int64(len(b))
	if err := l.verifyLeaf(n, b); err != nil {
		return node{}, err
	}
	var err error
	if n.id, err = sink.WriteNode(ctx, b); err != nil {
		return node{}, fmt.Errorf("write image map leaf at %d: %w", n.first, err)
	}
	l.reset()
	return n, nil
}

// verifyLeaf decodes the leaf before it leaves: a map that was written wrong
// would lose what it maps.
func (l *leafWriter) verifyLeaf(n node, b []byte) error {
	if err := checkPrefix(&n, b); err != nil {
		return fmt.Errorf("%w: %w", ErrVerify, err)
	}
	if err := l.verify.open(n, b); err != nil {
		return fmt.Errorf("%w: %w", ErrVerify, err)
	}
	var e Extent
	var sum uint64
	for l.verify.left > 0 {
		if err := l.verify.next(&e); err != nil {
			return fmt.Errorf("%w: %w", ErrVerify, err)
		}
		sum = mix(sum, &e)
	}
	if sum != l.sum {
		return fmt.Errorf("%w: leaf at %d", ErrVerify, n.first)
	}
	return nil
}
