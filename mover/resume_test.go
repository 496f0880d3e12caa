// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/blockio/looptest"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// readTOC lists the data chunks of a pack.
func readTOC(t *testing.T, repo *chunkstore.Repository, i objstore.Info) []pack.TOCChunk {
	t.Helper()
	session, seq, hash, err := pack.ParseName(i.Name)
	if err != nil {
		t.Fatal(err)
	}
	toc, err := repo.TOC(t.Context(), index.PackID{Session: session, Seq: seq, Hash: hash, Size: uint32(i.Size)})
	if err != nil {
		t.Fatal(err)
	}
	if toc.Header.Class == chunk.Map {
		return nil
	}
	return toc.Chunks
}

// interrupted kills a backup when most of its packs are stored, and returns
// what it left and what a whole run of the same reports.
func (w *way) interrupted(t *testing.T) (*rig, *Report) {
	t.Helper()
	clean := w.from.clone()
	rep := clean.mustBackup(w.options())
	packs := int64(0)
	err := clean.store.List(t.Context(), "packs/", func(objstore.Info) error { packs++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	before := w.from.clone()
	err = before.store.List(t.Context(), "packs/", func(objstore.Info) error { packs--; return nil })
	if err != nil {
		t.Fatal(err)
	}
	r := w.from.clone()
	r.t = t
	c := w.child(r)
	c.Kill = max(4, packs*3/4+2) // two puts come before the first pack
	if !c.start(t) {
		t.Fatalf("%s: put %d was never made", w.name, c.Kill)
	}
	return r, rep
}

func (r *rig) journalPath() string {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(r.dir, "cache", "*", "journals", "*"))
	if err != nil || len(found) != 1 {
		r.t.Fatalf("journals %q: %v", found, err)
	}
	return found[0]
}

// The source changed since: nothing of what was read counts, whatever part of
// it is still the same, but what was shipped is not shipped again (M1).
func TestResumeOfAChangedSource(t *testing.T) {
	for _, w := range ways(t, 2<<20) {
		t.Run(w.name, func(t *testing.T) {
			r, clean := w.interrupted(t)
			r.ownImage() // another file, with other times
			at := 0
			if w.claim != nil {
				at = int(w.claim[0].Offset) // of what the claim has
			}
			r.write(at, 4096)
			r.save()
			rep := r.mustBackup(w.options())
			r.check()
			if resumedAt(t, rep) != 0 || rep.ReadBytes != clean.ReadBytes {
				t.Errorf("read %d of %d: %s", rep.ReadBytes, clean.ReadBytes, rep.Resumed)
			}
			twice, _ := r.shippedTwice()
			if twice > 2*smallPack {
				t.Errorf("%d bytes were shipped twice", twice)
			}
			if rep.NewBytes > clean.NewBytes/2+2*smallPack {
				t.Errorf("%d of %d bytes were new after three quarters were shipped", rep.NewBytes, clean.NewBytes)
			}
		})
	}
}

// The same snapshot id says that a device is the same. A sample of what was done
// finds out when that is not so.
func TestResumeSamplesWhatWasDone(t *testing.T) {
	looptest.RequireRoot(t)
	for _, w := range ways(t, 3<<20) {
		if w.name == "claim" {
			continue // its audit would find it first
		}
		for _, changed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, changed %t", w.name, changed), func(t *testing.T) {
				r := w.from.clone()
				r.t = t
				r.ownImage()
				r.image = looptest.Attach(t, r.image)
				c := w.child(r)
				c.Kill, c.Snapshot = 7, "snap"
				if w.full {
					c.Kill = 12
				}
				if !c.start(t) {
					t.Fatal("the child was not killed")
				}
				if changed {
					r.write(0, len(r.data))
					r.save()
				}
				opt := w.options()
				opt.Snapshot = "snap"
				rep := r.mustBackup(opt)
				r.check()
				warned := strings.Contains(strings.Join(rep.Warnings, "\n"), errNotSame.Error())
				if warned != changed || (resumedAt(t, rep) > 0) == changed {
					t.Errorf("resumed %q, warnings %q", rep.Resumed, rep.Warnings)
				}
			})
		}
	}
}

// Another snapshot id is another moment, though the file is the same.
func TestResumeOfAnotherSnapshot(t *testing.T) {
	w := ways(t, 2<<20)[0]
	r := w.from.clone()
	c := w.child(r)
	c.Kill, c.Snapshot = 6, "snap-1"
	if !c.start(t) {
		t.Fatal("the child was not killed")
	}
	opt := w.options()
	opt.Snapshot = "snap-2"
	rep := r.mustBackup(opt)
	if resumedAt(t, rep) != 0 {
		t.Errorf("%s", rep.Resumed)
	}
	for _, p := range r.check() {
		if p.Snapshot != "snap-2" {
			t.Errorf("point of snapshot %q", p.Snapshot)
		}
	}
}

