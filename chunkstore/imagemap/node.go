// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

const (
	magic      = "TDIM"
	version    = 1
	prefixSize = 8
	idSize     = len(chunk.ID{})
)

// node is what a parent says about a child, or a Ref about its root: then bounds
// and newest birth are not known before it is read.
type node struct {
	id         chunk.ID
	height     uint8
	root       bool
	first, end int64
	extents    uint64
	bytes      int64
	stored     int64
	birth      uint64 // newest below
}

func (r Ref) node() node {
	return node{id: r.Root, height: r.Height, root: true, end: maxOffset, extents: r.Extents, bytes: r.Bytes, stored: r.Stored}
}

// header is what both kinds of node begin with.
type header struct {
	first, end int64
	count      uint64
}

func appendHeader(b []byte, height uint8, h header) []byte {
	b = append(b, magic...)
	b = append(b, version, height, 0, 0)
	b = binary.AppendUvarint(b, uint64(h.first))
	b = binary.AppendUvarint(b, uint64(h.end-h.first))
	return binary.AppendUvarint(b, h.count)
}

// scan reads varints from a node; the first that is broken or too large sticks.
type scan struct {
	id  chunk.ID
	b   []byte
	p   int
	err error
}

func (s *scan) fail(format string, args ...any) error {
	if s.err == nil {
		s.err = &CorruptError{Node: s.id, Offset: int64(s.p), Detail: fmt.Sprintf(format, args...)}
	}
	return s.err
}

// uvarint reads a number of at most limit.
func (s *scan) uvarint(limit uint64, what string) uint64 {
	var v uint64
	if s.p < len(s.b) && s.b[s.p] < 0x80 {
		v = uint64(s.b[s.p])
		s.p++
	} else {
		var n int
		if v, n = binary.Uvarint(s.b[min(s.p, len(s.b)):]); n <= 0 {
			_ = s.fail("%s is cut off or too long", what)
			return 0
		}
		s.p += n
	}
	if v > limit || s.err != nil {
		_ = s.fail("%s is %d, limit %d", what, v, limit)
		return 0
	}
	return v
}

func (s *scan) take(n int, what string) []byte {
	if s.err != nil || n > len(s.b)-s.p {
		_ = s.fail("%s needs %d bytes, %d left", what, n, len(s.b)-s.p)
		return nil
	}
	b := s.b[s.p : s.p+n]
	s.p += n
	return b
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }

// readNode fetches a node and checks size, magic, version and height.
func readNode(ctx context.Context, src Source, n *node) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := src.ReadNode(ctx, n.id)
	if err != nil {
		return nil, fmt.Errorf("read image map node %s: %w", n.id, err)
	}
	return b, checkPrefix(n, b)
}

func checkPrefix(n *node, b []byte) error {
	s := scan{id: n.id}
	switch {
	case n.height > MaxHeight:
		return s.fail("height %d, limit %d", n.height, MaxHeight)
	case n.bytes < 0 || n.stored < 0:
		return s.fail("%d bytes in %d stored expected", n.bytes, n.stored)
	case len(b) > MaxNode:
		return s.fail("node of %d bytes, limit %d", len(b), MaxNode)
	case len(b) < prefixSize || string(b[:4]) != magic:
		return s.fail("no node: magic %q not found", magic)
	case b[4] != version:
		return s.fail("node version %d, this program reads %d", b[4], version)
	case b[5] != n.height:
		return s.fail("height %d found, %d expected", b[5], n.height)
	case b[6] != 0 || b[7] != 0:
		return s.fail("reserved bytes are not zero")
	}
	return nil
}

// open reads the header behind the prefix and compares it with what the parent
// says; a root's bounds are learned here.
func (s *scan) open(n *node, b []byte, maxCount uint64) header {
	*s = scan{id: n.id, b: b, p: prefixSize}
	var h header
	h.first = int64(s.uvarint(maxOffset, "first offset"))
	h.end = h.first + int64(s.uvarint(uint64(maxOffset-h.first), "span"))
	h.count = s.uvarint(maxCount, "count")
	if s.err == nil && (h.count == 0 || h.end == h.first) {
		_ = s.fail("empty node")
	}
	if n.root {
		n.first, n.end = h.first, h.end
	} else if s.err == nil && (h.first != n.first || h.end != n.end) {
		_ = s.fail("span %d–%d found, %d–%d expected", h.first, h.end, n.first, n.end)
	}
	return h
}
