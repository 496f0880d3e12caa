// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/fault"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/meter"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

func TestConformance(t *testing.T) {
	objtest.Run(t, func(*testing.T) objstore.Store { return Wrap(mem.New(), Policy{}) })
}

// The suite holds although every third call fails or loses its answer. Every
// Put is a new object there, except for those that must be refused.
func TestConformanceUnderFaults(t *testing.T) {
	quick := Policy{Initial: time.Microsecond, MaxPause: time.Microsecond}
	for _, script := range []string{
		"any * every=3 error=retryable",
		"get * every=2 cut=700; get * every=3 lost; stat * every=2 lost; delete * every=2 lost",
		"put * every=2 lost",
	} {
		t.Run(script, func(t *testing.T) {
			objtest.Run(t, func(t *testing.T) objstore.Store { return Wrap(faulty(t, mem.New(), script), quick) })
		})
	}
}

func faulty(t *testing.T, s objstore.Store, script string) *fault.Store {
	t.Helper()
	f, err := fault.Wrap(s, script)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// T1: which classes are repeated, and for how long.
func TestWhatIsRepeated(t *testing.T) {
	const limit, contact = time.Minute, 5 * time.Second
	tests := []struct {
		script  string
		warm    bool // the store has answered before
		calls   int64
		atLeast time.Duration // spent on trying
		atMost  time.Duration
		class   objstore.Class
	}{
		{script: "stat x error=permanent", calls: 1, class: objstore.Permanent},
		{script: "stat x error=denied", calls: 1, class: objstore.Denied},
		{script: "stat x error=full", calls: 1, class: objstore.Full},
		{script: "stat x error=not-exist", calls: 1, class: objstore.NotExist},
		{script: "stat x error=retryable", atLeast: limit / 2, atMost: limit, class: objstore.Retryable},
		{script: "stat x error=unreachable", atLeast: contact, atMost: 3 * contact, class: objstore.Unreachable},
		{script: "stat x error=unreachable", warm: true, atLeast: limit / 2, atMost: limit, class: objstore.Unreachable},
		{script: "stat x times=4 error=retryable; stat x error=denied", calls: 5, atMost: limit, class: objstore.Denied},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			inner := faulty(t, mem.New(), tt.script)
			s := Wrap(inner, Policy{MaxElapsed: limit, FirstContact: contact, MaxPause: 10 * time.Second})
			if tt.warm {
				_, _ = s.Stat(t.Context(), "other")
			}
			before, start := inner.Calls(), time.Now()
			_, err := s.Stat(t.Context(), "x")
			took, calls := time.Since(start), inner.Calls()-before
			if objstore.ClassOf(err) != tt.class || took < tt.atLeast || took > tt.atMost || tt.calls > 0 && calls != tt.calls {
				t.Errorf("%s: %v after %s and %d calls", tt.script, err, took, calls)
			}
			if tt.calls == 0 && calls < 5 {
				t.Errorf("%s: only %d calls", tt.script, calls)
			}
		})
	}
}

func TestDoAndNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard []time.Duration
		p := Policy{Notify: func(_ error, wait time.Duration) { heard = append(heard, wait) }}
		left := 6
		err := p.Do(t.Context(), func() error {
			if left--; left > 0 {
				return fmt.Errorf("wrapped: %w", &objstore.Error{Op: "open", Class: objstore.Retryable})
			}
			return nil
		})
		if err != nil || len(heard) != 5 || heard[4] < heard[0] {
			t.Errorf("%v, pauses %v, want five that grow", err, heard)
		}
	})
}

