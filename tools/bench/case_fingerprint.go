// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tidemark-io/tidemark/mover"
	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

// shipBound is how much of what changed a fingerprint may ship, by digest size; what has none is told.
var shipBound = map[int]float64{64 << 10: 9, 16 << 10: 3}

func (b *bench) digestSizes() []int {
	if b.quick {
		return []int{64 << 10, 16 << 10}
	}
	return []int{64 << 10, 16 << 10, 8 << 10, 4 << 10}
}

// runFingerprint measures incrementals without a claim, after a full backup and after many incrementals by claim, for
// all sizes of digests.
func runFingerprint(ctx context.Context, b *bench) error {
	for _, digest := range b.digestSizes() {
		image, repo := b.path("work.img"), b.path("repo")
		if err := b.volume.copyTo(ctx, image); err != nil {
			return err
		}
		if _, err := b.fullBackup(ctx, repo, image, digest); err != nil {
			return err
		}
		name := fmt.Sprintf("%d KiB after a full", digest>>10)
		if err := b.fingerprint(ctx, name, repo, image, digest, 3); err != nil {
			return err
		}
		_, _, err := call[series](ctx, "series", seriesArgs{Repo: repo, Image: image, Volume: b.volume.path, Seed: 4, Count: b.claims})
		if err != nil {
			return err
		}
		name = fmt.Sprintf("%d KiB after %d claims", digest>>10, b.claims)
		if err := b.fingerprint(ctx, name, repo, image, digest, 5); err != nil {
			return err
		}
		if err := errors.Join(removeRepo(repo), os.Remove(image)); err != nil {
			return err
		}
	}
	return nil
}

// fingerprint changes 1 % of the pages and backs up without saying which. The yardstick runs before and after.
func (b *bench) fingerprint(ctx context.Context, name, repo, image string, digest int, seed uint64) error {
	ranges, err := newRewriter(b.volume.pages, seed).rewrite(image)
	if err != nil {
		return err
	}
	args := hashArgs{Image: image, Piece: int64(digest), Depth: readers()}
	bare, err := yardstick(ctx, "hash", args)
	if err != nil {
		return err
	}
	r, cost, err := call[*mover.Report](ctx, "backup", backupArgs{Repo: repo, Image: image, Digest: digest})
	if err != nil {
		return err
	}
	if r.Source != mover.SourceFingerprint {
		return fmt.Errorf("the backup went by %q, not by fingerprint", r.Source)
	}
	again, err := yardstick(ctx, "hash", args)
	if err != nil {
		return err
	}
	args.Names = true
	names, err := yardstick(ctx, "hash", args)
	if err != nil {
		return err
	}
	b.hashRows(name, cost, least(bare, again), names)
	shipped := float64(r.ShippedBytes) / float64(ranges.Total())
	detail := fmt.Sprintf("%s; fetched %s", byteSize(r.ShippedBytes), byteSize(r.FetchedBytes))
	if bound := shipBound[digest]; bound > 0 {
		b.atMost(name+": shipped / changed", shipped, bound, "", "%s", detail)
	} else {
		b.info(name+": shipped / changed", shipped, "", "%s", detail)
	}
	return nil
}

// hashRows hold a fingerprint against reading and hashing every piece as names are hashed, and tell how it stands to
// reading and digesting alone: digests are the cheaper hash, so that loop is little more than the reads.
func (b *bench) hashRows(name string, cost process, bare, names loop.Cost) {
	b.atMost(name+": CPU / read and hash", cost.CPU/names.CPU, 1.25, "", "%.2f and %.2f CPU s for %s; / read and digest %.3g",
		cost.CPU, names.CPU, byteSize(bare.Bytes), cost.CPU/bare.CPU)
	b.atMost(name+": wall / read and hash", cost.Wall/names.Wall, 1.25, "", "%.2f and %.2f s; / read and digest %.3g",
		cost.Wall, names.Wall, cost.Wall/bare.Wall)
}
