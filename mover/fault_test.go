// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/blockio/looptest"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/fault"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/retry"
)

// through opens the rig's repository through another store and backs up.
func (r *rig) through(store objstore.Store, opt BackupOptions) (*Report, error) {
	r.t.Helper()
	repo, err := chunkstore.Open(r.t.Context(), store, testPassphrase, chunkstore.OpenOptions{CacheDir: filepath.Join(r.dir, "cache")})
	if err != nil {
		return nil, err
	}
	defer func() { _ = repo.Close() }()
	return r.backupTo(repo, opt)
}

func (r *rig) faulty(script string) *fault.Store {
	r.t.Helper()
	s, err := fault.Wrap(r.store, script)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// changedRig is a volume with a point, and changes since.
func changedRig(t *testing.T) (*rig, blockdiff.Ranges) {
	r := newMemRig(t, 512<<10)
	r.mustBackup(BackupOptions{})
	var claim blockdiff.Ranges
	for i := range 12 {
		claim = claim.Union(blockdiff.Ranges{r.write(i*40<<10, 12<<10)})
	}
	r.save()
	return r, claim
}

// Each call to the store fails once, in each way: the backup ends with a
// sentence or is right, no committed point is touched, and the next run
// finishes.
func TestEveryStoreCallFails(t *testing.T) {
	from, claim := changedRig(t)
	given := func() BackupOptions { return BackupOptions{Changes: claimOf(t, claim), Seed: 3} }
	compared := func() BackupOptions { return BackupOptions{Seed: 3} }
	tests := []faultyCall{
		{"any * nth=%d error=retryable", given, false},
		{"any * nth=%d error=retryable", compared, false},
		{"any * nth=%d crash", given, false},
		{"put * nth=%d crash-after", given, false},
		{"put * nth=%d error=full", compared, false},
		{"put * nth=%d lost", given, false},
		{"put * nth=%d taken", given, true}, // what is there has the same bytes
		{"get * nth=%d error=denied", given, false},
		{"get * nth=%d cut=40", given, false},
		{"get * nth=%d flip=60", compared, false},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprintf("%d %s", i, tt.script), func(t *testing.T) {
			t.Parallel() // most of it is waiting for a disk
			tt.everyCall(t, from)
		})
	}
}

type faultyCall struct {
	script   string
	options  func() BackupOptions
	harmless bool // the backup succeeds all the same
}

func (tt *faultyCall) everyCall(t *testing.T, from *rig) {
	failures, runs := 0, 0
	for n := 1; ; n++ {
		r := from.clone()
		r.t = t
		store := r.faulty(fmt.Sprintf(tt.script, n))
		_, err := r.through(store, tt.options())
		if store.Fired()[0] == 0 {
			if err != nil {
				t.Fatalf("without a fault: %v", err)
			}
			break
		}
		runs++
		if err != nil {
			failures++
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, call %d: not one sentence: %v", tt.script, n, err)
			}
		}
		if _, err := r.backup(tt.options()); err != nil {
			t.Errorf("%s, call %d: the next run fails: %v", tt.script, n, err)
		}
		r.check() // also what the failed run may have committed: the volume, too
	}
	t.Logf("%s: %d of %d failed", tt.script, failures, runs)
	if (failures == 0) != tt.harmless || runs < 5 {
		t.Errorf("%s made %d of %d backups fail", tt.script, failures, runs)
	}
}

// A store that keeps other bytes than it was given, and says all is well: what
// is read later is the volume, or an error that names the object; never silence.
func TestStoreThatKeepsWrongBytes(t *testing.T) {
	from, claim := changedRig(t)
	for _, action := range []string{"put * nth=%d flip=70", "put * nth=%d cut=30"} {
		damaged := 0
		for n := 1; ; n++ {
			r := from.clone()
			store := r.faulty(fmt.Sprintf(action, n))
			rep, err := r.through(store, BackupOptions{Changes: claimOf(t, claim), Seed: 3})
			if store.Fired()[0] == 0 {
				break
			}
			if err != nil {
				continue
			}
			repo, err := chunkstore.Open(t.Context(), r.store, testPassphrase, chunkstore.OpenOptions{})
			if err != nil {
				damaged++
				continue
			}
			p, err := repo.Resolve(t.Context(), rep.Point)
			var got []byte
			if err == nil {
				got, err = readPoint(t.Context(), repo, p)
			}
			if err == nil && !bytes.Equal(got, r.data) {
				t.Errorf("put %d: the point reads as something else, in silence", n)
			}
			if err != nil {
				damaged++
			}
			_ = repo.Close()
		}
		if damaged == 0 {
			t.Errorf("%s did no damage", action)
		}
	}
}

