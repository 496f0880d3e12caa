// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

// writeArgs are objects to write: the sizes of those that a backup wrote, as many at once as it uploads.
type writeArgs struct {
	Dir      string
	Sizes    []int64
	Parallel int
}

// writeOp is the write rate of the target: new files of these sizes, each written and synced.
func writeOp(ctx context.Context, a writeArgs) (cost loop.Cost, err error) {
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(a.Dir)) }()
	noise := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{'w'}).Read(noise)
	cost, err = loop.Time(func() error { return writeFiles(ctx, a, noise) })
	for _, n := range a.Sizes {
		cost.Bytes += n
	}
	return cost, err
}

func writeFiles(ctx context.Context, a writeArgs, noise []byte) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, a.Parallel))
	for i, n := range a.Sizes {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return writeFile(filepath.Join(a.Dir, fmt.Sprint(i)), n, noise)
		})
	}
	return g.Wait()
}

func writeFile(path string, n int64, noise []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	for n > 0 {
		p := noise[:min(n, int64(len(noise)))]
		if _, err := f.Write(p); err != nil {
			return errors.Join(err, f.Close())
		}
		n -= int64(len(p))
	}
	return errors.Join(f.Sync(), f.Close())
}

// pagesArgs are pages to read and what is to be written after.
type pagesArgs struct {
	Image string
	Pages blockdiff.Ranges
	Depth int // reads at once
	Write writeArgs
}

// pagesOp is what an incremental can't do without: read the changed pages at random and write as many bytes as it
// ships.
func pagesOp(ctx context.Context, a pagesArgs) (cost loop.Cost, err error) {
	src, err := blockio.OpenSource(a.Image)
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	read, err := loop.Time(func() error { return readPages(ctx, src, a) })
	if err != nil {
		return cost, err
	}
	cost, err = writeOp(ctx, a.Write)
	cost.Add(read)
	return cost, err
}

func readPages(ctx context.Context, src *blockio.Source, a pagesArgs) (err error) {
	arena, err := blockio.NewArena(1<<20, a.Depth)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, arena.Close()) }()
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range a.Depth {
		g.Go(func() (err error) {
			buf, err := arena.Get(ctx)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, buf.Release()) }()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(a.Pages) {
					return nil
				}
				for r := a.Pages[i]; r.Length > 0; {
					n := min(r.Length, int64(len(buf.Bytes())))
					if err := src.ReadAt(ctx, buf.Bytes()[:n], r.Offset); err != nil {
						return err
					}
					r.Offset, r.Length = r.Offset+n, r.Length-n
				}
			}
		})
	}
	return g.Wait()
}
