// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// keep forgets all points but the newest n and publishes what those need.
func (r *rig) keep(repo *chunkstore.Repository, n int) {
	r.t.Helper()
	ctx := r.t.Context()
	points, err := repo.Points(ctx, "v")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range points[:max(0, len(points)-n)] {
		if err := repo.Forget(ctx, chunkstore.PointRef{ID: p.ID, Session: p.Session}, "test"); err != nil {
			r.t.Fatal(err)
		}
		delete(r.want, p.ID)
	}
	u, err := repo.Survey(ctx, points[max(0, len(points)-n):])
	if err == nil {
		err = repo.PublishUsage(ctx, u)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// held measures the data packs from outside: the stored bytes of those that
// hold a byte some retained point maps, and how many mapped bytes there are.
func (r *rig) held(repo *chunkstore.Repository) (stored, live int64) {
	r.t.Helper()
	ctx := r.t.Context()
	points, err := repo.Points(ctx, "v")
	if err != nil {
		r.t.Fatal(err)
	}
	mapped := map[chunkstore.ChunkID]blockdiff.Ranges{}
	for _, p := range points {
		it := imagemap.NewIterator(repo, p.Map, 0, p.Size, imagemap.Options{})
		for {
			e, ok, err := it.Next(ctx)
			if err != nil {
				r.t.Fatal(err)
			}
			if !ok {
				break
			}
			mapped[e.Chunk] = append(mapped[e.Chunk], blockdiff.Range{Offset: int64(e.ChunkOff), Length: e.Len})
		}
	}
	packs := map[string]bool{}
	for id, rs := range mapped {
		live += blockdiff.Normalize(rs).Total()
		loc, err := repo.Locate(ctx, id)
		if err != nil {
			r.t.Fatal(err)
		}
		packs[loc.Pack.Name()] = true
	}
	err = r.store.List(ctx, "packs/", func(i objstore.Info) error {
		if packs[i.Name] {
			stored += i.Size
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return stored, live
}

// A volume of random pages, rewritten here and there sixty times, with the last
// five points kept: what is stored and what is shipped stay within bounds that
// do not grow, and births tell exactly what was written.
func TestCleaningKeepsWithinBounds(t *testing.T) {
	const (
		size    = 4 << 20
		backups = 60
		kept    = 5
		pages   = 20 // of 8 KiB per backup: 4 %
	)
	r := newMemRig(t, size)
	rnd := rand.New(rand.NewPCG(60, 5))
	repo := r.repo()
	if _, err := r.backupTo(repo, BackupOptions{}); err != nil {
		t.Fatal(err)
	}
	var shipped, written, moved int64
	before := r.latest()
	for n := range backups {
		var changed blockdiff.Ranges
		for range pages {
			at := rnd.IntN(size/8192) * 8192
			changed = changed.Union(blockdiff.Ranges{r.write(at, 8192)})
		}
		r.save()
		opt := BackupOptions{Changes: claimOf(t, changed), Seed: uint64(n + 1)}
		if n%10 == 9 {
			opt.Changes = nil // by fingerprint, which moves, too
		}
		rep, err := r.backupTo(repo, opt)
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Warnings) > 0 {
			t.Fatalf("backup %d: %q", n, rep.Warnings)
		}
		p, err := repo.Resolve(t.Context(), rep.Point)
		if err != nil {
			t.Fatal(err)
		}
		r.wantBirths(repo, before, p, changed)
		before = p
		if n >= backups/2 { // settled
			shipped, written, moved = shipped+rep.ShippedBytes, written+changed.Total(), moved+rep.MovedBytes
			if want := rep.ChangedBytes + rep.MovedBytes; rep.NewBytes > want {
				t.Errorf("backup %d: %d new bytes, but %d changed or moved", n, rep.NewBytes, want)
			}
		}
		r.keep(repo, kept)
		if n >= backups/2 {
			if stored, live := r.held(repo); float64(stored) > 1.8*float64(live) {
				t.Errorf("after backup %d: %d stored for %d live", n, stored, live)
			}
		}
	}
	t.Logf("shipped/written %.2f, moved/written %.2f", float64(shipped)/float64(written), float64(moved)/float64(written))
	// Pages are incompressible, and packs of this size carry 2 % of their own.
	if ratio := float64(shipped) / float64(written); ratio > 1.75 || moved == 0 {
		t.Errorf("shipped %.2f times what was written, moved %d", ratio, moved)
	}
	if n := len(r.check()); n != kept {
		t.Errorf("%d points", n)
	}
}

// wantBirths demands that what the map calls changed is what was written, in
// whole digest pieces at most: what was only moved must not be in it.
func (r *rig) wantBirths(repo *chunkstore.Repository, before, after *chunkstore.Point, written blockdiff.Ranges) {
	r.t.Helper()
	var got blockdiff.Ranges
	err := imagemap.ChangedSince(r.t.Context(), repo, after.Map, before.Session, func(off, n int64) error {
		got = append(got, blockdiff.Range{Offset: off, Length: n})
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	got = blockdiff.Normalize(got)
	if left := written.Subtract(got); len(left) > 0 {
		r.t.Fatalf("births since session %d hide %v", before.Session, left)
	}
	if more := got.Subtract(written.AlignOut(pageSize, after.Size)); after.Source == SourceGiven && len(more) > 0 {
		r.t.Fatalf("births since session %d tell of %v, which nobody wrote", before.Session, more)
	} else if after.Source == SourceFingerprint && got.Total() > written.AlignOut(DefaultDigestSize, after.Size).Total()*2 {
		r.t.Fatalf("births since session %d tell of %d bytes, %d were written", before.Session, got.Total(), written.Total())
	}
}

// Moving looks at the bytes once more; a claim that hides one of them is caught.
func TestLieFoundWhileMoving(t *testing.T) {
	r := newMemRig(t, 1<<20)
	r.grow(31 << 20) // so that the audit's sample misses the page
	r.save()
	repo := r.repo()
	backup := func(opt BackupOptions) *Report {
		rep, err := r.backupTo(repo, opt)
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	backup(BackupOptions{})
	// Two thirds of every pack die.
	var claim blockdiff.Ranges
	for at := 0; at+32<<10 <= 1<<20; at += 48 << 10 {
		claim = claim.Union(blockdiff.Ranges{r.write(at, 32<<10)})
	}
	r.save()
	backup(BackupOptions{Changes: claimOf(t, claim)})
	r.keep(repo, 1)
	usage, err := repo.Usage(t.Context(), "v")
	if err != nil || usage == nil {
		t.Fatal(err)
	}
	base := r.latest()
	plan, err := planMoves(t.Context(), repo, base, 16<<20)
	if err != nil || len(plan) == 0 {
		t.Fatalf("nothing would be moved: %v, usage %+v", err, usage)
	}
	at := plan[0].Offset + plan[0].Length/2
	for seed := uint64(1); ; seed++ { // the first whose sample does not hit
		clone := r.clone()
		clone.ownImage()
		clone.data[at]++
		clone.save()
		rep, err := clone.backup(BackupOptions{Changes: claimOf(t, nil), Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		if rep.ExitCode() != ExitLied || rep.Source != SourceFingerprint {
			t.Fatalf("seed %d: %+v", seed, rep)
		}
		clone.check()
		if !strings.Contains(rep.Warnings[0], fmt.Sprintf("of %d bytes looked at", auditBlock)) {
			return // not a block of the audit, but what was to be moved
		}
		if seed == 20 {
			t.Fatal("the audit was faster each time")
		}
	}
}
