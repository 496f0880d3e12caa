// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/folder"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// restoreChildEnv makes the test binary another process that restores and kills
// itself at a given step.
const restoreChildEnv = "TIDEMARK_RESTORE_CHILD"

type restoreChild struct {
	Store, Cache, Point, Target string
	Kill                        int64 // the step at which it dies; 0: never
}

func smallSteps(p *restorePlan) {
	p.batchCost, p.syncBytes, p.jobBytes = 64<<10, 512<<10, 256<<10
}

func (c restoreChild) run(ctx context.Context) error {
	store, err := folder.Open(ctx, c.Store)
	if err != nil {
		return err
	}
	defer store.Close()
	repo, err := chunkstore.Open(ctx, store, testPassphrase, chunkstore.OpenOptions{CacheDir: c.Cache})
	if err != nil {
		return err
	}
	p, err := repo.Resolve(ctx, c.Point)
	if err != nil {
		return err
	}
	var steps atomic.Int64
	step := func() {
		if steps.Add(1) == c.Kill {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL) // nothing after this runs: it can't be caught
			select {}
		}
	}
	_, err = Restore(ctx, repo, p, RestoreOptions{Target: c.Target, Memory: MinMemory, tune: smallSteps, step: step, sync: func(bool) { step() }})
	return errors.Join(err, repo.Close())
}

