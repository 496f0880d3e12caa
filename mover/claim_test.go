// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
)

func (r *rig) grow(n int) { r.data = append(r.data, make([]byte, n)...) }

func (r *rig) latest() *chunkstore.Point {
	points := r.check()
	return points[len(points)-1]
}

func TestHonestClaim(t *testing.T) {
	r := newMemRig(t, 2<<20)
	first := r.mustBackup(BackupOptions{})
	claim := blockdiff.Ranges{r.write(5000, 100), r.write(300<<10, 8192)}
	r.save()
	rep := r.mustBackup(BackupOptions{Changes: claimOf(t, claim)})
	r.check()
	if rep.Source != SourceGiven || rep.Trust != TrustAudited || rep.Base != first.Point || rep.ExitCode() != 0 || len(rep.Warnings) > 0 {
		t.Errorf("%+v", rep)
	}
	if rep.ReadBytes != 4096+8192 || rep.ChangedBytes != 4096+8192 {
		t.Errorf("read %d, changed %d", rep.ReadBytes, rep.ChangedBytes)
	}
	if rep.AuditBytes < 1<<20 || rep.Audit.Sampled > rep.AuditBytes {
		t.Errorf("the audit looked at %d bytes, read %d", rep.Audit.Sampled, rep.AuditBytes)
	}
}

// One hidden page: the point is made right, and the exit code tells.
func TestLyingClaim(t *testing.T) {
	for name, edit := range map[string]func(r *rig){
		"a page":               func(r *rig) { r.write(1<<20, 4096) },
		"a byte":               func(r *rig) { r.data[1<<20+77]++ },
		"zeros became data":    func(r *rig) { r.write(len(r.data)/3+8192, 1) },
		"data became zeros":    func(r *rig) { clear(r.data[1<<20:][:4096]) },
		"the volume's last":    func(r *rig) { r.data[len(r.data)-1]++ },
		"beside what it names": func(r *rig) { r.data[8192+300]++ },
	} {
		t.Run(name, func(t *testing.T) {
			r := newMemRig(t, 2<<20+777)
			r.mustBackup(BackupOptions{})
			claim := blockdiff.Ranges{r.write(0, 8192)}
			edit(r)
			r.save()
			store := r.repo()
			put := store.Meter().Counts().PutBytes
			rep, err := r.backupTo(store, BackupOptions{Changes: claimOf(t, claim), AuditShare: 1, Seed: 5})
			if err != nil {
				t.Fatal(err)
			}
			if rep.ExitCode() != ExitLied || rep.Source != SourceFingerprint || rep.Trust != TrustRead || rep.Audit.Missed == 0 {
				t.Errorf("%+v", rep)
			}
			if len(rep.Warnings) != 1 || !strings.Contains(rep.Warnings[0], "left out bytes that changed") {
				t.Errorf("warnings %q", rep.Warnings)
			}
			if n := store.Meter().Counts().PutBytes - put; rep.ShippedBytes != n {
				t.Errorf("shippedBytes %d, but %d were put", rep.ShippedBytes, n)
			}
			if p := r.latest(); p.Audit.Missed == 0 || p.Source != SourceFingerprint || !strings.Contains(p.Reason, "left out bytes") {
				t.Errorf("point: %+v, %s, %s", p.Audit, p.Source, p.Reason)
			}
			// The next honest claim is believed again.
			honest := blockdiff.Ranges{r.write(64<<10, 8192)}
			r.save()
			if rep := r.mustBackup(BackupOptions{Changes: claimOf(t, honest)}); rep.Source != SourceGiven {
				t.Errorf("after that: %+v", rep)
			}
			r.check()
		})
	}
}

// The share that was asked for is compared however large the volume is beside
// what an audit takes by default.
func TestAuditShareIsKept(t *testing.T) {
	r := newMemRig(t, 1<<20)
	r.grow(90 << 20)
	r.save()
	r.mustBackup(BackupOptions{})
	r.write(80<<20, 1)
	r.save()
	rep := r.mustBackup(BackupOptions{Changes: claimOf(t, nil), AuditShare: 1, Seed: 5})
	if rep.ExitCode() != ExitLied {
		t.Errorf("a page beyond 64 MiB was not compared: %+v", rep.Audit)
	}
}

