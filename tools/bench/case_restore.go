// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime"

	"github.com/tidemark-io/tidemark/mover"
	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

// runRestore compares a restore with the loop of one into the same place, and restores a difference.
func runRestore(ctx context.Context, b *bench) error {
	image, repo := b.path("work.img"), b.path("repo")
	if err := b.volume.copyTo(ctx, image); err != nil {
		return err
	}
	if _, err := b.fullBackup(ctx, repo, image, 16<<10); err != nil {
		return err
	}
	var bare loop.Cost
	var best process
	for i := range repeats {
		c, err := yardstick(ctx, "unpack", unpackArgs{Image: image, Sealed: b.path("sealed"), Target: b.path("target.img"), Depth: 2 * runtime.GOMAXPROCS(0)})
		if err != nil {
			return err
		}
		bare = least(bare, c)
		r, cost, err := b.restore(ctx, repo, image)
		if err != nil {
			return err
		}
		if i == 0 {
			b.atMost("fetched more than once", float64(r.RefetchedBytes), zero, "B", "of pack data; %s fetched in all", byteSize(r.FetchedBytes))
			b.info("peak memory", float64(r.PeakMemoryBytes)/(1<<20), "MiB", "of %d MiB", mover.DefaultMemory>>20)
		}
		best.least(cost)
	}
	b.atLeast("rate / loop", bare.Wall/best.Wall, 0.8, "%.0f and %.0f MB/s (%.2f and %.2f s)",
		float64(bare.Bytes)/1e6/best.Wall, float64(bare.Bytes)/1e6/bare.Wall, best.Wall, bare.Wall)
	b.info("CPU / loop", best.CPU/bare.CPU, "", "%.2f and %.2f CPU s for %s", best.CPU, bare.CPU, byteSize(bare.Bytes))
	return b.restoreDelta(ctx, repo, image)
}

// restoreDelta changes the volume behind the repository's back and brings it back to the point.
func (b *bench) restoreDelta(ctx context.Context, repo, image string) error {
	ranges, err := newRewriter(b.volume.pages, 6).rewrite(image)
	if err != nil {
		return err
	}
	bare, err := yardstick(ctx, "hash", hashArgs{Image: image, Piece: 16 << 10, Depth: readers()})
	if err != nil {
		return err
	}
	r, cost, err := call[*mover.RestoreReport](ctx, "restore", restoreArgs{Repo: repo, Target: image, Delta: true})
	if err != nil {
		return err
	}
	if err := sameContent(b.volume.path, image); err != nil {
		return err
	}
	b.atMost("delta: written / changed", float64(r.WrittenBytes)/float64(ranges.Total()), 1.05, "", "%s", byteSize(r.WrittenBytes))
	b.info("delta: fetched / changed", float64(r.FetchedBytes)/float64(ranges.Total()), "", "%s", byteSize(r.FetchedBytes))
	b.info("delta: CPU / read and digest", cost.CPU/bare.CPU, "", "%.2f and %.2f CPU s", cost.CPU, bare.CPU)
	return nil
}
