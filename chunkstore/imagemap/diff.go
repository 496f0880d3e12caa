// SPDX-License-Identifier: Apache-2.0

package imagemap

import "context"

// Diff emits the ranges of b that may differ from a, without asking how they are
// related: where both map the same bytes of the same chunk, or zeros, they are
// equal, elsewhere they may differ. What lies beyond the size of a is emitted,
// too. Runs that both end with and subtrees of the bases that both have are not
// read, except around what does differ.
func Diff(ctx context.Context, src Source, a, b Map, emit func(off, n int64) error) error {
	common := min(a.Size, b.Size)
	d := differ{
		out: ranges{emit: emit},
		a:   NewIterator(src, a, 0, common, Options{}),
		b:   NewIterator(src, b, 0, common, Options{}),
	}
	sources, err := candidates(ctx, src, a, b)
	if err != nil {
		return err
	}
	err = union(ctx, sources, 0, common, func(off, n int64) error { return d.compare(ctx, off, off+n) })
	if err != nil {
		return err
	}
	if b.Size > common {
		if err := d.out.add(common, b.Size); err != nil {
			return err
		}
	}
	return d.out.flush()
}

// candidates are the ranges outside which both maps see the same extents of the
// same layers: what only one of them has in its runs, and where the bases differ.
func candidates(ctx context.Context, src Source, a, b Map) ([]spanner, error) {
	ra, rb := a.Runs, b.Runs
	for len(ra) > 0 && len(rb) > 0 && ra[len(ra)-1].Root == rb[len(rb)-1].Root {
		ra, rb = ra[:len(ra)-1], rb[:len(rb)-1]
	}
	var sources []spanner
	for _, runs := range [][]Ref{ra, rb} {
		for _, ref := range (Map{Runs: runs}).layers() {
			sources = append(sources, &cursor{src: src, root: ref, exact: true})
		}
	}
	if a.Base.Root == b.Base.Root {
		return sources, nil
	}
	base := &baseDiff{src: src}
	for i, ref := range []Ref{a.Base, b.Base} {
		if err := base.sides[i].begin(ctx, src, ref); err != nil {
			return nil, err
		}
	}
	return append(sources, base), nil
}

// ranges joins adjacent ranges on their way to emit.
type ranges struct {
	emit   func(off, n int64) error
	lo, hi int64
}

func (r *ranges) add(lo, hi int64) error {
	if lo == r.hi && r.hi > r.lo {
		r.hi = hi
		return nil
	}
	err := r.flush()
	r.lo, r.hi = lo, hi
	return err
}

func (r *ranges) flush() error {
	if r.hi == r.lo {
		return nil
	}
	lo, n := r.lo, r.hi-r.lo
	r.lo = r.hi
	return r.emit(lo, n)
}

// differ compares two overlays side by side.
type differ struct {
	a, b *Iterator
	out  ranges
}

// side is one overlay's current extent; at the end of a range it lies behind it.
type side struct {
	it *Iterator
	e  Extent
}

func (s *side) move(ctx context.Context, pos int64) error {
	for s.e.End() <= pos {
		e, ok, err := s.it.Next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			e = Extent{Off: maxOffset - 1, Len: 1}
		}
		s.e = e
	}
	return nil
}

func (d *differ) compare(ctx context.Context, lo, hi int64) error {
	d.a.window(lo, hi)
	d.b.window(lo, hi)
	a, b := side{it: d.a}, side{it: d.b}
	for lo < hi {
		if err := a.move(ctx, lo); err != nil {
			return err
		}
		if err := b.move(ctx, lo); err != nil {
			return err
		}
		end := min(hi, until(&a.e, lo), until(&b.e, lo))
		if !sameBytes(&a.e, &b.e, lo) {
			if err := d.out.add(lo, end); err != nil {
				return err
			}
		}
		lo = end
	}
	return nil
}

// until is where what e says about pos ends to hold.
func until(e *Extent, pos int64) int64 {
	if e.Off > pos {
		return e.Off
	}
	return e.End()
}

func sameBytes(a, b *Extent, pos int64) bool {
	inA, inB := a.Off <= pos, b.Off <= pos
	if !inA || !inB {
		return inA == inB
	}
	return int64(a.ChunkOff)-a.Off == int64(b.ChunkOff)-b.Off && a.Chunk == b.Chunk
}
