// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// recorder writes down every call that a store gets, in order.
type recorder struct {
	objstore.Store
	hook func(op, name string) // called before the call is made

	mu    sync.Mutex
	lines []string
}

func (r *recorder) note(op, name string, err error) {
	line := op + " " + name
	if err != nil {
		line += ": " + objstore.ClassOf(err).String()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *recorder) before(op, name string) {
	if r.hook != nil {
		r.hook(op, name)
	}
}

func (r *recorder) Put(ctx context.Context, name string, body objstore.Body) error {
	r.before("put", name)
	err := r.Store.Put(ctx, name, body)
	r.note("put", name, err)
	return err
}

func (r *recorder) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	r.before("get", name)
	rd, err := r.Store.Get(ctx, name, off, n)
	r.note("get", name, err)
	return rd, err
}

func (r *recorder) Stat(ctx context.Context, name string) (objstore.Info, error) {
	r.before("stat", name)
	i, err := r.Store.Stat(ctx, name)
	r.note("stat", name, err)
	return i, err
}

func (r *recorder) List(ctx context.Context, prefix string, fn func(objstore.Info) error) error {
	r.before("list", prefix)
	err := r.Store.List(ctx, prefix, fn)
	r.note("list", prefix, err)
	return err
}

var unstable = regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{32}`)

// trace is what was recorded, with names that are random made equal.
func (r *recorder) trace() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, len(r.lines))
	for i, l := range r.lines {
		out[i] = unstable.ReplaceAllString(l, "*")
	}
	return out
}

// The order of reads and durable effects of one incremental backup is reviewed
// whenever it changes: C3 and C4 are in it.
func TestTrace(t *testing.T) {
	inner := mem.New()
	initRepo(t, inner)
	data := noise(1, 4*testChunk)
	base := backup{repo: openRepo(t, inner, ""), volume: "v", data: data}.must(t)
	rec := &recorder{Store: inner}
	r := openRepo(t, rec, "")
	rec.lines = append(rec.lines, "— opened")
	b := backup{repo: r, volume: "v", base: base, old: data, data: edited(data, 9, 1, 7), uploads: 1}
	b.begun = func(*Session) error { rec.note("—", "begun", nil); return nil }
	b.ready = func(*Session, *Point) error { rec.note("—", "stored", nil); return nil }
	b.must(t)
	lines := rec.trace()
	golden(t, "trace.txt", []byte(strings.Join(lines, "\n")+"\n"))

	at := func(prefix string) (first, last int) {
		first = -1
		for i, l := range lines {
			if strings.HasPrefix(l, prefix) {
				if first < 0 {
					first = i
				}
				last = i
			}
		}
		if first < 0 {
			t.Fatalf("no %q in the trace", prefix)
		}
		return first, last
	}
	open, _ := at("put sessions/0000000001/open")
	_, tombstone := at("get gc/forgotten/")
	_, epoch := at("get gc/epochs/")
	begun, _ := at("— begun")
	for i := range begun {
		if strings.HasPrefix(lines[i], "get gc/forgotten/") && i < open {
			t.Error("C3: the tombstone is read before the session is there")
		}
	}
	if tombstone < open || epoch < open {
		t.Error("C3: tombstone or epoch is not read after the session is there")
	}
	firstPack, lastPack := at("put packs/")
	firstSegment, lastSegment := at("put index/")
	point, _ := at("put points/")
	outcome, _ := at("put sessions/0000000001/outcome")
	if open > firstPack || lastPack > firstSegment || lastSegment > point || point > outcome || outcome > epoch {
		t.Errorf("C4: session %d, packs %d–%d, segments %d–%d, point %d, outcome %d, last epoch %d", open, firstPack, lastPack, firstSegment, lastSegment, point, outcome, epoch)
	}
}

// A collector that writes at any moment of a session's beginning is seen by the
// session, or sees the session: never neither.
func TestBeginAgainstCollector(t *testing.T) {
	inner := mem.New()
	initRepo(t, inner)
	data := noise(1, 2*testChunk)
	base := backup{repo: openRepo(t, inner, ""), volume: "v", data: data}.must(t)
	var calls int
	seen := map[string]int{}
	for at := 0; at == 0 || at <= calls; at++ {
		s := inner.Clone()
		collector := openRepo(t, s, "")
		rec := &recorder{Store: s}
		r := openRepo(t, rec, "")
		n, sawSession := 0, false
		rec.hook = func(string, string) {
			if n++; n == at {
				// The collector's order: tombstone and condemned packs first, sessions after.
				if err := collector.Forget(t.Context(), PointRef{ID: base.ID, Session: base.Session}, "test"); err != nil {
					t.Error(err)
				}
				condemn(t, collector, 0, packNames(s)...)
				there, err := exists(t.Context(), s, sessionName(1))
				if err != nil {
					t.Error(err)
				}
				sawSession = there
			}
		}
		session, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Base: base, Budget: Budget{PackBytes: 1 << 20}})
		rec.hook = nil
		if err != nil {
			t.Fatal(err)
		}
		calls = n
		if at == 0 { // counting only
			if err := session.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		sawTombstone := session.BaseForgotten
		_, known, err := r.find(t.Context(), idOf(r, data[:testChunk]), true)
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Close(); err != nil {
			t.Fatal(err)
		}
		if !sawSession && (!sawTombstone || known) {
			t.Errorf("at call %d: the collector sees no session, the session: tombstone %v, uses a condemned pack %v", at, sawTombstone, known)
		}
		seen[fmt.Sprint(sawSession, sawTombstone, known)]++
	}
	if seen["false true false"] == 0 || seen["true true true"] == 0 {
		t.Errorf("not both orders came up: %v", seen)
	}
}

func packNames(s *mem.Store) (names []string) {
	for _, n := range s.Objects() {
		if strings.HasPrefix(n, "packs/") {
			names = append(names, n)
		}
	}
	return names
}

func idOf(r *Repository, plain []byte) ChunkID { return r.NewReader("").namer.Name(plain) }

// condemn publishes an epoch that condemns packs, as a collector does.
func condemn(t testing.TB, r *Repository, epoch uint64, packs ...string) {
	t.Helper()
	ref := putRecord(t, r, fmt.Sprintf("gc/condemned/%d", epoch), CondemnedRecord{Packs: packs})
	putRecord(t, r, epochName(epoch), EpochRecord{Epoch: epoch, Condemned: []ObjectRef{ref}})
}