// A context that ends during a pause ends the call, and the message still says
// what was wrong.
func TestCancelWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Wrap(faulty(t, mem.New(), "any * error=retryable"), Policy{Initial: time.Hour, MaxPause: time.Hour, MaxElapsed: 24 * time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := s.Put(ctx, "x", nil)
		if objstore.ClassOf(err) != objstore.Canceled || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, fault.ErrInjected) {
			t.Errorf("put: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// T2: a Put of unknown outcome.
func TestUnknownPut(t *testing.T) {
	body, other := objstore.Body{[]byte("mi"), []byte("ne")}, objstore.Body{[]byte("else")}
	tests := []struct {
		name   string
		script string
		there  objstore.Body // put by another writer before
		class  objstore.Class
		ok     bool
		puts   int64 // that reached the store
	}{
		{name: "lost answer", script: "put x nth=1 lost", ok: true, puts: 1},
		{name: "lost answer, nothing to see", script: "put x nth=1 lost; stat x nth=1 error=denied", ok: true, puts: 2},
		{name: "lost answer, look fails first", script: "put x nth=1 lost; stat x nth=1 error=retryable; get x nth=1 lost", ok: true, puts: 2},
		{name: "lost answer, look breaks", script: "put x nth=1 lost; get x nth=1 cut=2", ok: true, puts: 1},
		{name: "never arrived", script: "put x nth=1 error=retryable", ok: true, puts: 2},
		{name: "never arrived, other won", script: "put x nth=1 error=retryable", there: other, class: objstore.Exists, puts: 1},
		{name: "never arrived, equal bytes", script: "put x nth=1 error=retryable", there: body, ok: true, puts: 1},
		{name: "first answer is trusted", script: "get none crash", there: body, class: objstore.Exists, puts: 1},
		{name: "taken at once", script: "put x nth=1 taken", class: objstore.Exists, puts: 1},
		{name: "unreachable had no effect", script: "put x nth=1 error=unreachable", there: body, class: objstore.Exists, puts: 2},
		{name: "answer lost and then taken", script: "put x nth=1 lost; stat x nth=1 lost", ok: true, puts: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := mem.New()
				if tt.there != nil {
					if err := inner.Put(t.Context(), "x", tt.there); err != nil {
						t.Fatal(err)
					}
				}
				m := meter.Wrap(faulty(t, inner, tt.script))
				err := Wrap(m, Policy{}).Put(t.Context(), "x", body)
				if tt.ok != (err == nil) || err != nil && objstore.ClassOf(err) != tt.class {
					t.Errorf("put: %v", err)
				}
				if got := m.Counts().Puts; got != tt.puts {
					t.Errorf("%d puts, want %d", got, tt.puts)
				}
				if same, err := objstore.Same(t.Context(), inner, "x", body); tt.ok && (err != nil || !same) {
					t.Errorf("success, but the object is another: %v", err)
				}
			})
		})
	}
}

// T3: whatever breaks and wherever, the bytes come, each once and in order.
func TestReaderGoesOn(t *testing.T) {
	data := objtest.Bytes(1, 5000)
	rapid.Check(t, func(rt *rapid.T) {
		inner := mem.New()
		if err := inner.Put(t.Context(), "x", objstore.Body{data}); err != nil {
			rt.Fatal(err)
		}
		script := fmt.Sprintf("seed %d; get x p=0.3 error=retryable; get x p=0.7 cut=%d; get x p=0.3 lost",
			rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(0, 900).Draw(rt, "cut"))
		f, err := fault.Wrap(inner, script)
		if err != nil {
			rt.Fatal(err)
		}
		off := rapid.Int64Range(0, 5000).Draw(rt, "off")
		n := rapid.Int64Range(-1, 5000-off).Draw(rt, "n")
		want := data[off:]
		if n >= 0 {
			want = want[:n]
		}
		s := Wrap(f, Policy{Initial: 1, MaxPause: 1})
		r, err := s.Get(t.Context(), "x", off, n)
		if err != nil {
			rt.Fatal(err)
		}
		defer r.Close()
		got, err := io.ReadAll(io.NopCloser(r))
		if err != nil || !bytes.Equal(got, want) {
			rt.Fatalf("%s: %d bytes, %v, want %d", script, len(got), err, len(want))
		}
	})
}

// T3: a body that never goes on is given up, and stays so.
func TestReaderGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := mem.New()
		if err := inner.Put(t.Context(), "x", objstore.Body{objtest.Bytes(1, 100)}); err != nil {
			t.Fatal(err)
		}
		s := Wrap(faulty(t, inner, "get x nth=1 cut=10; get x cut=0"), Policy{MaxElapsed: time.Minute})
		r, err := s.Get(t.Context(), "x", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if len(got) != 10 || objstore.ClassOf(err) != objstore.Retryable {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		start := time.Now()
		if _, again := r.Read(make([]byte, 1)); !errors.Is(again, err) || time.Since(start) != 0 {
			t.Errorf("the next read: %v", again)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}

// T4: a list that broke before the first object is repeated, later not.
func TestList(t *testing.T) {
	inner := mem.New()
	for _, n := range []string{"a", "b", "c"} {
		if err := inner.Put(t.Context(), n, nil); err != nil {
			t.Fatal(err)
		}
	}
	list := func(s objstore.Store) (names string, err error) {
		err = s.List(t.Context(), "", func(i objstore.Info) error { names += i.Name; return nil })
		return names, err
	}
	names, err := list(Wrap(faulty(t, inner, "list * nth=1 error=retryable"), Policy{Initial: 1}))
	if names != "abc" || err != nil {
		t.Errorf("%q, %v", names, err)
	}
	names, err = list(Wrap(faulty(t, inner, "list * nth=1 lost"), Policy{Initial: 1}))
	if names != "abc" || objstore.ClassOf(err) != objstore.Retryable {
		t.Errorf("%q, %v, want each name once and the error", names, err)
	}
}
