// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary another process that adds segments:
// "directory first count step". It prints each name once it is added; at the
// given step (if not 0) it kills itself.
const childEnv = "TIDEMARK_INDEX_CHILD"

func namedLocations(name string) []Location {
	h := fnv.New64a()
	h.Write([]byte(name))
	return testLocations(h.Sum64(), 250)
}

func runChild(ctx context.Context, task string) error {
	var dir string
	var first, count, kill int
	if _, err := fmt.Sscan(task, &dir, &first, &count, &kill); err != nil {
		return fmt.Errorf("read task %q: %w", task, err)
	}
	c, err := OpenCache(dir, testKey)
	if err != nil {
		return err
	}
	defer c.Close()
	c.most = 2
	steps := 0
	c.step = func(string) {
		if steps++; steps == kill {
			// Nothing after this runs: the signal can't be caught.
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	for i := range count {
		name := fmt.Sprintf("index/%d", first+i)
		locs := namedLocations(name)
		b, err := EncodeSegment(slices.Clone(locs))
		if err != nil {
			return err
		}
		if err := c.Add(ctx, name, b); err != nil {
			return err
		}
		fmt.Println(name)
		for _, l := range locs {
			if got, err := c.LookupAll(l.ID); err != nil || !slices.Contains(got, l) {
				return fmt.Errorf("%s: chunk %s is lost: %w", name, l.ID, err)
			}
		}
	}
	return nil
}

// child runs another process and returns the names it reported.
func child(t *testing.T, dir string, first, count, kill int) ([]string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d %d", childEnv, dir, first, count, kill))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	var names []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		names = append(names, s.Text())
	}
	return names, err
}

// TestKillAtEveryStep kills a process that adds and merges at its first,
// second, … step until one run survives. What it reported must be there, what
// is there must be whole, and nothing must be left over.
func TestKillAtEveryStep(t *testing.T) {
	const count = 5
	kill := 1
	for ; ; kill++ {
		dir := fastDir(t)
		names, err := child(t, dir, 0, count, kill)
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "signal: killed") {
			t.Fatal(err)
		}
		checkSurvivor(t, dir, names, count)
	}
	if kill < 6*count {
		t.Errorf("only %d steps: nothing was merged", kill-1)
	}
}

func checkSurvivor(t *testing.T, dir string, reported []string, count int) {
	t.Helper()
	c := mustOpen(t, dir)
	defer c.Close()
	want := []Location{}
	for i := range count {
		name := fmt.Sprintf("index/%d", i)
		if c.Has(name) {
			want = append(want, namedLocations(name)...)
		} else if slices.Contains(reported, name) {
			t.Fatalf("%s was reported and is lost", name)
		}
	}
	got, err := all(t.Context(), c)
	if err != nil || !slices.Equal(got, sorted(want)) {
		t.Fatalf("%d entries, expected %d: %v", len(got), len(sorted(want)), err)
	}
	ids, err := c.readManifest()
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if n := f.Name(); strings.HasSuffix(n, ".tmp") || strings.HasSuffix(n, tableSuffix) &&
			!slices.ContainsFunc(ids, func(id tableID) bool { return id.String()+tableSuffix == n }) {
			t.Fatalf("%s is left over", n)
		}
	}
	if err := c.Add(t.Context(), "after", mustSegment(t, nil)); err != nil {
		t.Fatal(err)
	}
}

// TestProcessesShareADirectory lets processes add, partly the same, while
// this one opens and reads without end.
func TestProcessesShareADirectory(t *testing.T) {
	dir := fastDir(t)
	var running sync.WaitGroup
	for p := range 3 {
		running.Go(func() {
			if names, err := child(t, dir, 5*p, 10, 0); err != nil || len(names) != 10 {
				t.Errorf("process %d added %v: %v", p, names, err)
			}
		})
	}
	ctx, done := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			if err := readWhole(dir); err != nil {
				t.Errorf("read beside: %v", err)
				return
			}
		}
	})
	running.Wait()
	done()
	reading.Wait()
	want := []Location{}
	for i := range 20 {
		want = append(want, namedLocations(fmt.Sprintf("index/%d", i))...)
	}
	got, err := all(t.Context(), mustOpen(t, dir))
	if err != nil || !slices.Equal(got, sorted(want)) {
		t.Errorf("%d entries, expected %d: %v", len(got), len(sorted(want)), err)
	}
}

// readWhole opens the cache as it is and checks that every segment in it is
// there wholly.
func readWhole(dir string) error {
	c, err := OpenCache(dir, testKey)
	if err != nil {
		return err
	}
	defer c.Close()
	var names []string
	for i := range 20 {
		if name := fmt.Sprintf("index/%d", i); c.Has(name) {
			names = append(names, name)
		}
	}
	want := []Location{}
	for _, n := range names {
		want = append(want, namedLocations(n)...)
	}
	got, err := all(context.Background(), c)
	if err == nil && !slices.Equal(got, sorted(want)) {
		err = errors.New("segments are not whole")
	}
	return err
}
