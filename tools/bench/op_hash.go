// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

// hashArgs say what to read and hash, in which pieces and with what.
type hashArgs struct {
	Image string
	Piece int64
	Depth int
	Names bool // with BLAKE3, as chunks are named; otherwise with what digests are made with
}

// hashSlab is one read, as large as a backup's with the default memory.
const hashSlab = 8 << 20

// hashOp is what a fingerprint can't do without: read all that the source has allocated, past the page cache, as a
// backup reads it, and hash every piece.
func hashOp(ctx context.Context, a hashArgs) (cost loop.Cost, err error) {
	src, err := blockio.OpenSource(a.Image)
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	ranges, err := dataRanges(src)
	if err != nil {
		return cost, err
	}
	cost, err = loop.Time(func() error { return hashAll(ctx, src, ranges, a) })
	cost.Bytes = ranges.Total()
	return cost, err
}

func hashAll(ctx context.Context, src *blockio.Source, ranges blockdiff.Ranges, a hashArgs) (err error) {
	arena, err := blockio.NewArena(hashSlab, a.Depth)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, arena.Close()) }()
	work := make(chan blockdiff.Range)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		return ranges.Cut(hashSlab, func(r blockdiff.Range) error {
			select {
			case work <- r:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for range a.Depth {
		g.Go(func() error { return hashSome(ctx, src, arena, work, a) })
	}
	return g.Wait()
}

func hashSome(ctx context.Context, src *blockio.Source, arena *blockio.Arena, work <-chan blockdiff.Range, a hashArgs) (err error) {
	hash, err := hashFunc(a.Names)
	if err != nil {
		return err
	}
	buf, err := arena.Get(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, buf.Release()) }()
	for r := range work {
		p := buf.Bytes()[:r.Length]
		if err := src.ReadAt(ctx, p, r.Offset); err != nil {
			return err
		}
		for off := r.Offset; len(p) > 0; {
			n := min(int64(len(p)), a.Piece-off%a.Piece)
			hash(p[:n])
			off, p = off+n, p[n:]
		}
	}
	return nil
}

func hashFunc(names bool) (func([]byte), error) {
	if !names {
		d := chunk.NewDigester([32]byte{'d'})
		return func(p []byte) { d.Sum(p) }, nil
	}
	h, err := loop.Hasher()
	if err != nil {
		return nil, err
	}
	var sum [32]byte
	return func(p []byte) {
		h.Reset()
		_, _ = h.Write(p) // never fails
		h.Sum(sum[:0])
	}, nil
}
