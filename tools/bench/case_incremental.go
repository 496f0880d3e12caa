// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime"

	"github.com/tidemark-io/tidemark/mover"
	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

// readers is how many reads a backup has under way at once.
func readers() int { return max(4, 2*runtime.GOMAXPROCS(0)) }

// increments is how many are measured, and their figures added.
const increments = 3

// runIncremental measures an empty incremental and such of 1 % random pages, on a repository with a real passphrase.
func runIncremental(ctx context.Context, b *bench) error {
	image, repo := b.path("work.img"), b.path("repo")
	if err := b.volume.copyTo(ctx, image); err != nil {
		return err
	}
	if err := initRepo(ctx, repo, b.kdf); err != nil {
		return err
	}
	if _, _, err := call[*mover.Report](ctx, "backup", backupArgs{Repo: repo, Image: image}); err != nil {
		return err
	}
	empty, err := b.emptyIncremental(ctx, repo, image)
	if err != nil {
		return err
	}
	var sum increment
	changes := newRewriter(b.volume.pages, 1)
	for range increments {
		one, err := b.oneIncrement(ctx, repo, image, changes)
		if err != nil {
			return err
		}
		sum.add(one)
	}
	b.incrementRows(sum, empty)
	return nil
}

func (b *bench) emptyIncremental(ctx context.Context, repo, image string) (process, error) {
	var best process
	var report *mover.Report
	for i := range increments {
		r, cost, err := call[*mover.Report](ctx, "backup", backupArgs{Repo: repo, Image: image, Changes: []byte("[]")})
		if err != nil {
			return best, err
		}
		if i == 0 {
			best = cost
		}
		best.CPU, best.Wall, report = min(best.CPU, cost.CPU), min(best.Wall, cost.Wall), r
	}
	b.atMost("empty: wall", best.Wall, 1, "s", "the whole process, passphrase and audit of %s included; %.2f CPU s", byteSize(report.AuditBytes), best.CPU)
	b.atMost("empty: shipped", float64(report.ShippedBytes)/1024, 16, "KiB", "of which metadata %d B", report.MetadataBytes)
	return best, nil
}

// increment is what some incrementals and their yardsticks came to.
type increment struct {
	changed, read, shipped, metadata int64
	cost                             process
	bare                             loop.Cost
	disk                             loop.Cost
}

func (s *increment) add(o increment) {
	s.changed += o.changed
	s.read += o.read
	s.shipped += o.shipped
	s.metadata += o.metadata
	s.cost.CPU += o.cost.CPU
	s.cost.Wall += o.cost.Wall
	s.bare.Add(o.bare)
	s.disk.Add(o.disk)
}

func (b *bench) oneIncrement(ctx context.Context, repo, image string, changes *rewriter) (one increment, err error) {
	ranges, err := changes.rewrite(image)
	if err != nil {
		return one, err
	}
	list, err := claim(ranges)
	if err != nil {
		return one, err
	}
	r, cost, err := call[*mover.Report](ctx, "backup", backupArgs{Repo: repo, Image: image, Changes: list})
	if err != nil {
		return one, err
	}
	one = increment{changed: ranges.Total(), read: r.ReadBytes, shipped: r.ShippedBytes, metadata: r.MetadataBytes, cost: cost}
	if one.bare, err = yardstick(ctx, "loop", loopArgs{Image: image, Only: ranges}); err != nil {
		return one, err
	}
	// Again from the disk: the backup read the pages past the page cache, and so does this.
	one.disk, err = yardstick(ctx, "pages", pagesArgs{
		Image: image, Pages: ranges, Depth: readers(), Write: writeArgs{Dir: b.path("write"), Sizes: []int64{r.ShippedBytes}, Parallel: 1},
	})
	return one, err
}

func (b *bench) incrementRows(s increment, empty process) {
	changed := float64(s.changed)
	b.atMost("1 %: read / changed", float64(s.read)/changed, 1.05, "", "%s in %d incrementals", byteSize(s.changed), increments)
	b.atMost("1 %: shipped / changed", float64(s.shipped)/changed, 1.1, "", "%s", byteSize(s.shipped))
	b.info("1 %: metadata / changed", 100*float64(s.metadata)/changed, "%", "%d B; bounded over the series of 200", s.metadata)
	cpu := s.cost.CPU - increments*empty.CPU
	b.atMost("1 %: CPU beyond an empty one / loop", cpu/s.bare.CPU, 2, "", "%.3f and %.3f CPU s", cpu, s.bare.CPU)
	yard := increments*empty.Wall + s.disk.Wall
	b.atMost("1 %: wall / (empty one + reading and writing)", s.cost.Wall/yard, 1.3, "", "%.2f s; %.2f + %.2f s", s.cost.Wall, increments*empty.Wall, s.disk.Wall)
}