func TestClaimOfAnotherSnapshot(t *testing.T) {
	r := newMemRig(t, 1<<20)
	r.mustBackup(BackupOptions{Snapshot: "snap-1"})
	r.write(0, 8192)
	hidden := r.write(500<<10, 8192) // the claim is since a later snapshot, so it may well leave this out
	r.save()
	rep := r.mustBackup(BackupOptions{Snapshot: "snap-3", BaseSnapshot: "snap-2", Changes: claimOf(t, blockdiff.Ranges{{Offset: 0, Length: 8192}})})
	p := r.latest()
	if rep.Source != SourceFingerprint || rep.ExitCode() != 0 || rep.ChangedBytes < 8192+hidden.Length || p.Snapshot != "snap-3" {
		t.Errorf("%+v", rep)
	}
	if len(rep.Warnings) != 1 || !strings.Contains(rep.Warnings[0], `since snapshot "snap-2", the base`) || !strings.Contains(p.Reason, "snap-2") {
		t.Errorf("warnings %q, reason %q", rep.Warnings, p.Reason)
	}
	claim := blockdiff.Ranges{r.write(0, 8192)}
	r.save()
	rep = r.mustBackup(BackupOptions{BaseSnapshot: "snap-3", Changes: claimOf(t, claim)})
	if rep.Source != SourceGiven || len(rep.Warnings) != 0 {
		t.Errorf("the right snapshot: %+v", rep)
	}
	r.check()
}