// Whatever became of the journal, the backup is right.
func TestResumeWithADamagedJournal(t *testing.T) {
	damages := map[string]func(data []byte) []byte{
		"gone":              func([]byte) []byte { return nil },
		"header flipped":    func(d []byte) []byte { d[12] ^= 4; return d },
		"middle flipped":    func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
		"half":              func(d []byte) []byte { return d[:len(d)/2] },
		"tail torn":         func(d []byte) []byte { return d[:len(d)-3] },
		"garbage":           func(d []byte) []byte { return []byte(strings.Repeat("garbage!", len(d)/8)) },
		"zeros in the tail": func(d []byte) []byte { clear(d[len(d)*3/4:]); return d },
	}
	for _, w := range ways(t, 2<<20) {
		t.Run(w.name, func(t *testing.T) {
			left, _ := w.interrupted(t)
			for name, damage := range damages {
				r := left.clone()
				r.t = t
				path := r.journalPath()
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(data), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := r.backup(w.options()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				r.check()
			}
		})
	}
}

// fence ends a session as a collector does.
func (r *rig) fence(session uint64) {
	r.t.Helper()
	repo := r.repo()
	defer func() { _ = repo.Close() }()
	name := fmt.Sprintf("sessions/%010d/outcome", session)
	plain, err := json.Marshal(chunkstore.OutcomeRecord{Session: session, Nonce: "collector", State: chunkstore.StateFenced})
	if err != nil {
		r.t.Fatal(err)
	}
	var id [16]byte
	if _, err := hex.Decode(id[:], []byte(repo.Config().ID)); err != nil {
		r.t.Fatal(err)
	}
	sealed, err := repo.Keyring().SealRecord(id, name, plain)
	if err == nil {
		err = r.store.Put(r.t.Context(), name, objstore.Body{sealed})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// A collector fenced the session and deleted its packs: nothing of it counts.
func TestResumeOfAFencedSession(t *testing.T) {
	for _, w := range ways(t, 3<<20) {
		t.Run(w.name, func(t *testing.T) {
			r, clean := w.interrupted(t)
			session := uint64(len(r.want))
			r.fence(session)
			prefix := fmt.Sprintf("packs/%010d/", session)
			var packs []string
			err := r.store.List(t.Context(), prefix, func(i objstore.Info) error {
				packs = append(packs, i.Name)
				return nil
			})
			if err != nil || len(packs) < 2 {
				t.Fatalf("packs %q: %v", packs, err)
			}
			for _, p := range packs {
				if err := r.store.Delete(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			rep := r.mustBackup(w.options())
			if rep.Resumed != "" || rep.ReadBytes != clean.ReadBytes {
				t.Errorf("read %d of %d, resumed %q", rep.ReadBytes, clean.ReadBytes, rep.Resumed)
			}
			r.check()
		})
	}
}

// The session's own record is gone, as after a restore of the bucket from older
// times: begin anew instead of failing for ever.
func TestResumeOfAVanishedSession(t *testing.T) {
	w := ways(t, 2<<20)[0]
	r, _ := w.interrupted(t)
	if err := r.store.Delete(t.Context(), fmt.Sprintf("sessions/%010d/open", len(r.want))); err != nil {
		t.Fatal(err)
	}
	if rep := r.mustBackup(w.options()); resumedAt(t, rep) != 0 {
		t.Errorf("%s", rep.Resumed)
	}
	r.check()
}

// Killed between the commit and the end of the journal: the point stands, and
// the journal is no obstacle.
func TestJournalLeftAfterCommit(t *testing.T) {
	for _, w := range ways(t, 2<<20) {
		t.Run(w.name, func(t *testing.T) {
			r := w.from.clone()
			r.t = t
			c := w.child(r)
			c.KillName = "/outcome"
			if !c.start(t) {
				t.Fatal("the child was not killed")
			}
			if n := len(r.check()); n != len(w.from.want)+1 {
				t.Fatalf("%d points: the child was not killed after its commit", n)
			}
			if st, err := os.Stat(r.journalPath()); err != nil || st.Size() == 0 {
				t.Fatalf("no journal was left: %v", err)
			}
			rep := r.mustBackup(w.options())
			if rep.Resumed != "" {
				t.Errorf("resumed a committed session: %s", rep.Resumed)
			}
			r.check()
		})
	}
}

// A claim that was caught lying by a run that was then killed is not sampled
// anew and believed: the next run knows.
func TestLieIsRememberedOverAKill(t *testing.T) {
	base := newRig(t, 1<<20)
	base.data = append(base.data, make([]byte, 15<<20)...) // sampling finds one page of it hardly ever
	base.save()
	base.mustBackup(BackupOptions{})
	w := way{name: "lie", from: base, claim: blockdiff.Ranges{base.write(0, 8192)}}
	base.write(10<<20, 4096)
	base.save()
	blind := w.options()
	if rep := base.clone().mustBackup(blind); rep.ExitCode() != 0 {
		t.Fatalf("the sample of this seed is not blind: %+v", rep.Audit)
	}
	kills := 0
	for n := int64(3); ; n++ { // two puts come before the audit
		r := base.clone()
		c := w.child(r)
		c.Kill, c.Audit = n, 1
		if !c.start(t) {
			break
		}
		kills++
		rep := r.mustBackup(w.options())
		if rep.Source != SourceFingerprint || rep.ExitCode() != ExitLied || len(rep.Warnings) == 0 {
			if points := r.check(); len(points) == 3 { // the killed one was committed
				continue
			}
			t.Fatalf("killed at put %d: %+v", n, rep)
		}
		r.check()
	}
	if kills < 5 {
		t.Errorf("only %d kills", kills)
	}
}

// Equal chunks side by side are separate samples, and none grows without bound.
func TestSamplerOfEqualChunks(t *testing.T) {
	s := sampler{}
	for i := range int64(50) {
		s.add(imagemap.Extent{Off: i * 100, Len: 60, Chunk: chunk.ID{1}})
		s.add(imagemap.Extent{Off: i*100 + 60, Len: 40, Chunk: chunk.ID{1}, ChunkOff: 60})
		s.add(imagemap.Extent{Off: i*100 + 100, Hole: true})
	}
	s.flush()
	if len(s.picks) != 50 {
		t.Fatalf("%d samples", len(s.picks))
	}
	for _, p := range s.picks {
		if len(p.pieces) != 2 || p.length != 100 {
			t.Fatalf("sample %+v", p)
		}
	}
	s.add(imagemap.Extent{Len: 60, Chunk: chunk.ID{2}, ChunkOff: 1}) // no beginning
	s.flush()
	if len(s.picks) != 50 {
		t.Error("a chunk without its beginning was sampled")
	}
}

// A long run, then scattered pages only: the last chunk of the run is not kept
// open, so checkpoints move on and extents do not pile up.
func TestCheckpointsMoveOnBehindALongRun(t *testing.T) {
	r := newRig(t, 8<<20)
	r.mustBackup(BackupOptions{})
	claim := blockdiff.Ranges{r.write(0, 5*longRun/4)}
	for at := 2 << 20; at < 8<<20; at += 16 << 10 {
		claim = claim.Union(blockdiff.Ranges{r.write(at, 8<<10)})
	}
	r.save()
	w := way{name: "claim", from: r, claim: claim, slab: 3 * longRun / 2}
	k, clean := w.interrupted(t)
	rep := k.mustBackup(w.options())
	if at := resumedAt(t, rep); at <= 3<<20 || rep.ReadBytes+w.work(at) != clean.ReadBytes {
		t.Errorf("%s, read %d", rep.Resumed, rep.ReadBytes)
	}
	k.check()
}

func TestSameSource(t *testing.T) {
	file := blockio.Identity{Dev: 1, Ino: 2, Size: 1000, MtimeNs: 3, CtimeNs: 4}
	other := file
	other.CtimeNs++
	tests := []struct {
		name string
		a, b journalHeader
		same bool
	}{
		{"one file", journalHeader{Size: 1000, Identity: file}, journalHeader{Size: 1000, Identity: file}, true},
		{"a file that changed", journalHeader{Size: 1000, Identity: file}, journalHeader{Size: 1000, Identity: other}, false},
		{"a device says nothing", journalHeader{Size: 1000}, journalHeader{Size: 1000}, false},
		{"a device of one snapshot", journalHeader{Size: 1000, Snapshot: "s"}, journalHeader{Size: 1000, Snapshot: "s"}, true},
		{"of two", journalHeader{Size: 1000, Snapshot: "s"}, journalHeader{Size: 1000, Snapshot: "r"}, false},
		{"two files under one snapshot's name", journalHeader{Size: 1000, Snapshot: "s", Identity: file}, journalHeader{Size: 1000, Snapshot: "s", Identity: other}, false},
		{"of another size", journalHeader{Size: 1000, Snapshot: "s"}, journalHeader{Size: 1001, Snapshot: "s"}, false},
		{"one file, another snapshot", journalHeader{Size: 1000, Snapshot: "s", Identity: file}, journalHeader{Size: 1000, Identity: file}, false},
	}
	for _, tt := range tests {
		if tt.a.sameSource(&tt.b) != tt.same || tt.b.sameSource(&tt.a) != tt.same {
			t.Errorf("%s: not %t", tt.name, tt.same)
		}
	}
}
