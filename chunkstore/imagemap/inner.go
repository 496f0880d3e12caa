// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"encoding/binary"
	"fmt"
)

// innerReader decodes the children of one inner node, one after the other.
type innerReader struct {
	scan
	node    node
	left    uint64
	off     int64 // end of the last child
	extents uint64
	bytes   int64
	stored  int64
	birth   uint64
}

// open takes the inner node b, which n describes and checkPrefix has passed.
func (r *innerReader) open(n node, b []byte) error {
	r.node = n
	h := r.scan.open(&r.node, b, MaxFanout)
	r.left, r.off = h.count, h.first
	r.extents, r.bytes, r.stored, r.birth = 0, 0, int64(len(b)), 0
	return r.err
}

// next decodes one child into c. Call it only while left > 0. Sums are kept
// below what the node itself should have, so they can't overflow.
func (r *innerReader) next(c *node) error {
	*c = node{height: r.node.height - 1}
	c.first = r.off + int64(r.uvarint(uint64(r.node.end-r.off), "gap"))
	c.end = c.first + int64(r.uvarint(uint64(r.node.end-c.first), "span"))
	c.extents = r.uvarint(r.node.extents-r.extents, "extents")
	c.bytes = int64(r.uvarint(uint64(r.node.bytes-r.bytes), "bytes"))
	c.stored = int64(r.uvarint(uint64(max(r.node.stored-r.stored, 0)), "stored"))
	c.birth = r.uvarint(1<<64-1, "newest birth")
	copy(c.id[:], r.take(idSize, "id of child"))
	if r.err == nil && r.off == r.node.first && c.first != r.off {
		_ = r.fail("first child begins at %d, expected %d", c.first, r.off)
	}
	if r.err == nil && (c.end == c.first || c.extents == 0 || c.id.IsZero()) {
		_ = r.fail("empty child at %d", c.first)
	}
	r.off = c.end
	r.extents += c.extents
	r.bytes += c.bytes
	r.stored += c.stored
	r.birth = max(r.birth, c.birth)
	if r.left--; r.left == 0 && r.err == nil {
		r.finish()
	}
	return r.err
}

func (r *innerReader) finish() {
	n := &r.node
	switch {
	case r.p != len(r.b):
		_ = r.fail("%d bytes behind the last child", len(r.b)-r.p)
	case r.off != n.end:
		_ = r.fail("children end at %d, expected %d", r.off, n.end)
	case r.extents != n.extents || r.bytes != n.bytes || r.stored != n.stored:
		_ = r.fail("%d extents, %d bytes, %d stored found, %d, %d, %d expected",
			r.extents, r.bytes, r.stored, n.extents, n.bytes, n.stored)
	case n.root:
		n.birth = r.birth
	case r.birth != n.birth:
		_ = r.fail("newest birth %d found, %d expected", r.birth, n.birth)
	}
}

// innerWriter gathers the children of one inner node.
type innerWriter struct {
	node    node
	group   int64
	count   int
	only    node // the last child: the root, if it stays alone
	entries []byte
	out     []byte
	verify  innerReader
}

func (w *innerWriter) add(c node) {
	if w.count == 0 {
		w.node = node{height: c.height + 1, first: c.first, end: c.first}
		w.entries = w.entries[:0]
	}
	b := binary.AppendUvarint(w.entries, uint64(c.first-w.node.end))
	b = binary.AppendUvarint(b, uint64(c.end-c.first))
	b = binary.AppendUvarint(b, c.extents)
	b = binary.AppendUvarint(b, uint64(c.bytes))
	b = binary.AppendUvarint(b, uint64(c.stored))
	b = binary.AppendUvarint(b, c.birth)
	w.entries = append(b, c.id[:]...)
	n := &w.node
	n.end = c.end
	n.extents += c.extents
	n.bytes += c.bytes
	n.stored += c.stored
	n.birth = max(n.birth, c.birth)
	w.only = c
	w.count++
}

// finish assembles, verifies and stores the node and leaves the writer empty.
func (w *innerWriter) finish(ctx context.Context, sink Sink) (node, error) {
	n := w.node
	b := appendHeader(w.out[:0], n.height, header{n.first, n.end, uint64(w.count)})
	b = append(b, w.entries...)
	w.out = b
	n.stored += int64(len(b))
	if err := w.verifyNode(n, b); err != nil {
		return node{}, fmt.Errorf("%w: %w", ErrVerify, err)
	}
	var err error
	if n.id, err = sink.WriteNode(ctx, b); err != nil {
		return node{}, fmt.Errorf("write image map node at %d, height %d: %w", n.first, n.height, err)
	}
	w.count = 0
	return n, nil
}

func (w *innerWriter) verifyNode(n node, b []byte) error {
	if err := checkPrefix(&n, b); err != nil {
		return err
	}
	if err := w.verify.open(n, b); err != nil {
		return err
	}
	var c node
	for w.verify.left > 0 {
		if err := w.verify.next(&c); err != nil {
			return err
		}
	}
	return nil
}