func TestRestoreChildProcess(t *testing.T) {
	task := os.Getenv(restoreChildEnv)
	if task == "" {
		t.Skip("is the child of TestKilledRestoreResumes")
	}
	var c restoreChild
	if err := json.Unmarshal([]byte(task), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// start runs the child and tells whether it was killed.
func (c restoreChild) start(t *testing.T) (killed bool) {
	t.Helper()
	task, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRestoreChildProcess$", "-test.v")
	cmd.Env = append(os.Environ(), restoreChildEnv+"="+string(task))
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return false
}

// folderLab is a lab whose repository another process can open.
func folderLab(t *testing.T, size int) (*lab, string) {
	t.Helper()
	dir := t.TempDir()
	store, err := folder.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return newLab(t, store, size), dir
}

// recordedRanges is what the only journal of a cache names.
func recordedRanges(t *testing.T, cache string) blockdiff.Ranges {
	t.Helper()
	journals, err := filepath.Glob(filepath.Join(cache, "*", "journals", "restore-*"))
	if err != nil || len(journals) != 1 {
		t.Fatalf("journals: %v, %v", journals, err)
	}
	f, err := os.Open(journals[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	done := roughRanges{limit: maxOldWritten}
	err = (&journal{f: f}).replay(func(kind byte, payload []byte) error {
		if kind == recordWritten {
			return decodeWritten(payload, done.add)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return done.take()
}

// spoil overwrites ranges of a target with what belongs nowhere.
func spoil(t *testing.T, target string, ranges blockdiff.Ranges) {
	t.Helper()
	out, err := os.OpenFile(target, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for _, r := range ranges {
		if _, err := out.WriteAt(bytes.Repeat([]byte{0xdd}, int(r.Length)), r.Offset); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKilledRestoreResumes(t *testing.T) {
	l, store := folderLab(t, 24<<20)
	p := l.history(3)
	rnd := rand.New(rand.NewPCG(1, 99))
	var resumed bool
	for round := range 4 {
		cache := t.TempDir()
		c := restoreChild{Store: store, Cache: cache, Point: p.ID, Target: filepath.Join(t.TempDir(), "target")}
		if round%2 == 1 { // an existing file, whose holes must be punched
			c.Target = garbage(t, 24<<20)
		}
		kills := 0
		for ; kills < 2; kills++ {
			c.Kill = 1 + int64(kills)*100 + rnd.Int64N(150) // the second one after some syncs
			if !c.start(t) {
				break
			}
		}
		if kills == 0 {
			continue
		}
		repo := openTestRepo(t, l.store, cache)
		rep, err := Restore(t.Context(), repo, p, RestoreOptions{Target: c.Target, Memory: MinMemory, tune: smallSteps})
		if err != nil {
			t.Fatalf("round %d, %+v: %v", round, c, err)
		}
		l.same(c.Target)
		resumed = resumed || rep.Resumed != ""
		if left, _ := filepath.Glob(filepath.Join(cache, "*", "journals", "restore-*")); len(left) != 0 {
			t.Errorf("journals are left: %v", left)
		}
	}
	if !resumed {
		t.Error("no round was killed late enough to resume")
	}
}

// TestKilledRestoreProvesWhatItSkips kills a restore and spoils either whatever
// its journal does not name, as the loss of power might, or parts of what it
// does name, as a mount might. Only what is intact may be skipped, and is.
func TestKilledRestoreProvesWhatItSkips(t *testing.T) {
	const size = 24 << 20
	l, store := folderLab(t, size)
	l.noise(0, 20<<20)
	p := l.backup()
	full := l.restore(p, RestoreOptions{Target: filepath.Join(t.TempDir(), "full")})
	for _, kill := range []int64{1, 120, 200} {
		for _, named := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/named=%t", kill, named), func(t *testing.T) {
				cache := t.TempDir()
				c := restoreChild{Store: store, Cache: cache, Point: p.ID, Target: filepath.Join(t.TempDir(), "target"), Kill: kill}
				if !c.start(t) {
					t.Fatal("was done before")
				}
				done := recordedRanges(t, cache)
				bad := done.Complement(size)
				if named {
					bad = done.Intersect(blockdiff.Ranges{{Offset: 100_000, Length: 8192}, {Offset: 3 << 20, Length: 1}})
				}
				spoil(t, c.Target, bad)
				rep, err := Restore(t.Context(), openTestRepo(t, l.store, cache), p, RestoreOptions{Target: c.Target, Memory: MinMemory, tune: smallSteps})
				if err != nil {
					t.Fatal(err)
				}
				l.same(c.Target)
				if (rep.Resumed != "") != (len(done) > 0) {
					t.Errorf("%d bytes were recorded, and it says %q", done.Total(), rep.Resumed)
				}
				// Compared are whole pieces; a hole of the file needs no read.
				if got, most := rep.ComparedBytes, done.AlignOut(oldAlign, size).Total(); got > most || len(done) > 0 && got == 0 {
					t.Errorf("%d bytes were compared, %d recorded", got, most)
				}
				if wrote, most := rep.WrittenBytes, full.WrittenBytes-done.Clip(20<<20).Total()+2*(64<<10); named && wrote > most || !named && wrote > most+int64(len(done))*2*oldAlign {
					t.Errorf("%d bytes were written, at most %d were to be", wrote, most)
				}
				if len(done) > 0 && rep.Chunks >= full.Chunks {
					t.Errorf("%d of %d chunks were fetched again", rep.Chunks, full.Chunks)
				}
			})
		}
	}
}

// TestAnotherRestoreForgetsTheJournal interrupts a restore, writes to its target
// in another way and restores again.
func TestAnotherRestoreForgetsTheJournal(t *testing.T) {
	const size = 8 << 20
	l := newLab(t, mem.New(), size)
	l.noise(0, size)
	a, first := l.backup(), bytes.Clone(l.data)
	l.noise(0, size)
	b := l.backup()
	other := openTestRepo(t, l.store, t.TempDir()) // with its own cache, as another machine has
	ways := map[string]func(t *testing.T, target string) error{
		"another point": func(_ *testing.T, target string) error {
			l.restore(b, RestoreOptions{Target: target})
			return nil
		},
		"delta and a mount": func(t *testing.T, target string) error {
			l.restore(a, RestoreOptions{Target: target, Delta: true})
			spoil(t, target, blockdiff.Ranges{{Offset: 0, Length: 6 << 20}})
			return nil
		},
		"another cache": func(_ *testing.T, target string) error {
			_, err := Restore(context.Background(), other, b, RestoreOptions{Target: target, Memory: MinMemory})
			return err
		},
	}
	for name, write := range ways {
		t.Run(name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "target")
			interrupt(t, l.repo, a, target)
			if err := write(t, target); err != nil {
				t.Fatal(err)
			}
			rep := l.restore(a, RestoreOptions{Target: target, tune: smallSteps})
			got, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			sameBytes(t, got, first)
			if stale := name == "another cache"; (rep.Resumed != "") != stale {
				t.Errorf("it says %q", rep.Resumed)
			}
		})
	}
	t.Run("before the first write", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "target")
		for _, opt := range []RestoreOptions{{}, {Delta: true}} {
			interrupt(t, l.repo, a, target)
			if len(recordedRanges(t, filepath.Dir(l.repo.Dir()))) == 0 {
				t.Fatal("nothing was recorded")
			}
			opt.Target, opt.Memory = target, MinMemory
			opt.tune = func(p *restorePlan) { p.plainBytes = 1 << 62 } // no memory for it: it ends before it writes
			if _, err := Restore(t.Context(), l.repo, b, opt); err == nil {
				t.Fatal("was not ended")
			}
			if _, err := os.Stat(target); err != nil {
				t.Fatal(err)
			}
			if left, _ := filepath.Glob(filepath.Join(l.repo.Dir(), "journals", "restore-*")); len(left) > 0 && len(recordedRanges(t, filepath.Dir(l.repo.Dir()))) > 0 {
				t.Errorf("%+v: the other point's journal is left", opt)
			}
		}
	})
}

// interrupt ends a restore after its first sync.
func interrupt(t *testing.T, repo *chunkstore.Repository, p *chunkstore.Point, target string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var n atomic.Int64
	_, err := Restore(ctx, repo, p, RestoreOptions{Target: target, Memory: MinMemory, tune: smallSteps, step: func() {
		if n.Add(1) >= 40 { // of about 80; what there is to sync by now is due
			<-ctx.Done()
		}
	}, sync: func(done bool) {
		if done {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("an interrupted restore: %v", err)
	}
}

// TestJournalOfAnotherTargetIsNotBelieved puts something else in the place of
// the target of a killed restore.
func TestJournalOfAnotherTargetIsNotBelieved(t *testing.T) {
	l, store := folderLab(t, 16<<20)
	l.noise(0, 14<<20)
	p := l.backup()
	replace := map[string]func(path string) error{
		"recreated": func(path string) error { // may well get the same inode
			return errors.Join(os.Remove(path), os.WriteFile(path, make([]byte, 16<<20), 0o600))
		},
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 1<<20) },
		"removed": os.Remove,
	}
	for name, fn := range replace {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			c := restoreChild{Store: store, Cache: cache, Point: p.ID, Target: filepath.Join(t.TempDir(), "target"), Kill: 100}
			if !c.start(t) {
				t.Fatal("was not killed")
			}
			if err := fn(c.Target); err != nil {
				t.Fatal(err)
			}
			rep, err := Restore(t.Context(), openTestRepo(t, l.store, cache), p, RestoreOptions{Target: c.Target, Memory: MinMemory, tune: smallSteps})
			if err != nil {
				t.Fatal(err)
			}
			l.same(c.Target)
			if rep.Resumed != "" {
				t.Errorf("it says %q", rep.Resumed)
			}
		})
	}
}

func TestTwoRestoresToOneTarget(t *testing.T) {
	l := newLab(t, mem.New(), 4<<20)
	p := l.history(0)
	target := filepath.Join(t.TempDir(), "target")
	var second error
	var tried atomic.Bool
	l.restore(p, RestoreOptions{Target: target, step: func() {
		if tried.CompareAndSwap(false, true) {
			_, second = Restore(t.Context(), l.repo, p, RestoreOptions{Target: target, Memory: MinMemory, Force: true})
		}
	}})
	if !errors.Is(second, ErrRestoreBusy) {
		t.Errorf("a second restore to the same target, forced: %v", second)
	}
	l.same(target)
}
