// SPDX-License-Identifier: Apache-2.0

package imagemap

import "context"

// folder writes a new base: what the runs do not touch is taken over node by
// node, the rest is written from the overlay. Since bases are cut at fixed
// windows (I5) the result is the tree that a full pass would write. It ends at
// the volume's size: what reads beyond is written by who makes it grow (I7), and
// a hole without end would be cut into windows without end.
type folder struct {
	src    Source
	it     *Iterator // over runs and base, holes included
	runs   int
	size   int64
	w      *Writer
	shared int
}

func foldRuns(ctx context.Context, src Source, sink Sink, m Map, geo geometry) (Ref, int, error) {
	layers := m.layers()
	f := folder{
		src:  src,
		it:   newOverlay(src, layers, 0, maxOffset, true),
		runs: len(layers),
		size: m.Size,
		w:    newWriter(sink, true, geo),
	}
	var all siblings
	root, ok, err := rootOf(ctx, src, m.Base)
	if err != nil {
		return Ref{}, 0, err
	}
	if ok {
		f.runs--
		all.add(root)
	}
	if err := f.fold(ctx, &all, root.height, 0, maxOffset); err != nil {
		return Ref{}, 0, err
	}
	ref, err := f.w.Close(ctx)
	return ref, f.shared, err
}

// siblings yields base nodes of one height, ascending.
type siblings struct {
	reader *innerReader // the children of this node, or
	one    []node       // these
	ahead  node         // peeked
	peeked bool
}

func (s *siblings) add(n node) { s.one = append(s.one, n) }

func (s *siblings) peek() (*node, error) {
	if s.peeked {
		return &s.ahead, nil
	}
	switch {
	case len(s.one) > 0:
		s.ahead, s.one = s.one[0], s.one[1:]
	case s.reader != nil && s.reader.left > 0:
		if err := s.reader.next(&s.ahead); err != nil {
			return nil, err
		}
	default:
		return nil, nil
	}
	s.peeked = true
	return &s.ahead, nil
}

// fold writes [lo, hi), in which all base nodes are those given.
func (f *folder) fold(ctx context.Context, nodes *siblings, height uint8, lo, hi int64) error {
	for {
		n, err := nodes.peek()
		if err != nil {
			return err
		}
		if n == nil {
			return f.rewrite(ctx, lo, hi)
		}
		from, to := f.w.geo.slot(height, n.first)
		if err := f.rewrite(ctx, lo, from); err != nil {
			return err
		}
		if err := f.slot(ctx, nodes, height, from, to); err != nil {
			return err
		}
		lo = to
	}
}

// slot writes one aligned slot, in which at least the next of the nodes lies.
func (f *folder) slot(ctx context.Context, nodes *siblings, height uint8, lo, hi int64) error {
	var group []node
	for {
		n, err := nodes.peek()
		if err != nil {
			return err
		}
		if n == nil || n.first >= hi {
			break
		}
		if n.first < lo || n.end > hi {
			s := scan{id: n.id}
			return s.fail("base node spans %d–%d, its slot %d–%d", n.first, n.end, lo, hi)
		}
		group = append(group, *n)
		nodes.peeked = false
	}
	touched, err := f.it.touched(ctx, f.runs, lo, hi)
	if err != nil {
		return err
	}
	if inside := group[len(group)-1].end <= f.size; inside && !touched {
		for _, n := range group {
			if err := f.w.adopt(ctx, n); err != nil {
				return err
			}
			f.shared++
		}
		return nil
	}
	if height == 0 || len(group) > 1 {
		return f.rewrite(ctx, lo, hi)
	}
	r, err := openInner(ctx, f.src, group[0])
	if err != nil {
		return err
	}
	return f.fold(ctx, &siblings{reader: r}, height-1, lo, hi)
}

// rewrite writes what the overlay shows in [lo, hi).
func (f *folder) rewrite(ctx context.Context, lo, hi int64) error {
	hi = min(hi, f.size)
	if lo >= hi {
		return nil
	}
	f.it.window(lo, hi)
	return copyExtents(ctx, f.it, f.w)
}
