// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"testing"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

func (l *lab) diff(a, b *chunkstore.Point) blockdiff.Ranges {
	l.t.Helper()
	var out blockdiff.Ranges
	err := Diff(l.t.Context(), l.repo, a, b, func(off, n int64) error {
		out = append(out, blockdiff.Range{Offset: off, Length: n})
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func TestDiffNamesEveryChange(t *testing.T) {
	l := newLab(t, mem.New(), 8<<20)
	points, images := []*chunkstore.Point{l.history(0)}, [][]byte{bytes.Clone(l.data)}
	for n := range 3 {
		l.scatter(20)
		points, images = append(points, l.backup()), append(images, bytes.Clone(l.data))
		if n == 1 { // an unrelated line: everything was read again
			rep, err := Backup(t.Context(), l.repo, BackupOptions{Source: l.image, Volume: "vol", Full: true, Memory: MinMemory})
			if err != nil {
				t.Fatal(err)
			}
			p, err := l.repo.Resolve(t.Context(), rep.Point)
			if err != nil {
				t.Fatal(err)
			}
			points, images = append(points, p), append(images, bytes.Clone(l.data))
		}
	}
	for i, a := range points {
		for j, b := range points {
			got := l.diff(a, b)
			if i == j && len(got) != 0 {
				t.Errorf("point %d differs from itself in %v", i, got)
			}
			outside := got.Complement(8 << 20)
			for _, r := range outside {
				if !bytes.Equal(images[i][r.Offset:r.End()], images[j][r.Offset:r.End()]) {
					t.Fatalf("points %d and %d differ within %v, which was not named", i, j, r)
				}
			}
		}
	}
	if got := l.diff(points[0], points[1]).Total(); got == 0 || got > 20*8192 {
		t.Errorf("20 pages were written, and %d bytes named", got)
	}
	if points[3].Descends(points[0]) {
		t.Fatal("a full backup descends from nothing")
	}
}

func TestStatsCountWhatIsThere(t *testing.T) {
	store := mem.New()
	l := newLab(t, store, 8<<20)
	empty, err := Stats(t.Context(), l.repo)
	if err != nil {
		t.Fatal(err)
	}
	if empty.Points != 0 || empty.Packs != 0 || empty.DedupRatio != 0 || len(empty.Undecided) != 0 {
		t.Errorf("an empty repository: %+v", empty)
	}
	p := l.history(2)
	other, err := l.repo.Begin(t.Context(), chunkstore.SessionOptions{Volume: "another"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s, err := Stats(t.Context(), l.repo)
	if err != nil {
		t.Fatal(err)
	}
	if s.Points != 3 || s.Volumes != 1 || s.VolumeBytes != 24<<20 || len(s.Undecided) != 1 || s.Undecided[0] != other.Number() {
		t.Errorf("%+v", s)
	}
	stored, packs := int64(0), int64(0)
	for _, name := range store.Objects() {
		if kindOf(name) == "packs" {
			info, err := store.Stat(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			stored, packs = stored+info.Size, packs+1
		}
	}
	sum := ClassStats{}
	for _, c := range s.Classes {
		sum.Packs, sum.Bytes = sum.Packs+c.Packs, sum.Bytes+c.Bytes
	}
	if s.PackBytes != stored || s.Packs != packs || sum.Bytes != stored || sum.Packs != packs {
		t.Errorf("the store has %d packs of %d bytes: %+v", packs, stored, s)
	}
	mapped := int64(0)
	points, err := l.repo.Points(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range points {
		es, err := imagemap.Lookup(t.Context(), l.repo, q.Map, 0, p.Size)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			mapped += e.Len
		}
	}
	if s.MappedBytes != mapped || s.DedupRatio <= 1 || s.Chunks == 0 || s.IndexBytes == 0 {
		t.Errorf("points map %d bytes: %+v", mapped, s)
	}
}