// Behind retry, faults that pass are not seen: puts that succeeded but failed,
// answers that a name exists after a repeated attempt, broken bodies.
func TestPassingFaultsArePassed(t *testing.T) {
	from, claim := changedRig(t)
	for _, script := range []string{
		"put * every=2 lost", "any * every=3 error=retryable", "get * every=2 cut=10", "seed 7; any * p=0.2 error=retryable; put * p=0.3 lost",
	} {
		for _, opt := range []BackupOptions{{Changes: claimOf(t, claim)}, {}, {Full: true}} {
			r := from.clone()
			store := r.faulty(script)
			if _, err := r.through(retry.Wrap(store, retry.Policy{Initial: time.Microsecond, MaxPause: time.Microsecond}), opt); err != nil {
				t.Errorf("%s: %v", script, err)
			}
			if fired := store.Fired(); fired[0] == 0 {
				t.Errorf("%s never fired", script)
			}
			r.check()
		}
	}
}

// A full repository: one sentence, what is committed still reads, and with more
// space the next run finishes without shipping again what got through.
func TestFullDisk(t *testing.T) {
	looptest.RequireRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=5m"); err != nil {
		t.Skipf("needs tmpfs mounts: %v", err)
	}
	store := openFolder(t, dir)
	t.Cleanup(func() { // before the store is closed, so only detached
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r := newRigIn(t, t.TempDir(), 1<<20, store)
	r.mustBackup(BackupOptions{})
	r.grow(7 << 20)
	r.write(1<<20, 7<<20)
	r.save()
	for range 2 { // the second run resumes into the same wall
		_, err := r.backup(BackupOptions{})
		wantSentence(t, err, "no space left")
		if !errors.Is(err, objstore.ErrFull) {
			t.Errorf("class of %v", err)
		}
		r.check()
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	rep := r.mustBackup(BackupOptions{})
	if resumedAt(t, rep) == 0 || rep.ReadBytes >= int64(len(r.data)) {
		t.Errorf("read %d, %s", rep.ReadBytes, rep.Resumed)
	}
	r.check()
	if twice, _ := r.shippedTwice(); twice > 4*smallPack {
		t.Errorf("%d bytes were shipped twice", twice)
	}
}

// badDevice is a device of size bytes that fails to read the given ranges.
func badDevice(t *testing.T, size int64, bad ...looptest.Range) string {
	t.Helper()
	return looptest.Attach(t, looptest.FailingFile(t, size, bad))
}

func pattern(size int64, lost ...looptest.Range) []byte {
	p := make([]byte, size)
	looptest.FillPattern(p, 0)
	for _, l := range lost {
		clear(p[l.Offset:][:l.Length])
	}
	return p
}

func TestUnreadableRanges(t *testing.T) {
	const size = 4 << 20
	bad := []looptest.Range{{Offset: 1<<20 + 8192, Length: 4096}, {Offset: 3 << 20, Length: 12288}}
	want := []chunkstore.VolumeRange{{Offset: bad[0].Offset, Length: bad[0].Length}, {Offset: bad[1].Offset, Length: bad[1].Length}}
	dev := badDevice(t, size, bad...)
	r := newRig(t, 1<<20) // for its repository only
	r.image, r.data = dev, pattern(size, bad...)

	_, err := r.backup(BackupOptions{})
	wantSentence(t, err, fmt.Sprintf("%d+%d", bad[0].Offset, bad[0].Length))
	if readError, ok := errors.AsType[*blockio.ReadError](err); !ok || len(r.check()) != 0 {
		t.Fatalf("%v, %+v", err, readError)
	}

	rep := r.mustBackup(BackupOptions{SkipUnreadable: true, Snapshot: "s"})
	p := r.latest()
	if diff := cmp.Diff(want, p.Lost); diff != "" || rep.Unreadable != 16384 {
		t.Errorf("%d unreadable bytes: %s", rep.Unreadable, diff)
	}

	// A killed run's unreadable ranges are in the point of the one that goes on.
	for kill := int64(6); kill < 26; kill += 6 {
		k := newRig(t, 1<<20)
		k.image, k.data = dev, r.data
		c := k.child()
		c.Skip, c.Snapshot, c.Kill = true, "s", kill
		if !c.start(t) {
			break
		}
		rep := k.mustBackup(BackupOptions{SkipUnreadable: true, Snapshot: "s"})
		if diff := cmp.Diff(want, k.latest().Lost); diff != "" || rep.Unreadable != 16384 {
			t.Errorf("killed at put %d, %s: %s", kill, rep.Resumed, diff)
		}
		if kill > 16 && resumedAt(t, rep) <= bad[0].Offset {
			t.Errorf("killed at put %d, but %q: this proves nothing", kill, rep.Resumed)
		}
	}

	// The medium was mended. A claim knows nothing of what the base lacks.
	mended := filepath.Join(t.TempDir(), "mended")
	r.image, r.data = mended, pattern(size)
	r.save()
	rep = r.mustBackup(BackupOptions{Changes: claimOf(t, nil), BaseSnapshot: "s"})
	if p := r.latest(); rep.Source != SourceGiven || len(p.Lost) != 0 || rep.ExitCode() != 0 {
		t.Errorf("mended: %+v, lost %v", rep, p.Lost)
	}
}

// Sectors that fail in the audit alone end a strict backup, and one that skips goes on.
func TestUnreadableRangeInTheAudit(t *testing.T) {
	const size = 1 << 20
	bad := looptest.Range{Offset: 512 << 10, Length: 4096}
	r := newRig(t, 1<<20)
	r.data = pattern(size)
	r.save()
	r.mustBackup(BackupOptions{})
	r.image = badDevice(t, size, bad)
	_, err := r.backup(BackupOptions{Changes: claimOf(t, nil), AuditShare: 1})
	wantSentence(t, err, "audit", "524288+4096")
	if rep := r.mustBackup(BackupOptions{Changes: claimOf(t, nil), AuditShare: 1, SkipUnreadable: true}); rep.ExitCode() != 0 || rep.Source != SourceGiven {
		t.Errorf("%+v", rep)
	}
	r.check()
}

// hookStore runs a function before each put.
type hookStore struct {
	objstore.Store
	put func(name string)
}

func (h *hookStore) Put(ctx context.Context, name string, body objstore.Body) error {
	h.put(name)
	return h.Store.Put(ctx, name, body)
}

func TestSourceChangesItsSize(t *testing.T) {
	for name, size := range map[string]int64{"shrinks": 100 << 10, "grows": 8 << 20, "vanishes": 0} {
		for _, full := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, full %t", name, full), func(t *testing.T) {
				r := newMemRig(t, 4<<20)
				r.mustBackup(BackupOptions{})
				r.write(0, 4<<20)
				r.save()
				var once sync.Once
				store := &hookStore{Store: r.store, put: func(name string) {
					if strings.HasPrefix(name, "packs/") {
						once.Do(func() {
							if err := os.Truncate(r.image, size); err != nil {
								t.Error(err)
							}
						})
					}
				}}
				_, err := r.through(store, BackupOptions{Full: full})
				wantSentence(t, err, "changed its size")
				if n := len(r.check()); n != 1 {
					t.Errorf("%d points", n)
				}
			})
		}
	}
}

