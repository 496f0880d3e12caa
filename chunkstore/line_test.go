// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// lineage drives sessions over one volume in any order against the graph of
// what was really built on what.
type lineage struct {
	t      *rapid.T
	tb     testing.TB
	repo   *Repository
	points []*Point
	parent map[string]string // by id
	held   map[string][]byte
	open   []*writing
	onward map[string]int // how many committed points went on in the line of each
}

type writing struct {
	session *Session
	base    *Point
	data    []byte
}

func TestLines(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := mem.New()
		initRepo(t, s)
		r, err := tryOpen(t.Context(), s, "")
		if err != nil {
			rt.Fatal(err)
		}
		defer r.Close()
		l := &lineage{t: rt, tb: t, repo: r, parent: map[string]string{}, held: map[string][]byte{}, onward: map[string]int{}}
		for range rapid.IntRange(3, 25).Draw(rt, "steps") {
			l.step()
		}
		for len(l.open) > 0 {
			l.finish("commit")
		}
		l.check()
	})
}

func (l *lineage) step() {
	switch op := rapid.SampledFrom([]string{"begin", "begin", "commit", "commit", "abandon", "fence", "crash"}).Draw(l.t, "op"); op {
	case "begin":
		l.begin()
	default:
		if len(l.open) > 0 {
			l.finish(op)
		}
	}
}

func (l *lineage) begin() {
	w := &writing{}
	if i := rapid.IntRange(0, len(l.points)).Draw(l.t, "base"); i < len(l.points) {
		w.base = l.points[i]
		w.data = edited(l.held[w.base.ID], rapid.Uint64().Draw(l.t, "seed"), rapid.IntRange(0, 3).Draw(l.t, "page"))
	} else {
		w.data = noise(rapid.Uint64().Draw(l.t, "seed"), testChunk)
	}
	var err error
	w.session, err = l.repo.Begin(l.tb.Context(), SessionOptions{Volume: "v", Base: w.base, Budget: Budget{PackBytes: 1 << 20}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.open = append(l.open, w)
}

func (l *lineage) finish(how string) {
	i := rapid.IntRange(0, len(l.open)-1).Draw(l.t, "session")
	w := l.open[i]
	l.open = append(l.open[:i:i], l.open[i+1:]...)
	ctx := l.tb.Context()
	defer w.session.Close()
	b := backup{repo: l.repo, volume: "v", base: w.base, data: w.data}
	if w.base != nil {
		b.old = l.held[w.base.ID]
	}
	p, err := b.store(ctx, w.session)
	if err != nil {
		l.t.Fatal(err)
	}
	switch how {
	case "commit":
		if err := w.session.Commit(ctx, p); err != nil {
			l.t.Fatal(err)
		}
		l.points = append(l.points, p)
		l.held[p.ID] = w.data
		if w.base != nil {
			l.parent[p.ID] = w.base.ID
			if p.Line == w.base.Line {
				l.onward[w.base.ID]++
			}
		}
	case "abandon":
		if err := w.session.Abandon(ctx); err != nil {
			l.t.Fatal(err)
		}
	case "fence":
		fence(l.tb, l.repo, w.session.Number())
		if err := w.session.Commit(ctx, p); !errors.Is(err, ErrFenced) {
			l.t.Fatalf("%v, want %v", err, ErrFenced)
		}
	case "crash": // it stays undecided for ever
	}
}

// check proves that no base is continued twice in its line, that Descends is
// true of exactly the ancestors, and that births since an ancestor hide nothing.
func (l *lineage) check() {
	for id, n := range l.onward {
		if n > 1 {
			l.t.Errorf("point %.8s is continued %d times in its own line", id, n)
		}
	}
	for _, p := range l.points {
		for _, a := range l.points {
			want := false
			for id := p.ID; id != "" && !want; id = l.parent[id] {
				want = id == a.ID
			}
			if got := p.Descends(a); got != want {
				l.t.Errorf("session %d (line %s, %v) descends from %d (line %s): %v, want %v", p.Session, p.Line, p.Ancestry, a.Session, a.Line, got, want)
			}
			if want {
				l.checkChanged(p, a)
			}
		}
	}
}

func (l *lineage) checkChanged(p, a *Point) {
	old := bytes.Clone(l.held[a.ID])
	now := l.held[p.ID]
	err := imagemap.ChangedSince(l.tb.Context(), l.repo, p.Map, a.Session, func(off, n int64) error {
		copy(old[off:off+n], now[off:off+n])
		return nil
	})
	if err != nil || !bytes.Equal(old, now) {
		l.t.Errorf("births of session %d hide what changed since %d (%v)", p.Session, a.Session, err)
	}
}

// Ancestry that was cut off makes Descends say no, never yes.
func TestLongAncestry(t *testing.T) {
	first := &Point{ID: hexID(0), Session: 1, Line: "0"}
	p := first
	for i := range uint64(2 * maxAncestry) {
		next := &Point{ID: hexID(byte(i)), Session: i + 2}
		next.Extend(p, true, string(rune('A'+i)))
		p = next
	}
	if len(p.Ancestry) != maxAncestry || p.Descends(first) {
		t.Errorf("%d ancestors, descends from the first: %v", len(p.Ancestry), p.Descends(first))
	}
	if !p.Descends(&Point{Session: p.Ancestry[maxAncestry-1].Upto, Line: p.Ancestry[maxAncestry-1].Line}) {
		t.Error("the oldest ancestor that is kept is not one")
	}
}
