// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/fault"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/open"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/retry"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3test"
)

// s3Rig is a rig with its repository in a bucket of a real server.
func s3Rig(t *testing.T) (*rig, string) {
	t.Helper()
	server := s3test.Start(t)
	server.Setenv(t)
	url := server.URL("repo")
	return newRigIn(t, t.TempDir(), 4<<20, openURL(t, url)), url
}

func openURL(t *testing.T, url string) objstore.Store {
	t.Helper()
	store, err := open.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// wantRestored restores every point by the real restore.
func (r *rig) wantRestored() {
	r.t.Helper()
	repo := openTestRepo(r.t, r.store, r.t.TempDir())
	for id, want := range r.want {
		p, err := repo.Resolve(r.t.Context(), id)
		if err != nil {
			r.t.Fatal(err)
		}
		target := filepath.Join(r.t.TempDir(), "target")
		if _, err := Restore(r.t.Context(), repo, p, RestoreOptions{Target: target, Memory: MinMemory}); err != nil {
			r.t.Fatal(err)
		}
		got, err := os.ReadFile(target)
		if err != nil || !bytes.Equal(got, want) {
			r.t.Fatalf("point %.8s differs from offset %d: %v", id, firstDifference(got, want), err)
		}
	}
}

func (r *rig) someChanges() blockdiff.Ranges {
	var claim blockdiff.Ranges
	for i := range 20 {
		claim = claim.Union(blockdiff.Ranges{r.write(i*100<<10, 12<<10)})
	}
	r.save()
	return claim
}

func TestS3BackupKillResumeRestore(t *testing.T) {
	r, url := s3Rig(t)
	for kill := int64(4); kill < 12; kill += 3 {
		c := r.child()
		c.Store, c.Kill, c.After = url, kill, kill%2 == 0
		if !c.start(t) {
			t.Fatalf("put %d was never made", kill)
		}
	}
	rep := r.mustBackup(BackupOptions{})
	if resumedAt(t, rep) == 0 || rep.ReadBytes >= int64(len(r.data)) {
		t.Errorf("read %d: %q", rep.ReadBytes, rep.Resumed)
	}
	r.mustBackup(BackupOptions{Changes: claimOf(t, r.someChanges())})
	r.someChanges()
	rep = r.mustBackup(BackupOptions{})
	if rep.Source != SourceFingerprint {
		t.Errorf("%+v", rep)
	}
	r.check()
	r.wantRestored()
}

// What a network and a busy store do: 5xx, bodies cut short, puts that succeeded
// but failed, so that the repeated one hears 412.
func TestS3WithFaultsThatPass(t *testing.T) {
	r, _ := s3Rig(t)
	plain := r.store
	for _, script := range []string{
		"put packs/* every=2 lost",
		"seed 5; any * p=0.25 error=retryable; put * p=0.4 lost; get * p=0.3 cut=100",
		"put *outcome lost; put *open lost; put points/* lost",
	} {
		faulty, err := fault.Wrap(plain, script)
		if err != nil {
			t.Fatal(err)
		}
		store := retry.Wrap(faulty, retry.Policy{Initial: time.Microsecond, MaxPause: time.Microsecond})
		if _, err := r.through(store, BackupOptions{}); err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		if _, err := r.through(store, BackupOptions{Changes: claimOf(t, r.someChanges())}); err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		if faulty.Fired()[0] == 0 {
			t.Errorf("%s never fired", script)
		}
	}
	r.check()
	r.wantRestored()
}

// The server dies in the middle and is gone: one sentence, and on its return
// the backup goes on.
func TestS3ServerRefuses(t *testing.T) {
	r, _ := s3Rig(t)
	faulty, err := fault.Wrap(r.store, "put packs/* from=5 error=unreachable")
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.through(faulty, BackupOptions{})
	wantSentence(t, err, "store pack")
	if !errors.Is(err, objstore.ErrUnreachable) {
		t.Errorf("class of %v", err)
	}
	if rep := r.mustBackup(BackupOptions{}); resumedAt(t, rep) == 0 {
		t.Errorf("%q", rep.Resumed)
	}
	r.check()
}

// Two writers race for one session number and one outcome on a real server: the
// store decides, and both points stand.
func TestS3TwoWriters(t *testing.T) {
	r, url := s3Rig(t)
	other := &rig{t: t, dir: t.TempDir(), store: openURL(t, url), image: r.image, data: r.data, want: map[string][]byte{}}
	errs := make(chan error, 2)
	for _, x := range []*rig{r, other} {
		repo, err := chunkstore.Open(t.Context(), x.store, testPassphrase, chunkstore.OpenOptions{CacheDir: filepath.Join(x.dir, "cache")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = repo.Close() })
		go func() { // both are waited for
			_, err := x.backupTo(repo, BackupOptions{})
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	points := r.check()
	if len(points) != 2 || points[0].Session == points[1].Session {
		t.Fatalf("%d points", len(points))
	}
}