func TestBadSources(t *testing.T) {
	r := newMemRig(t, 1<<20)
	for name, says := range map[string]string{filepath.Join(r.dir, "none"): "no such file", r.dir: "a directory", "/dev/null": "not a block device"} {
		r.image = name
		_, err := r.backup(BackupOptions{})
		wantSentence(t, err, says, name)
	}
}

func TestMemoryTooSmall(t *testing.T) {
	r := newMemRig(t, 1<<20)
	_, err := Backup(t.Context(), r.repo(), BackupOptions{Source: r.image, Volume: "v", Memory: 64 << 20})
	wantSentence(t, err, "64 MiB", "128 MiB")
	if !errors.Is(err, ErrMemory) {
		t.Error(err)
	}
}

// Two backups of one volume at once: on one machine the second one is told so;
// from two machines both succeed, and what either writes is a line of its own.
func TestTwoBackupsAtOnce(t *testing.T) {
	r, claim := changedRig(t)
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := &hookStore{Store: r.store, put: func(name string) {
		if strings.HasPrefix(name, "packs/") {
			once.Do(func() { close(held); <-release })
		}
	}}
	other := &rig{t: t, dir: t.TempDir(), store: r.store, image: r.image, data: r.data, want: map[string][]byte{}}
	var g errgroup.Group
	g.Go(func() error {
		_, err := r.through(slow, BackupOptions{Changes: claimOf(t, claim)})
		return err
	})
	<-held
	busy := &rig{t: t, dir: r.dir, store: r.store, image: r.image, data: r.data, want: map[string][]byte{}}
	if _, err := busy.backup(BackupOptions{}); !errors.Is(err, ErrBusy) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the second one on this machine: %v", err)
	}
	if _, err := other.backup(BackupOptions{Changes: claimOf(t, claim)}); err != nil {
		t.Errorf("from another machine: %v", err)
	}
	close(release)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	points := r.check()
	if len(points) != 3 {
		t.Fatalf("%d points", len(points))
	}
	a, b := points[1], points[2]
	if a.Base == nil || b.Base == nil || a.Base.ID != b.Base.ID || a.Line == b.Line || b.Descends(a) || a.Descends(b) {
		t.Errorf("two lines expected: %+v and %+v", a, b)
	}
}

// A cancelled backup ends with the context's error and can be resumed.
func TestCancelledBackup(t *testing.T) {
	r := newMemRig(t, 2<<20)
	ctx, cancel := context.WithCancel(t.Context())
	packs := 0
	store := &hookStore{Store: r.store, put: func(name string) {
		if strings.HasPrefix(name, "packs/") {
			if packs++; packs == 4 {
				cancel()
			}
		}
	}}
	repo := openTestRepo(t, store, filepath.Join(r.dir, "cache"))
	_, err := Backup(ctx, repo, BackupOptions{Source: r.image, Volume: "v", Memory: MinMemory, tune: func(p *plan) { smallPacks(p); p.session.Uploads = 1 }})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	rep := r.mustBackup(BackupOptions{})
	// How far the extents got before the cancellation is a matter of chance, but
	// packs were durable.
	if rep.Resumed == "" || rep.NewBytes >= rep.VolumeBytes {
		t.Errorf("nothing of it was used: %+v", rep)
	}
	r.check()
}
