// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// fakeGauge is a run that a test moves on.
type fakeGauge struct {
	mu             sync.Mutex
	phase          string
	total, in, out int64
}

func (g *fakeGauge) set(phase string, total, in, out int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.phase, g.total, g.in, g.out = phase, total, in, out
}

func (g *fakeGauge) Phase() string { g.mu.Lock(); defer g.mu.Unlock(); return g.phase }
func (g *fakeGauge) Total() int64  { g.mu.Lock(); defer g.mu.Unlock(); return g.total }
func (g *fakeGauge) In() int64     { g.mu.Lock(); defer g.mu.Unlock(); return g.in }
func (g *fakeGauge) Out() int64    { g.mu.Lock(); defer g.mu.Unlock(); return g.out }

// show runs a display over what move does and returns what was written.
func show(t *testing.T, terminal bool, move func(g *fakeGauge)) string {
	t.Helper()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	f, err := os.Create(t.TempDir() + "/stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	synctest.Test(t, func(*testing.T) {
		g := new(fakeGauge)
		p := &progress{gauge: g, console: &console{file: f, terminal: terminal}}
		stop := p.start()
		move(g)
		stop()
	})
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// wait lets the bubble's time pass.
func wait(d time.Duration) { <-time.NewTimer(d).C }

const mib = 1 << 20

func TestPlainProgress(t *testing.T) {
	got := show(t, false, func(g *fakeGauge) {
		wait(time.Second) // no phase yet: nothing to say
		for s := range int64(101) {
			g.set("reading", 100*mib, s*mib, s*mib/2)
			wait(time.Second)
		}
		g.set("committing", 0, 0, 50*mib)
	})
	want := []string{
		"reading 0 %, 0 B of 100 MiB",
		"reading 10 %, 10 MiB of 100 MiB, in 1 MiB/s, out 512 KiB/s, ETA 90 s",
		"reading 20 %, 20 MiB of 100 MiB, in 1 MiB/s, out 512 KiB/s, ETA 80 s",
	}
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	for i, l := range lines { // the window's edge rounds rates
		lines[i] = strings.NewReplacer("1.0 MiB/s", "1 MiB/s").Replace(l)
	}
	if len(lines) != 12 {
		t.Fatalf("%d lines:\n%s", len(lines), got)
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], w[:strings.IndexByte(w, ',')]) {
			t.Errorf("line %d is %q, want %q", i, lines[i], w)
		}
	}
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "committing") {
		t.Errorf("the last line is %q", last)
	}
}

func TestPlainProgressOfASlowRun(t *testing.T) {
	got := show(t, false, func(g *fakeGauge) {
		g.set("reading", 1000*mib, 1*mib, 0)
		wait(95 * time.Second)
	})
	if n := strings.Count(got, "\n"); n != 4 { // at the start, after 30, 60 and 90 s; the end has nothing new
		t.Errorf("%d lines:\n%s", n, got)
	}
}

func TestTerminalProgress(t *testing.T) {
	got := show(t, true, func(g *fakeGauge) {
		g.set("reading", 4*mib, 0, 0)
		wait(drawEvery + drawEvery/2)
		g.set("reading", 4*mib, mib, mib/2)
		wait(drawEvery)
	})
	want := strings.Join([]string{
		"", "reading 0 %, 0 B of 4 MiB",
		"reading 25 %, 1 MiB of 4 MiB, in 4 MiB/s, out 2 MiB/s, ETA 0.8 s",
		"",
	}, clearLine)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A note stands above the drawn line, which stays.
func TestNoteAboveProgress(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := &console{file: f, terminal: true}
	c.draw("working")
	c.note("by the way")
	c.fail(failure{Message: "no", Hint: "try"})
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := clearLine + "working" + clearLine + "by the way\nworking" + clearLine + "tidemark: no\nhint: try\n"
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Error(diff)
	}
}

func TestProgressIsQuiet(t *testing.T) {
	for _, a := range []*app{{quiet: true}, {noProgress: true}} {
		showProgress(a, new(fakeGauge))() // a display would need the console that is not there
	}
}
