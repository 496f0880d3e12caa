// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

// A script whose rules never fire changes nothing.
func TestConformance(t *testing.T) {
	objtest.Run(t, func(t *testing.T) objstore.Store {
		return wrap(t, mem.New(), "any * nth=1000000 crash; put none p=1 lost")
	})
}

func wrap(t *testing.T, s objstore.Store, script string) *Store {
	t.Helper()
	f, err := Wrap(s, script)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhen(t *testing.T) {
	tests := []struct {
		when string
		want string // one letter per call: x failed
	}{
		{"", "xxxxxxxxxx"},
		{"nth=3", "..x......."},
		{"from=8", ".......xxx"},
		{"every=4", "...x...x.."},
		{"times=2", "xx........"},
		{"from=3 every=2 times=2", "...x.x...."},
		{"p=0", ".........."},
		{"p=1", "xxxxxxxxxx"},
	}
	for _, tt := range tests {
		s := wrap(t, mem.New(), "put a* "+tt.when+" error=full")
		got := ""
		for i := range 10 {
			_ = s.Put(t.Context(), "other", nil) // must not count
			err := s.Put(t.Context(), fmt.Sprintf("a/%d", i), nil)
			switch {
			case err == nil:
				got += "."
			case errors.Is(err, objstore.ErrFull) && errors.Is(err, ErrInjected):
				got += "x"
			default:
				t.Fatal(err)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.when, got, tt.want)
		}
	}
}

// The same seed gives the same faults, another one others.
func TestSeed(t *testing.T) {
	run := func(seed int) (out string) {
		s := wrap(t, mem.New(), fmt.Sprintf("seed %d\nstat * p=0.5 error=denied", seed))
		for range 64 {
			_, err := s.Stat(t.Context(), "x")
			out += objstore.ClassOf(err).String()[:1]
		}
		return out
	}
	once, again := run(1), run(1)
	if once != again {
		t.Error("one seed, two histories")
	}
	if run(1) == run(2) || !strings.Contains(run(1), "d") || !strings.Contains(run(1), "n") {
		t.Error("the seed has no effect")
	}
}

func TestEffects(t *testing.T) {
	ctx := t.Context()
	inner := mem.New()
	s := wrap(t, inner, `
		put lost lost
		put taken taken          # stored nevertheless
		put cut cut=2; put flip flip=1
		get good nth=1 cut=3
		get good nth=2 flip=3
		get good nth=3 lost
		stat good lost; delete good lost; list g lost`)
	data := []byte("abcdef")
	wants := map[string]struct {
		class  objstore.Class
		stored string
	}{
		"lost": {objstore.Retryable, "abcdef"}, "taken": {objstore.Exists, "abcdef"},
		"cut": {99, "ab"}, "flip": {99, "accdef"}, "good": {99, "abcdef"},
	}
	for name, want := range wants {
		err := s.Put(ctx, name, objstore.Body{data})
		if (err == nil) != (want.class == 99) || err != nil && objstore.ClassOf(err) != want.class {
			t.Errorf("put %s: %v", name, err)
		}
		stored, err := objstore.ReadAll(ctx, inner, name, 100)
		if err != nil || string(stored) != want.stored {
			t.Errorf("put %s stored %q, %v, want %q", name, stored, err, want.stored)
		}
	}
	r, err := s.Get(ctx, "good", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if string(got) != "abc" || objstore.ClassOf(err) != objstore.Retryable || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut get: %q, %v", got, err)
	}
	got, err = objstore.ReadRange(ctx, s, "good", 1, 5)
	if err != nil || string(got) != "bcddf" {
		t.Errorf("flipped get: %q, %v, want byte 3 of the body changed", got, err)
	}
	_, err1 := s.Get(ctx, "good", 0, -1)
	_, err2 := s.Stat(ctx, "good")
	err3 := s.List(ctx, "g", func(objstore.Info) error { return nil })
	err4 := s.Delete(ctx, "good")
	for _, err := range []error{err1, err2, err3, err4} {
		if objstore.ClassOf(err) != objstore.Retryable {
			t.Errorf("lost answer: %v", err)
		}
	}
	if d := cmp.Diff([]int64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, s.Fired()); d != "" {
		t.Errorf("fired (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"cut", "flip", "lost", "taken"}, inner.Objects()); d != "" {
		t.Errorf("objects (-want +got):\n%s", d)
	}
}

func TestCrash(t *testing.T) {
	for _, tt := range []struct{ action, stored string }{{"crash", "1"}, {"crash-after", "1 2"}} {
		inner := mem.New()
		s := wrap(t, inner, "any * nth=2 "+tt.action)
		err1 := s.Put(t.Context(), "1", nil)
		err2 := s.Put(t.Context(), "2", nil)
		_, err3 := s.Get(t.Context(), "1", 0, -1)
		_, err4 := s.Stat(t.Context(), "1")
		if err1 != nil || !s.Crashed() || s.Calls() != 4 {
			t.Errorf("%s: %v, crashed %v, %d calls", tt.action, err1, s.Crashed(), s.Calls())
		}
		for _, err := range []error{err2, err3, err4} {
			if !errors.Is(err, ErrCrashed) || objstore.ClassOf(err) != objstore.Permanent {
				t.Errorf("%s: %v, want the crash", tt.action, err)
			}
		}
		if got := strings.Join(inner.Objects(), " "); got != tt.stored {
			t.Errorf("%s: stored %q, want %q", tt.action, got, tt.stored)
		}
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wrap(t, mem.New(), "stat * delay=1h error=retryable")
		start := time.Now()
		if _, err := s.Stat(t.Context(), "x"); objstore.ClassOf(err) != objstore.Retryable || time.Since(start) != time.Hour {
			t.Errorf("%v after %s, want a retryable error after an hour", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.Stat(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour+time.Minute {
			t.Errorf("%v after %s, want the context's end", err, time.Since(start))
		}
	})
}

func TestBadScripts(t *testing.T) {
	for _, script := range []string{
		"put", "put *", "put * nth=1", "puts * lost", "put * nth=0 lost", "put * nth=x lost", "put * p=2 lost", "put * p=NaN lost",
		"put * error=bad", "put * lost crash", "put * word", "get * taken", "stat * cut=1", "any * flip=1", "get * cut=-1", "put * delay=-1s", "seed x",
	} {
		if _, err := Wrap(mem.New(), script); err == nil {
			t.Errorf("%q is accepted", script)
		}
	}
}

func TestMatchGlob(t *testing.T) {
	for _, tt := range []struct {
		glob, name string
		want       bool
	}{
		{"*", "", true},
		{"*", "a/b", true},
		{"", "", true},
		{"", "a", false},
		{"packs/*", "packs/1/2", true},
		{"packs/*", "pack", false},
		{"*/outcome", "sessions/1/outcome", true},
		{"*/outcome", "sessions/1/outcomes", false},
		{"a*b*c", "aXbXbYc", true},
		{"a*b*c", "aXbXbY", false},
		{"?", "a", true},
		{"?", "", false},
		{"a?c*", "abc", true},
		{"**a", "ba", true},
	} {
		if got := matchGlob(tt.glob, tt.name); got != tt.want {
			t.Errorf("matchGlob(%q, %q) = %v", tt.glob, tt.name, got)
		}
	}
}

func TestFlippedPutKeepsTheCallersBytes(t *testing.T) {
	data := []byte("abc")
	s := wrap(t, mem.New(), "put * flip=0")
	if err := s.Put(t.Context(), "x", objstore.Body{data}); err != nil || !bytes.Equal(data, []byte("abc")) {
		t.Errorf("%v, the caller's bytes are %q", err, data)
	}
}
