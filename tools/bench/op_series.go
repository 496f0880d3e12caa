// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// seriesArgs are many incrementals by claim, one after the other.
type seriesArgs struct {
	Repo, Image string
	Volume      string // the image whose data pages are chosen from
	Seed        uint64
	Count       int
	Keep        int // retained points; 0: all
}

// series is what they came to, in bytes.
type series struct {
	Changed, Read, Shipped, Metadata, Moved int64

	// With Keep: packs that a retained point needs, and what of them it needs; as of the end, and where the
	// proportion was worst.
	Stored, Live           int64
	WorstStored, WorstLive int64
}

// buryEvery is after how many backups dead packs are removed, for the sake of the disk.
const buryEvery = 5

func seriesOp(ctx context.Context, a seriesArgs) (s series, err error) {
	pages, _, err := dataPages(ctx, a.Volume)
	if err != nil {
		return s, err
	}
	changes := newRewriter(pages, a.Seed)
	err = withRepo(ctx, a.Repo, 0, func(repo *chunkstore.Repository) error {
		for i := range a.Count {
			if err := s.step(ctx, repo, a, changes); err != nil {
				return fmt.Errorf("incremental %d: %w", i, err)
			}
			if a.Keep == 0 {
				continue
			}
			if err := s.collect(ctx, repo, a.Keep, i%buryEvery == buryEvery-1); err != nil {
				return fmt.Errorf("collect after incremental %d: %w", i, err)
			}
		}
		return nil
	})
	return s, err
}

func (s *series) step(ctx context.Context, repo *chunkstore.Repository, a seriesArgs, changes *rewriter) error {
	ranges, err := changes.rewrite(a.Image)
	if err != nil {
		return err
	}
	list, err := claim(ranges)
	if err != nil {
		return err
	}
	r, err := backup(ctx, repo, backupArgs{Image: a.Image, Changes: list})
	if err != nil {
		return err
	}
	s.Changed += ranges.Total()
	s.Read += r.ReadBytes
	s.Shipped += r.ShippedBytes
	s.Metadata += r.MetadataBytes
	s.Moved += r.MovedBytes
	return nil
}

// collect does what a collector does after a backup: forget old points, and publish what the others need.
func (s *series) collect(ctx context.Context, repo *chunkstore.Repository, keep int, bury bool) error {
	points, err := repo.Points(ctx, volumeName)
	if err != nil {
		return err
	}
	for len(points) > keep {
		p := points[0]
		if err := repo.Forget(ctx, chunkstore.PointRef{ID: p.ID, Session: p.Session}, "older than the points to keep"); err != nil {
			return err
		}
		points = points[1:]
	}
	usage, err := repo.Survey(ctx, points)
	if err != nil {
		return err
	}
	if err := repo.PublishUsage(ctx, usage); err != nil {
		return err
	}
	v := usage.Volumes[repo.VolumeKey(volumeName)]
	s.Stored, s.Live = v.Stored, v.Needed
	if s.Stored*s.WorstLive > s.WorstStored*s.Live || s.WorstLive == 0 {
		s.WorstStored, s.WorstLive = s.Stored, s.Live
	}
	if !bury {
		return nil
	}
	return buryDead(ctx, repo, points)
}

// buryDead removes the packs of which no point needs a byte, found without the survey's help.
func buryDead(ctx context.Context, repo *chunkstore.Repository, points []*chunkstore.Point) error {
	needed := map[chunk.ID]bool{}
	for _, p := range points {
		if err := addNeeded(ctx, repo, p, needed); err != nil {
			return err
		}
	}
	alive := map[string]bool{}
	for id := range needed {
		loc, err := repo.Locate(ctx, id)
		if err != nil {
			return err
		}
		alive[loc.Pack.Name()] = true
	}
	var dead []string
	err := repo.Store().List(ctx, "packs/", func(i objstore.Info) error {
		if !alive[i.Name] {
			dead = append(dead, i.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range dead {
		if err := repo.Store().Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func addNeeded(ctx context.Context, repo *chunkstore.Repository, p *chunkstore.Point, needed map[chunk.ID]bool) error {
	err := imagemap.Walk(ctx, repo, p.Map, func(id chunk.ID) error {
		if needed[id] {
			return imagemap.ErrSkip
		}
		needed[id] = true
		return nil
	})
	if err != nil {
		return err
	}
	it := imagemap.NewIterator(repo, p.Map, 0, p.Map.Size, imagemap.Options{})
	for {
		e, ok, err := it.Next(ctx)
		if err != nil || !ok {
			return err
		}
		needed[e.Chunk] = true
	}
}
