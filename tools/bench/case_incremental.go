// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime"

	"github.com/tidemark-io/tidemark/chunkstore/seal"
	"github.com/tidemark-io/tidemark/mover"
	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

// readers is how many reads a backup has under way at once.
func readers() int { return max(4, 2*runtime.GOMAXPROCS(0)) }

// increments is how many are measured. They are alike: of their costs the least counts.
const increments = 5

// runIncremental measures an empty incremental of a repository with a real passphrase, and then, without the noise of
// making keys of passphrases, incrementals of 1 % random pages.
func runIncremental(ctx context.Context, b *bench) error {
	image := b.path("work.img")
	if err := b.volume.copyTo(ctx, image); err != nil {
		return err
	}
	empty, report, err := b.emptyIncremental(ctx, b.path("real"), image, b.kdf)
	if err != nil {
		return err
	}
	b.atMost("empty: wall", empty.Wall, 1, "s", "the whole process, passphrase and audit of %s included; %.2f CPU s", byteSize(report.AuditBytes), empty.CPU)
	b.atMost("empty: shipped", float64(report.ShippedBytes)/1024, 16, "KiB", "of which metadata %d B", report.MetadataBytes)
	repo := b.path("repo")
	if empty, _, err = b.emptyIncremental(ctx, repo, image, cheapKDF); err != nil {
		return err
	}
	var all increment
	changes := newRewriter(b.volume.pages, 1)
	for range increments {
		one, err := b.oneIncrement(ctx, repo, image, changes)
		if err != nil {
			return err
		}
		all.add(one)
	}
	b.incrementRows(all, empty)
	return nil
}

// emptyIncremental makes a repository, a full backup, and some incrementals whose claim is empty.
func (b *bench) emptyIncremental(ctx context.Context, repo, image string, kdf seal.KDF) (best process, report *mover.Report, err error) {
	if err := initRepo(ctx, repo, kdf); err != nil {
		return best, nil, err
	}
	if _, _, err := call[*mover.Report](ctx, "backup", backupArgs{Repo: repo, Image: image}); err != nil {
		return best, nil, err
	}
	for range increments {
		var cost process
		report, cost, err = call[*mover.Report](ctx, "backup", backupArgs{Repo: repo, Image: image, Changes: []byte("[]")})
		if err != nil {
			return best, nil, err
		}
		best.least(cost)
	}
	return best, report, nil
}

// increment is what some incrementals and their yardsticks came to: all bytes, and the least cost of one.
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
	s.cost.least(o.cost)
	s.bare = least(s.bare, o.bare)
	s.disk = least(s.disk, o.disk)
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
	cpu := s.cost.CPU - empty.CPU
	b.atMost("1 %: CPU beyond an empty one / loop", cpu/s.bare.CPU, 2, "", "%.3f - %.3f and %.3f CPU s for %s; only reading and writing them %.3f",
		s.cost.CPU, empty.CPU, s.bare.CPU, byteSize(s.bare.Bytes), s.disk.CPU)
	b.atMost("1 %: wall / (empty one + reading and writing)", s.cost.Wall/(empty.Wall+s.disk.Wall), 1.3, "", "%.2f s; %.2f + %.2f s",
		s.cost.Wall, empty.Wall, s.disk.Wall)
}
