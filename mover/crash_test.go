// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/open"
)

// childEnv makes the test binary a process that runs one backupChild.
const childEnv = "TIDEMARK_BACKUP_CHILD"

// backupChild is a backup in a process of its own.
type backupChild struct {
	Store, Cache, Source string
	Claim                string // path of a change list; "": none
	Snapshot             string
	Full                 bool
	Skip                 bool // what is unreadable
	Small                bool // slabs and packs
	Slab                 int  // bytes of a slab, where Small is set; 0: as smallPacks has it
	Memory               int64
	Audit                float64
	Report               string // where to write the report; "": nowhere

	Kill  int64 // the put at which it dies, counted from 1; 0: never
	After bool  // it dies once that put is made, not before
	// KillName is how the name ends of the object whose creation is its last deed; "": none.
	KillName string
	Tell     bool // a dot on standard output before each put
}

// smallPacks make a volume of a few MiB have many of everything.
func smallPacks(p *plan) {
	p.slabBytes, p.slabs, p.readers = 256<<10, 6, 2
	p.session.PackBytes = smallPack
}

// slabsOf is smallPacks with slabs of another size: what is not longer than a
// slab is never cut by content in an incremental.
func slabsOf(size int) func(*plan) {
	return func(p *plan) {
		smallPacks(p)
		if size > 0 {
			p.slabBytes = size
		}
	}
}

const smallPack = patchBytes // the largest chunk of these repositories, too

