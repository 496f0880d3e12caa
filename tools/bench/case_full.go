// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"

	"github.com/tidemark-io/tidemark/mover"
	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

const (
	uploads = 2 // packs that a backup writes at once
	repeats = 2 // of what takes long; of each figure the least counts
)

// runStages shows that the loop is no straw man.
func runStages(ctx context.Context, b *bench) error {
	list, _, err := call[[]loop.Stage](ctx, "stages", struct{}{})
	if err != nil {
		return err
	}
	for _, s := range list {
		b.atLeast(s.Name+" / alone", s.InLoop/s.Alone, 0.9, "%.0f MB/s of one core in the loop, %.0f alone", s.InLoop, s.Alone)
	}
	return nil
}

// fullRun is one full backup into a new repository.
type fullRun struct {
	report *mover.Report
	cost   process
}

func (b *bench) fullBackup(ctx context.Context, repo, image string, digest int) (fullRun, error) {
	if err := initRepo(ctx, repo, cheapKDF); err != nil {
		return fullRun{}, err
	}
	report, cost, err := call[*mover.Report](ctx, "backup", backupArgs{Repo: repo, Image: image, Digest: digest})
	return fullRun{report, cost}, err
}

func removeRepo(repo string) error {
	if err := os.RemoveAll(repo); err != nil {
		return err
	}
	return os.RemoveAll(repo + ".cache")
}

// runFull compares a full backup with the loop over the same bytes, in turns.
func runFull(ctx context.Context, b *bench) error {
	var best fullRun
	var bare loop.Cost
	var sizes []int64
	for range repeats {
		c, err := yardstick(ctx, "loop", loopArgs{Image: b.volume.path})
		if err != nil {
			return err
		}
		bare = least(bare, c)
		repo := b.path("repo")
		full, err := b.fullBackup(ctx, repo, b.volume.path, 0)
		if err != nil {
			return err
		}
		best.report = full.report
		best.cost.least(full.cost)
		if sizes, err = packSizes(repo); err != nil {
			return err
		}
		if err := removeRepo(repo); err != nil {
			return err
		}
	}
	write, err := yardstick(ctx, "write", writeArgs{Dir: b.path("write"), Sizes: sizes, Parallel: uploads})
	if err != nil {
		return err
	}
	b.fullRows(best, bare, write)
	return nil
}

func (b *bench) fullRows(full fullRun, bare, write loop.Cost) {
	r := full.report
	data := float64(b.volume.data) / 1e6
	b.atMost("CPU / loop", full.cost.CPU/bare.CPU, 1.3, "", "%.2f and %.2f CPU s for %s of data", full.cost.CPU, bare.CPU, byteSize(bare.Bytes))
	slower, name := bare.Wall, "loop"
	if write.Wall > slower {
		slower, name = write.Wall, "write rate"
	}
	b.atLeast("rate / slower of loop and writing", slower/full.cost.Wall, 0.8, "%.0f MB/s, %s %.0f MB/s (loop %.2f s, writing %.2f s)",
		data/full.cost.Wall, name, data/slower, bare.Wall, write.Wall)
	b.info("shipped / data", float64(r.ShippedBytes)/float64(b.volume.data), "", "%s in %s", byteSize(r.ShippedBytes), byteSize(b.volume.data))
	b.info("metadata / shipped", 100*float64(r.MetadataBytes)/float64(r.ShippedBytes), "%", "%s", byteSize(r.MetadataBytes))
	b.info("peak memory", float64(r.PeakMemoryBytes)/(1<<20), "MiB", "of %d MiB", mover.DefaultMemory>>20)
}

// least keeps the better figure of each kind; a zero c is none yet.
func least(c, o loop.Cost) loop.Cost {
	if c.CPU == 0 {
		return o
	}
	return loop.Cost{Bytes: o.Bytes, CPU: min(c.CPU, o.CPU), Wall: min(c.Wall, o.Wall)}
}
