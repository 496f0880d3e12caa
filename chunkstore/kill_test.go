// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/folder"
)

// The child finds its orders in the environment: the folder, the number of the
// put at which it dies, and whether before, during or after it.
const (
	killEnv  = "TIDEMARK_TEST_KILL"
	killAt   = "TIDEMARK_TEST_KILL_AT"
	killWhen = "TIDEMARK_TEST_KILL_WHEN"
)

var (
	killOld  = noise(1, 4*testChunk)
	killData = edited(killOld, 7, 0, 3, 6, 12)
)

// killer ends this process, as a power button does, at one of its puts.
type killer struct {
	objstore.Store
	left atomic.Int64
	when string
}

func (k *killer) Put(ctx context.Context, name string, body objstore.Body) error {
	if k.left.Add(-1) != 0 {
		return k.Store.Put(ctx, name, body)
	}
	switch k.when {
	case "before":
		die()
	case "during":
		go die()
	}
	_ = k.Store.Put(ctx, name, body) // nobody hears of it
	die()
	return nil
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

func writeUntilKilled(ctx context.Context, dir string) error {
	n, err := strconv.ParseInt(os.Getenv(killAt), 10, 64)
	if err != nil {
		return err
	}
	store, err := folder.Open(ctx, dir)
	if err != nil {
		return err
	}
	k := &killer{Store: store, when: os.Getenv(killWhen)}
	k.left.Store(n)
	r, err := tryOpen(ctx, k, os.Getenv(killEnv)+"-cache")
	if err != nil {
		return err
	}
	base, err := r.Latest(ctx, "v")
	if err != nil {
		return err
	}
	_, err = backup{repo: r, volume: "v", base: base, old: killOld, data: killData, uploads: 1}.run(ctx)
	return err
}

// A writer is killed at each of its puts. The repository opens, holds what was
// committed and nothing half, and goes on, with the cache that was left, too.
func TestKillAtEveryPut(t *testing.T) {
	for _, when := range []string{"before", "during", "after"} {
		t.Run(when, func(t *testing.T) {
			for n := 1; ; n++ {
				dir := filepath.Join(t.TempDir(), "repository")
				base := killRepository(t, dir)
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), killEnv+"="+dir, killAt+"="+strconv.Itoa(n), killWhen+"="+when)
				out, err := cmd.CombinedOutput()
				if err == nil {
					if n < 6 {
						t.Fatalf("only %d puts", n)
					}
					checkKilled(t, dir, base, true)
					return
				}
				status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
				if !ok || status.Signal() != syscall.SIGKILL {
					t.Fatalf("put %d: %v\n%s", n, err, out)
				}
				checkKilled(t, dir, base, false)
			}
		})
	}
}

func killRepository(t *testing.T, dir string) *Point {
	t.Helper()
	store, err := folder.Create(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	initRepo(t, store)
	r, err := tryOpen(t.Context(), store, dir+"-cache")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return backup{repo: r, volume: "v", data: killOld}.must(t)
}

func checkKilled(t *testing.T, dir string, base *Point, committed bool) {
	t.Helper()
	store, err := folder.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := openRepo(t, store, dir+"-cache")
	want := history{base.ID: killOld}
	for _, m := range r.Metas("v") {
		if m.ID != base.ID {
			want[m.ID] = killData
		}
	}
	if len(want) > 2 || committed && len(want) != 2 {
		t.Fatal(fmt.Errorf("%d points", len(want)))
	}
	want.checkIn(t, r)
	next := edited(killData, 9, 1)
	p := backup{repo: r, volume: "v", base: base, old: killOld, data: next}.must(t)
	want[p.ID] = next
	want.check(t, store)
	must(t, r.Close())
}
