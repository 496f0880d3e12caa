// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"cmp"
	"context"
)

// baseDiff yields the spans of leaves that only one of two bases has. It reads
// inner nodes only, and none that both have.
type baseDiff struct {
	src    Source
	sides  [2]nodes
	lo, hi int64
}

func (d *baseDiff) span(ctx context.Context, pos int64) (lo, hi int64, err error) {
	for d.hi <= pos {
		if d.lo, d.hi, err = d.next(ctx); err != nil {
			return 0, 0, err
		}
	}
	return d.lo, d.hi, nil
}

// next finds the next differing span. Begins never fall from one to the next.
func (d *baseDiff) next(ctx context.Context) (lo, hi int64, err error) {
	a, b := &d.sides[0], &d.sides[1]
	for !a.done || !b.done {
		switch {
		case atSameNode(a, b):
			err = skipBoth(a, b)
		case b.done || !a.done && a.node.end <= b.node.first:
			return a.take()
		case a.done || b.node.end <= a.node.first:
			return b.take()
		case a.node.height == 0 && b.node.height == 0:
			return takeBoth(a, b)
		default:
			err = d.descend(ctx)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return maxOffset, maxOffset, nil
}

// descend goes one level down on the higher side, on both if they are level.
func (d *baseDiff) descend(ctx context.Context) error {
	a, b := &d.sides[0], &d.sides[1]
	higher := cmp.Compare(a.node.height, b.node.height) // before either moves
	if higher >= 0 {
		if err := a.descend(ctx, d.src); err != nil {
			return err
		}
	}
	if higher <= 0 {
		return b.descend(ctx, d.src)
	}
	return nil
}

func atSameNode(a, b *nodes) bool {
	return !a.done && !b.done && a.node.id == b.node.id && a.node.first == b.node.first
}

func skipBoth(a, b *nodes) error {
	if err := a.skip(); err != nil {
		return err
	}
	return b.skip()
}

func takeBoth(a, b *nodes) (lo, hi int64, err error) {
	lo, hi, err = a.take()
	if err != nil {
		return 0, 0, err
	}
	l, h, err := b.take()
	return min(lo, l), max(hi, h), err
}

// nodes walks a tree's nodes; at each one it is skipped or descended into.
type nodes struct {
	node  node
	done  bool
	stack []*innerReader
}

// begin reads the root to learn its bounds.
func (s *nodes) begin(ctx context.Context, src Source, ref Ref) error {
	var ok bool
	var err error
	s.node, ok, err = rootOf(ctx, src, ref)
	s.done = !ok
	return err
}

// rootOf reads a tree's root for what no parent says: bounds and newest birth.
func rootOf(ctx context.Context, src Source, ref Ref) (node, bool, error) {
	if ref.IsZero() {
		return node{}, false, nil
	}
	n := ref.node()
	if n.height == 0 {
		b, err := readNode(ctx, src, &n)
		if err != nil {
			return node{}, false, err
		}
		var leaf leafReader
		err = leaf.open(n, b)
		return leaf.node, true, err
	}
	r, err := openInner(ctx, src, n)
	if err != nil {
		return node{}, false, err
	}
	var c node
	for r.left > 0 {
		if err := r.next(&c); err != nil {
			return node{}, false, err
		}
	}
	return r.node, true, nil
}

func (s *nodes) take() (lo, hi int64, err error) {
	lo, hi = s.node.first, s.node.end
	return lo, hi, s.skip()
}

func (s *nodes) skip() error {
	for len(s.stack) > 0 {
		top := s.stack[len(s.stack)-1]
		if top.left > 0 {
			return top.next(&s.node)
		}
		s.stack = s.stack[:len(s.stack)-1]
	}
	s.done = true
	return nil
}

func (s *nodes) descend(ctx context.Context, src Source) error {
	r, err := openInner(ctx, src, s.node)
	if err != nil {
		return err
	}
	s.stack = append(s.stack, r)
	return s.skip()
}
