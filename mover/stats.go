// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
)

// RepositoryStats says what a repository holds. Bytes are stored ones but
// where a name says otherwise.
type RepositoryStats struct {
	Points      int                   `json:"points"` // retained
	Volumes     int                   `json:"volumes"`
	Classes     map[string]ClassStats `json:"classes"` // of packs: base, patch, map
	Packs       int64                 `json:"packs"`
	PackBytes   int64                 `json:"packBytes"`
	IndexBytes  int64                 `json:"indexBytes"`
	Chunks      int64                 `json:"chunks"`      // places in packs: one stored twice counts twice
	VolumeBytes int64                 `json:"volumeBytes"` // sizes of the points' volumes
	MappedBytes int64                 `json:"mappedBytes"` // of those, what is not zeros
	DedupRatio  float64               `json:"dedupRatio"`  // mapped bytes per byte of data packs; 0 without any
	Undecided   []uint64              `json:"undecided"`   // sessions that run, or were killed
}

// ClassStats counts the packs of one class.
type ClassStats struct {
	Packs int64 `json:"packs"`
	Bytes int64 `json:"bytes"`
}

// Stats counts what committed sessions stored and what retained points map.
func Stats(ctx context.Context, repo *chunkstore.Repository) (*RepositoryStats, error) {
	points, err := repo.Points(ctx, "")
	if err != nil {
		return nil, err
	}
	ix, err := repo.Index(ctx)
	if err != nil {
		return nil, err
	}
	s := &RepositoryStats{Points: len(points), Classes: map[string]ClassStats{}, Undecided: append([]uint64{}, repo.Undecided()...)}
	err = ix.Packs(ctx, func(p index.PackID) error {
		c := s.Classes[p.Class.String()]
		c.Packs, c.Bytes = c.Packs+1, c.Bytes+int64(p.Size)
		s.Classes[p.Class.String()] = c
		s.Packs, s.PackBytes = s.Packs+1, s.PackBytes+int64(p.Size)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := ix.Each(ctx, func(index.Location) error { s.Chunks++; return nil }); err != nil {
		return nil, err
	}
	for _, ref := range repo.Segments() {
		s.IndexBytes += ref.Size
	}
	volumes := map[string]bool{}
	for _, p := range points {
		volumes[p.Volume] = true
		s.VolumeBytes += p.Size
	}
	s.Volumes = len(volumes)
	if s.MappedBytes, err = mappedBytes(ctx, repo, points); err != nil {
		return nil, err
	}
	if data := s.Classes["base"].Bytes + s.Classes["patch"].Bytes; data > 0 {
		s.DedupRatio = float64(s.MappedBytes) / float64(data)
	}
	return s, nil
}

// mappedBytes adds up what points map. A point without runs says so itself.
func mappedBytes(ctx context.Context, repo *chunkstore.Repository, points []*chunkstore.Point) (int64, error) {
	var total atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, p := range points {
		if len(p.Map.Runs) == 0 {
			total.Add(p.Map.Base.Bytes)
			continue
		}
		g.Go(func() error {
			it := imagemap.NewIterator(repo, p.Map, 0, p.Size, imagemap.Options{})
			for {
				e, ok, err := it.Next(ctx)
				if err != nil || !ok {
					return err
				}
				total.Add(e.Len)
			}
		})
	}
	err := g.Wait()
	return total.Load(), err
}