// childMain is main of the child.
func childMain(spec string) int {
	var c backupChild
	err := json.Unmarshal([]byte(spec), &c)
	if err == nil {
		err = c.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (c *backupChild) run(ctx context.Context) (err error) {
	restore := LimitHeap(c.Memory)
	defer restore()
	inner, err := open.Open(ctx, c.Store)
	if err != nil {
		return err
	}
	defer inner.Close()
	store := &dyingStore{Store: inner, child: c}
	repo, err := chunkstore.Open(ctx, store, testPassphrase, chunkstore.OpenOptions{CacheDir: c.Cache, NodeBytes: NodeBytes(c.Memory)})
	if err != nil {
		return err
	}
	opt := BackupOptions{Source: c.Source, Volume: "v", Memory: c.Memory, Snapshot: c.Snapshot, Full: c.Full, AuditShare: c.Audit, SkipUnreadable: c.Skip, Seed: 1}
	if c.Small {
		opt.tune = slabsOf(c.Slab)
	}
	if c.Claim != "" {
		f, err := os.Open(c.Claim)
		if err != nil {
			return err
		}
		defer f.Close()
		opt.Changes = f
	}
	rep, err := Backup(ctx, repo, opt)
	if err = errors.Join(err, repo.Close()); err != nil || c.Report == "" {
		return err
	}
	data, err := json.Marshal(rep)
	if err != nil {
		return err
	}
	return os.WriteFile(c.Report, data, 0o600)
}

// dyingStore ends the process at a put as nothing can catch.
type dyingStore struct {
	objstore.Store
	child *backupChild
	puts  atomic.Int64
}

func (s *dyingStore) Put(ctx context.Context, name string, body objstore.Body) error {
	n := s.puts.Add(1)
	if s.child.Tell {
		if _, err := os.Stdout.WriteString(".\n"); err != nil {
			return err
		}
	}
	if n == s.child.Kill && !s.child.After {
		die()
	}
	err := s.Store.Put(ctx, name, body)
	if n == s.child.Kill || s.child.KillName != "" && strings.HasSuffix(name, s.child.KillName) {
		die()
	}
	return err
}

func die() {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

func (c *backupChild) command(t *testing.T) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	return cmd
}

// start runs the child to its end and tells whether it was killed.
func (c *backupChild) start(t *testing.T) (killed bool) {
	t.Helper()
	out, err := c.command(t).CombinedOutput()
	return wasKilled(t, err, out)
}

func wasKilled(t *testing.T, err error, out []byte) bool {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status, ok := exit.Sys().(syscall.WaitStatus)
		if ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return false
}

// killAt kills the child some time after it told of so many puts.
func (c *backupChild) killAt(t *testing.T, puts int) (killed bool) {
	t.Helper()
	cmd := c.command(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := bufio.NewScanner(stdout)
	for range puts {
		if !told.Scan() {
			break
		}
	}
	_ = cmd.Process.Kill() // it may be over
	if _, err := io.Copy(io.Discard, stdout); err != nil {
		t.Fatal(err)
	}
	return wasKilled(t, cmd.Wait(), stderr.Bytes())
}

// way is one kind of backup to kill: a template in which all is ready for it.
type way struct {
	name  string
	from  *rig
	claim blockdiff.Ranges // nil unless the backup is by claim
	full  bool
	slab  int
}

// ways prepares a full, a claimed and a fingerprinted backup of one volume.
func ways(t *testing.T, size int) []way {
	first := newRig(t, size)
	again := newRig(t, size)
	again.mustBackup(BackupOptions{})
	var changed blockdiff.Ranges
	for i := range 60 {
		at := i * size / 64 / pageSize * pageSize
		changed = changed.Union(blockdiff.Ranges{again.write(at, size/128/pageSize*pageSize)})
	}
	again.save()
	return []way{
		{name: "full", from: first, full: true},
		{name: "claim", from: again, claim: changed},
		{name: "compare", from: again},
	}
}

func (w *way) options() BackupOptions {
	opt := BackupOptions{Full: w.full, Seed: 2, tune: slabsOf(w.slab)}
	if w.claim != nil {
		opt.Changes = claimOf(w.from.t, w.claim)
	}
	return opt
}

func (w *way) child(r *rig) *backupChild {
	c := r.child()
	c.Full, c.Slab = w.full, w.slab
	if w.claim != nil {
		c.Claim = r.claimFile(w.claim)
	}
	return c
}

// work is what the backup reads of the volume below an offset.
func (w *way) work(below int64) int64 {
	if w.claim != nil {
		return w.claim.AlignOut(pageSize, int64(len(w.from.data))).Clip(below).Total()
	}
	return below
}

// resumedAt is the offset at which a resumed backup says it went on; 0 for
// none.
func resumedAt(t *testing.T, rep *Report) int64 {
	t.Helper()
	var at, size int64
	if _, err := fmt.Sscanf(rep.Resumed, "continued at offset %d of %d", &at, &size); err != nil {
		return 0
	}
	return at
}

// shippedTwice is how many plaintext bytes of data chunks lie in more than one pack.
func (r *rig) shippedTwice() (twice, once int64) {
	r.t.Helper()
	repo := openTestRepo(r.t, r.store, r.t.TempDir())
	defer func() { _ = repo.Close() }()
	seen := map[chunkstore.ChunkID]bool{}
	err := r.store.List(r.t.Context(), "packs/", func(i objstore.Info) error {
		for _, c := range readTOC(r.t, repo, i) {
			if seen[c.ID] {
				twice += int64(c.Plain)
			} else {
				once += int64(c.Plain)
			}
			seen[c.ID] = true
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return twice, once
}

// longWays prepare incrementals of a volume that changed as a whole, so that all
// of it is cut by content and resumed inside pages.
func longWays(t *testing.T) []way {
	r := newRig(t, 6<<20)
	r.mustBackup(BackupOptions{})
	changed := blockdiff.Ranges{r.write(0, len(r.data))}
	r.save()
	const slab = 5 * longRun / 4
	return []way{{name: "long claim", from: r, claim: changed, slab: slab}, {name: "long compare", from: r, slab: slab}}
}

// Kill a backup before or after every put it makes, and run it again: it goes
// on where it was, ships nothing twice but what was in flight, and the point is
// the volume.
func TestKilledBackupGoesOn(t *testing.T) {
	for _, w := range append(ways(t, 2<<20), longWays(t)...) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			clean := w.from.clone()
			clean.t = t
			cleanRep := clean.mustBackup(w.options())
			clean.check()
			resumed, kills := 0, 0
			for n := int64(1); ; n += max(1, int64(w.slab/(400<<10))) {
				r := w.from.clone()
				r.t = t
				c := w.child(r)
				c.Kill, c.After = n, n%2 == 0
				if !c.start(t) {
					break
				}
				kills++
				rep := r.mustBackup(w.options())
				at := resumedAt(t, rep)
				if at > 0 {
					resumed++
				}
				w.checkResumed(t, r, rep, cleanRep, fmt.Sprintf("put %d, after %t", n, c.After))
			}
			if kills < 5 || resumed < kills/3 {
				t.Errorf("of %d kills %d were resumed: this proves little", kills, resumed)
			}
		})
	}
}

func (w *way) checkResumed(t *testing.T, r *rig, rep, clean *Report, when string) {
	t.Helper()
	at := resumedAt(t, rep)
	points := r.check()
	committed := len(points) - len(w.from.want) - 1 // the killed run got that far
	if committed == 0 && rep.ReadBytes+w.work(at) != clean.ReadBytes {
		t.Errorf("%s: resumed at %d: read %d and found %d done, a whole run reads %d", when, at, rep.ReadBytes, w.work(at), clean.ReadBytes)
	}
	if committed == 0 && !strings.Contains(w.name, "compare") && rep.ChangedBytes != clean.ChangedBytes {
		t.Errorf("%s: changed %d, a whole run says %d", when, rep.ChangedBytes, clean.ChangedBytes)
	}
	if rep.ReadBytes > clean.ReadBytes {
		t.Errorf("%s: read %d of %d", when, rep.ReadBytes, clean.ReadBytes)
	}
	// Two uploads may have been done of which the journal heard nothing.
	if twice, _ := r.shippedTwice(); twice > 2*smallPack+int64(committed)*clean.NewBytes {
		t.Errorf("%s: %d bytes were shipped twice", when, twice)
	}
}

// Kill it at moments that nobody chose.
func TestBackupKilledAnywhere(t *testing.T) {
	for _, w := range ways(t, 3<<20) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			clean := w.from.clone()
			clean.t = t
			cleanRep := clean.mustBackup(w.options())
			for i := range 6 {
				r := w.from.clone()
				r.t = t
				c := w.child(r)
				c.Tell = true
				puts := 1 + r.rnd.IntN(14)
				if killed := c.killAt(t, puts); killed {
					// Once more, so that a resumed run is killed too.
					c.killAt(t, 1+r.rnd.IntN(6))
				}
				rep := r.mustBackup(w.options())
				points := r.check()
				if len(points) == len(w.from.want)+1 && rep.ReadBytes > cleanRep.ReadBytes {
					t.Errorf("run %d: read %d of %d", i, rep.ReadBytes, cleanRep.ReadBytes)
				}
			}
		})
	}
}
