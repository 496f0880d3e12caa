// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"

	"github.com/tidemark-io/tidemark/mover"
)

// runSeries makes many incrementals of 1 % random pages and keeps all points.
func runSeries(ctx context.Context, b *bench) error {
	s, err := b.manyIncrements(ctx, 0)
	if err != nil {
		return err
	}
	changed := float64(s.Changed)
	b.atMost("all kept: shipped / changed", float64(s.Shipped)/changed, 1.15, "", "%d incrementals, %s changed", b.series, byteSize(s.Changed))
	b.atMost("all kept: metadata / changed", 100*float64(s.Metadata)/changed, 0.5, "%", "%s", byteSize(s.Metadata))
	b.atMost("all kept: read / changed", float64(s.Read)/changed, 1.05, "", "%s", byteSize(s.Read))
	return nil
}

func (b *bench) manyIncrements(ctx context.Context, keep int) (series, error) {
	image, repo := b.path("work.img"), b.path("repo")
	if err := b.volume.copyTo(ctx, image); err != nil {
		return series{}, err
	}
	if _, err := b.fullBackup(ctx, repo, image, 0); err != nil {
		return series{}, err
	}
	s, _, err := call[series](ctx, "series", seriesArgs{
		Repo: repo, Image: image, Volume: b.volume.path, Seed: 2, Count: b.series, Keep: keep,
	})
	return s, err
}

const kept = 7

// runCleaning is the same with the last seven points kept, and a restore of what is left.
func runCleaning(ctx context.Context, b *bench) error {
	s, err := b.manyIncrements(ctx, kept)
	if err != nil {
		return err
	}
	b.atMost("last 7 kept: shipped / changed", float64(s.Shipped)/float64(s.Changed), 1.75, "",
		"%d incrementals, %s changed, %s moved", b.series, byteSize(s.Changed), byteSize(s.Moved))
	b.atMost("last 7 kept: stored / live", float64(s.WorstStored)/float64(s.WorstLive), 1.8, "",
		"at its worst: %s and %s; at the end %.3g", byteSize(s.WorstStored), byteSize(s.WorstLive), float64(s.Stored)/float64(s.Live))
	return b.restoreNewest(ctx)
}

// restoreNewest restores the last point of a series, and that of a fresh full backup of the same volume.
func (b *bench) restoreNewest(ctx context.Context) error {
	image, fresh := b.path("work.img"), b.path("fresh")
	if _, err := b.fullBackup(ctx, fresh, image, 0); err != nil {
		return err
	}
	var costs [2]process
	var newest *mover.RestoreReport
	for range repeats {
		for i, repo := range []string{b.path("repo"), fresh} {
			r, cost, err := b.restore(ctx, repo, image)
			if err != nil {
				return err
			}
			costs[i].least(cost)
			if i == 0 {
				newest = r
			}
		}
	}
	b.atLeast("last 7 kept: restore / restore of a fresh full", costs[1].Wall/costs[0].Wall, 0.6, "%.2f and %.2f s; %.2f and %.2f CPU s; %s fetched",
		costs[0].Wall, costs[1].Wall, costs[0].CPU, costs[1].CPU, byteSize(newest.FetchedBytes))
	b.atMost("last 7 kept: fetched more than once", float64(newest.RefetchedBytes), zero, "B", "of pack data")
	return nil
}

// restore restores the newest point to a new file, compares it with the image and removes it.
func (b *bench) restore(ctx context.Context, repo, image string) (*mover.RestoreReport, process, error) {
	target := b.path("target.img")
	r, cost, err := call[*mover.RestoreReport](ctx, "restore", restoreArgs{Repo: repo, Target: target})
	if err != nil {
		return nil, cost, err
	}
	return r, cost, errors.Join(sameContent(image, target), os.Remove(target))
}
