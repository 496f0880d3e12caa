// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/blockdiff"
)

func TestPlanMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(MinMemory, 64<<30).Draw(t, "limit")
		maxChunk := rapid.IntRange(4<<10, 8<<20).Draw(t, "largest chunk")
		p, err := planMemory(limit, maxChunk)
		if err != nil {
			t.Fatal(err)
		}
		offHeap := int64(p.slabs)*int64(p.slabBytes) + int64(p.chunkBufs)*int64(maxChunk)
		packs := int64(p.session.PackBytes) * int64(p.session.Uploads+1)
		if offHeap+packs > limit*7/8 {
			t.Fatalf("buffers of %d and packs of %d for a limit of %d", offHeap, packs, limit)
		}
		if p.readers < 1 || p.readers > p.slabs-2 || p.workers < 1 || p.workers > p.chunkBufs-2 {
			t.Fatalf("%+v can come to a standstill", p) // the stitcher holds two chunk buffers
		}
	})
}

// memoryGroup is a memory cgroup, v1 or v2, with a limit.
type memoryGroup struct {
	dir string
	v2  bool
}

func newMemoryGroup(t *testing.T, limit int64) *memoryGroup {
	t.Helper()
	var reasons []string
	for _, g := range []memoryGroup{{dir: "/sys/fs/cgroup/memory"}, {dir: "/sys/fs/cgroup", v2: true}} {
		file := "memory.limit_in_bytes"
		if g.v2 {
			file = "memory.max"
		}
		g.dir = filepath.Join(g.dir, fmt.Sprintf("tidemark-test-%d-%d", os.Getpid(), limit))
		err := os.Mkdir(g.dir, 0o755)
		if err == nil {
			t.Cleanup(func() {
				if err := os.Remove(g.dir); err != nil {
					t.Errorf("remove cgroup: %v", err)
				}
			})
			err = os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(limit, 10)), 0o644)
		}
		if err == nil {
			return &g
		}
		reasons = append(reasons, err.Error())
	}
	t.Skipf("needs a memory cgroup that may be written: %s", strings.Join(reasons, "; "))
	return nil
}

// enter makes a command run inside.
func (g *memoryGroup) enter(cmd *exec.Cmd) {
	cmd.Args = append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs"), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
}

// kills is how often something inside was killed for want of memory.
func (g *memoryGroup) kills(t *testing.T) (n int) {
	t.Helper()
	file := "memory.oom_control"
	if g.v2 {
		file = "memory.events"
	}
	data, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
			found = true
			if n, err = strconv.Atoi(f[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !found {
		t.Fatalf("no oom_kill in %s: %s", file, data)
	}
	return n
}

// plainBinary is this test without the race detector, which takes several times
// the memory.
func plainBinary(t *testing.T) string {
	t.Helper()
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("needs the go command to build a child without the race detector: %v", err)
	}
	binary := filepath.Join(t.TempDir(), "child")
	if out, err := exec.CommandContext(t.Context(), gotool, "test", "-c", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// sparseImage makes a file of size bytes with data stretches of stretch bytes
// at equal distances, and returns where they are.
func sparseImage(t *testing.T, path string, size, stretch int64, count int) (data blockdiff.Ranges) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 64))
	buf := make([]byte, stretch)
	for i := range int64(count) {
		at := i * (size / int64(count))
		random(rnd, buf)
		if _, err := f.WriteAt(buf, at); err != nil {
			t.Fatal(err)
		}
		data = append(data, blockdiff.Range{Offset: at, Length: stretch})
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

// The whole process stays inside a cgroup of its limit and 32 MiB more, with
// few and with many cores, whatever way it backs up.
func TestMemoryStaysUnderTheLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("moves gigabytes")
	}
	const limit = MinMemory
	group := newMemoryGroup(t, limit+32<<20)
	binary := plainBinary(t)
	r := newRig(t, 1<<20)
	const size = 64 << 30
	for procs, stretch := range map[int]int64{2: 4 << 20, 16: 16 << 20} { // many cores are the harder case: 1 GiB of data
		data := sparseImage(t, r.image, size, stretch, 64)
		claim := manyRanges(data, size, 200_000)
		if len(claim) < 120_000 {
			t.Fatalf("only %d ranges", len(claim))
		}
		clone := r.clone()
		base := backupChild{Store: filepath.Join(clone.dir, "repo"), Cache: filepath.Join(clone.dir, "cache"), Source: r.image, Memory: limit, Report: filepath.Join(clone.dir, "report")}
		given := base
		given.Claim = r.claimFile(claim)
		for i, c := range []backupChild{base, given, base} { // the first is full
			name := [...]string{SourceSparse, SourceGiven, SourceFingerprint}[i]
			cmd := c.command(t)
			cmd.Path = binary
			cmd.Args[0] = binary
			cmd.Env = append(cmd.Env, fmt.Sprintf("GOMAXPROCS=%d", procs))
			group.enter(cmd)
			out, err := cmd.CombinedOutput()
			if err != nil || group.kills(t) > 0 {
				t.Fatalf("%s on %d cores: %v, killed for memory %d times\n%s", name, procs, err, group.kills(t), out)
			}
			rep := readReport(t, c.Report)
			t.Logf("%s on %d cores: %.1f s, %.1f s of CPU, peak %d MiB, read %d MiB, shipped %d MiB, fetched %d KiB", name, procs, rep.Seconds, rep.CPUSeconds, rep.PeakMemoryBytes>>20, rep.ReadBytes>>20, rep.ShippedBytes>>20, rep.FetchedBytes>>10)
			if rep.Source != name {
				t.Errorf("source %q, want %q", rep.Source, name)
			}
		}
	}
}

// manyRanges gives single pages, half of them in the data.
func manyRanges(data blockdiff.Ranges, size int64, count int) blockdiff.Ranges {
	var rs blockdiff.Ranges
	step := data.Total() / int64(count/2) / pageSize * pageSize
	for _, d := range data {
		for at := d.Offset; at < d.End(); at += max(step, 2*pageSize) {
			rs = append(rs, blockdiff.Range{Offset: at, Length: 4000})
		}
	}
	rest := int64(count - len(rs))
	for at := int64(pageSize); at < size; at += size / rest {
		rs = append(rs, blockdiff.Range{Offset: at / pageSize * pageSize, Length: 100})
	}
	return blockdiff.Normalize(rs)
}

func readReport(t *testing.T, path string) *Report {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rep Report
	if err := json.Unmarshal(data, &rep); err != nil {
		t.Fatal(err)
	}
	return &rep
}