// What can't be a claim is refused in one sentence, and nothing is made of it.
func TestBadClaims(t *testing.T) {
	tests := []struct{ name, claim, says string }{
		{"overlapping", `[{"offset":0,"length":8192},{"offset":4096,"length":8192}]`, "overlaps"},
		{"descending", `[{"offset":8192,"length":4096},{"offset":0,"length":4096}]`, "ascend"},
		{"out of bounds", `[{"offset":1048576,"length":1}]`, "beyond the volume's end"},
		{"reaching out", `[{"offset":1048570,"length":4096}]`, "beyond the volume's end"},
		{"negative", `[{"offset":-1,"length":4096}]`, "-1"},
		{"no bytes", `[{"offset":0,"length":0}]`, "no bytes"},
		{"broken", `[{"offset":0,"len`, ""},
		{"cut off", `[{"offset":0,"length":4096}`, "ends"},
		{"empty", ``, "empty"},
		{"another document", `{"version":1}`, "not with ["},
	}
	r := newMemRig(t, 1<<20)
	r.mustBackup(BackupOptions{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.backup(BackupOptions{Changes: strings.NewReader(tt.claim)})
			wantSentence(t, err, "list of changes", tt.says)
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		_, err := r.backup(BackupOptions{Changes: io.MultiReader(strings.NewReader("["), failingReader{})})
		wantSentence(t, err, io.ErrClosedPipe.Error())
	})
	if n := len(r.check()); n != 1 {
		t.Errorf("%d points", n)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// wantSentence demands an error of one line that says all of this.
func wantSentence(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
		t.Errorf("not one sentence: %q", err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

func TestClaimWithoutBase(t *testing.T) {
	r := newMemRig(t, 1<<20)
	_, err := r.backup(BackupOptions{Changes: claimOf(t, nil)})
	wantSentence(t, err, "needs a base", `"v"`)
	if n := len(r.check()); n != 0 {
		t.Errorf("%d points", n)
	}
}

func TestBadOptions(t *testing.T) {
	r := newMemRig(t, 1<<20)
	for says, opt := range map[string]BackupOptions{
		"digest size 5000": {DigestSize: 5000},
		"digest size 2048": {DigestSize: 2048},
		"audit share 1.5":  {AuditShare: 1.5},
		"audit share -1":   {AuditShare: -1},
		`kind "gear"`:      {Chunker: "gear"},
	} {
		_, err := r.backup(opt)
		wantSentence(t, err, says)
	}
}

// A volume that grew goes on by claim: its tail is read though the claim does
// not name it. One that shrank goes by fingerprint.
func TestGrownAndShrunkVolumes(t *testing.T) {
	r := newMemRig(t, 1<<20+100) // the last page is not whole
	r.mustBackup(BackupOptions{})
	old := len(r.data)
	r.grow(700 << 10)
	r.write(old+100<<10, 200<<10) // a tail of zeros, data, zeros
	claim := blockdiff.Ranges{r.write(4096, 4096)}
	r.save()
	rep := r.mustBackup(BackupOptions{Changes: claimOf(t, claim)})
	if rep.Source != SourceGiven || !strings.Contains(rep.Reason, "grew from") || rep.ReadBytes < 700<<10 || rep.ReadBytes > 720<<10 {
		t.Errorf("grown: %+v", rep)
	}
	r.check()
	r.grow(300 << 10) // only zeros: what they hide later must be found by births, too
	r.save()
	if rep = r.mustBackup(BackupOptions{Changes: claimOf(t, nil)}); rep.Source != SourceGiven || rep.ExitCode() != 0 {
		t.Errorf("grown by zeros: %+v", rep)
	}
	r.check()
	r.data = bytes.Clone(r.data[:900<<10])
	r.save()
	rep = r.mustBackup(BackupOptions{Changes: claimOf(t, nil)})
	if rep.Source != SourceFingerprint || !strings.Contains(rep.Reason, "shrank from") || len(rep.Warnings) != 1 || rep.ExitCode() != 0 {
		t.Errorf("shrunk: %+v", rep)
	}
	r.check()
	r.data = nil
	r.save()
	r.mustBackup(BackupOptions{})
	r.grow(9000)
	r.write(0, 9000)
	r.save()
	r.mustBackup(BackupOptions{Changes: claimOf(t, nil)})
	r.check()
}

// Random samples alone may miss one block for ever; the rolling part looks at
// every block once in a lap.
func TestRollingAuditFindsWhatIsAlwaysHidden(t *testing.T) {
	const lap = 8
	r := newMemRig(t, 256<<10)
	r.grow(64<<20 - 256<<10) // far more blocks than a sample has
	r.save()
	r.mustBackup(BackupOptions{})
	r.write(63<<20, 4096)
	r.save()
	for n := 1; ; n++ {
		rep := r.mustBackup(BackupOptions{Changes: claimOf(t, nil), AuditShare: 1.0 / lap, Seed: 11})
		if rep.ExitCode() == ExitLied {
			if n == 1 {
				t.Error("found at once: the random part did it, and this proves nothing")
			}
			break
		}
		if n > lap+1 {
			t.Fatalf("not found in %d backups", n)
		}
		if rep.Audit.Sampled < 64<<20/lap || rep.Audit.Sampled > 2*64<<20/lap {
			t.Errorf("backup %d compared %d bytes", n, rep.Audit.Sampled)
		}
		for id := range r.want { // believed so far, so these points are not the volume
			delete(r.want, id)
		}
	}
	repo := r.repo()
	p, err := repo.Latest(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	got, err := readPoint(t.Context(), repo, p)
	if err != nil || !bytes.Equal(got, r.data) {
		t.Errorf("the convicted backup's point is not the volume: %v", err)
	}
}

// A base in another deduplication domain can't be extended: one point's chunks
// have names of one key.
func TestBaseOfAnotherDomain(t *testing.T) {
	r := newMemRig(t, 1<<20)
	r.mustBackup(BackupOptions{Domain: "a"})
	claim := blockdiff.Ranges{r.write(0, 8192)}
	r.save()
	rep := r.mustBackup(BackupOptions{Domain: "b", Changes: claimOf(t, claim)})
	if rep.Source != SourceFull || !strings.Contains(rep.Reason, "domain") || len(rep.Warnings) != 1 {
		t.Errorf("%+v", rep)
	}
	r.check()
}

// The base is forgotten while a backup begins: it must not be extended.
func TestForgottenBase(t *testing.T) {
	r := newMemRig(t, 1<<20)
	first := r.mustBackup(BackupOptions{})
	repo := r.repo()
	base, err := repo.Resolve(t.Context(), first.Point)
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Forget(t.Context(), chunkstore.PointRef{ID: base.ID, Session: base.Session}, "test"); err != nil {
		t.Fatal(err)
	}
	delete(r.want, first.Point)
	claim := blockdiff.Ranges{r.write(0, 8192)}
	r.save()
	rep := r.mustBackup(BackupOptions{Base: base, Changes: claimOf(t, claim)})
	if rep.Source != SourceFull || !strings.Contains(rep.Reason, "was forgotten") || rep.Base != "" {
		t.Errorf("%+v", rep)
	}
	r.check()
}
