// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

func TestRacingBeginsAreDense(t *testing.T) {
	const writers = 64
	s := mem.New()
	initRepo(t, s)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]string{}
	for range 8 { // handles, each with writers of its own
		r := openRepo(t, s, "")
		for range writers / 8 {
			wg.Go(func() {
				session, err := r.Begin(t.Context(), SessionOptions{Volume: "v"})
				if err != nil {
					t.Error(err)
					return
				}
				defer session.Close()
				mu.Lock()
				defer mu.Unlock()
				if other, taken := seen[session.Number()]; taken {
					t.Errorf("number %d is won by %s and %s", session.Number(), session.Nonce(), other)
				}
				seen[session.Number()] = session.Nonce()
			})
		}
	}
	wg.Wait()
	r := openRepo(t, s, "")
	if r.end != writers || len(seen) != writers {
		t.Fatalf("%d numbers won, the first free is %d", len(seen), r.end)
	}
	for n := range uint64(writers) {
		rec, err := r.readOpen(t.Context(), n)
		if err != nil || rec.Nonce != seen[n] {
			t.Errorf("session %d is of %v, won by %s (%v)", n, rec, seen[n], err)
		}
	}
}

// listing is a store whose lists of sessions are made by fn from the true names.
type listing struct {
	*mem.Store
	fn func(names []string) ([]string, error)
}

func (l *listing) List(ctx context.Context, prefix string, fn func(objstore.Info) error) error {
	var names []string
	err := l.Store.List(ctx, prefix, func(i objstore.Info) error {
		names = append(names, i.Name)
		return nil
	})
	if err == nil && prefix == "sessions/" {
		names, err = l.fn(names)
	}
	for _, n := range names {
		if err == nil {
			err = fn(objstore.Info{Name: n})
		}
	}
	return err
}

// What exists is found by name whatever a list says.
func TestDiscoveryDespiteLists(t *testing.T) {
	const sessions = 50
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	want := history{}
	for i := range sessions {
		if i%10 != 0 {
			session, err := r.Begin(t.Context(), SessionOptions{Volume: "v"})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(session.Abandon(t.Context()), session.Close()); err != nil {
				t.Fatal(err)
			}
			continue
		}
		data := noise(uint64(i), testChunk)
		want[backup{repo: r, volume: "v", data: data}.must(t).ID] = data
	}
	lists := map[string]func([]string) ([]string, error){
		"true":  func(n []string) ([]string, error) { return n, nil },
		"empty": func([]string) ([]string, error) { return nil, nil },
		"lags":  func(n []string) ([]string, error) { return n[:len(n)/3], nil },
		"gaps":  func(n []string) ([]string, error) { return append(n[:20:20], n[60:]...), nil },
		"fails": func([]string) ([]string, error) { return nil, &objstore.Error{Op: "list", Class: objstore.Denied} },
		"breaks": func(n []string) ([]string, error) {
			return n[:30], &objstore.Error{Op: "list", Class: objstore.Retryable}
		},
		"forged": func(n []string) ([]string, error) {
			return append(n, sessionName(51), sessionName(1<<40), sessionName(1<<63), "sessions/99999999999999999999999/open", "sessions/", "x", "sessions/0000000000/open/x"), nil
		},
		"odd": func(n []string) ([]string, error) { return append(n, fmt.Sprintf("sessions/%d/open", sessions)), nil },
	}
	for name, fn := range lists {
		t.Run(name, func(t *testing.T) {
			r := openRepo(t, &listing{s, fn}, "")
			if r.end != sessions {
				t.Fatalf("the first free number is %d, want %d", r.end, sessions)
			}
			want.checkIn(t, r)
		})
	}
}

// An object that somebody without the key creates under a number is told, not
// taken for a session, and not overwritten.
func TestForgedSession(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	put(t, s, sessionName(0), "not sealed")
	put(t, s, outcomeName(0), "not sealed")
	data := noise(1, testChunk)
	p := backup{repo: r, volume: "v", data: data}.must(t)
	if p.Session != 1 {
		t.Errorf("the session has number %d, want 1", p.Session)
	}
	wantDamaged(t, r, outcomeName(0))
	history{p.ID: data}.check(t, s)
	wantDamaged(t, openRepo(t, s, ""), outcomeName(0))
}

// wantDamaged asks for exactly one object to be reported.
func wantDamaged(t testing.TB, r *Repository, object string) {
	t.Helper()
	all := r.Damaged()
	if len(all) != 1 {
		t.Errorf("damaged: %v, want %s alone", all, object)
		return
	}
	wantCorrupt(t, all[0], object)
}

// fence ends a session as a collector does.
func fence(t testing.TB, r *Repository, n uint64) {
	t.Helper()
	o := OutcomeRecord{Session: n, Nonce: hexID(0xfe), State: StateFenced, Finished: r.now().UTC()}
	putRecord(t, r, outcomeName(n), &o)
}

func putRecord(t testing.TB, r *Repository, name string, v any) ObjectRef {
	t.Helper()
	data, err := r.sealRecord(name, v)
	if err == nil {
		err = r.store.Put(t.Context(), name, objstore.Body{data})
	}
	if err != nil {
		t.Fatal(err)
	}
	return refOf(name, data)
}

func TestFencedSessionCannotCommit(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	data := noise(1, 3*testChunk)
	_, err := backup{repo: r, volume: "v", data: data, ready: func(session *Session, _ *Point) error {
		fence(t, r, session.Number())
		return nil
	}}.run(t.Context())
	if !errors.Is(err, ErrFenced) {
		t.Fatalf("%v, want %v", err, ErrFenced)
	}
	history{}.check(t, s)
	history{}.checkIn(t, r)
	// Its chunks do not count either: they are stored again.
	b := backup{repo: r, volume: "v", data: data}
	b.ready = func(session *Session, _ *Point) error {
		if st := session.Stats(); st.NewChunks != 3 {
			t.Errorf("%d new chunks, want 3", st.NewChunks)
		}
		return nil
	}
	history{b.must(t).ID: data}.check(t, s)
}

// Whoever decides first wins; the session's own nonce does not make another
// result its own.
func TestOneOutcome(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	begin := func() (*Session, *Session) {
		a, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 1 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := openRepo(t, s, "").Resume(t.Context(), a.Number(), a.Nonce(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 1 << 20}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = a.Close(), b.Close() })
		return a, b
	}
	point := func(s *Session, id byte) *Point {
		p, err := backup{repo: r, volume: "v", data: noise(uint64(id), testChunk)}.store(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		p.ID = hexID(id)
		return p
	}
	a, b := begin()
	pa, pb := point(a, 1), point(b, 2)
	if err := a.Commit(t.Context(), pa); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), pb); !errors.Is(err, ErrDecided) {
		t.Errorf("second commit: %v, want %v", err, ErrDecided)
	}
	if err := a.Abandon(t.Context()); !errors.Is(err, ErrDecided) {
		t.Errorf("abandon after commit: %v, want %v", err, ErrDecided)
	}
	c, d := begin()
	pd := point(d, 3)
	if err := errors.Join(c.Abandon(t.Context()), c.Abandon(t.Context())); err != nil {
		t.Errorf("abandon twice: %v", err)
	}
	if err := d.Commit(t.Context(), pd); !errors.Is(err, ErrDecided) {
		t.Errorf("commit of an abandoned session: %v, want %v", err, ErrDecided)
	}
	history{pa.ID: noise(1, testChunk)}.check(t, s)
}

// Commit refuses what could not be read back or was not pinned, and leaves the
// session undecided.
func TestCommitRefuses(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	data := noise(1, 2*testChunk)
	base := backup{repo: r, volume: "v", data: data}.must(t)
	other := backup{repo: r, volume: "v", data: noise(2, testChunk)}.must(t)
	tests := []struct {
		name   string
		change func(*Session, *Point)
		says   string
	}{
		{"id", func(_ *Session, p *Point) { p.ID = "abc" }, "hexadecimal"},
		{"id with a slash", func(_ *Session, p *Point) { p.ID = "../" + p.ID[3:] }, "hexadecimal"},
		{"size", func(_ *Session, p *Point) { p.Size++ }, "contradict"},
		{"volume", func(_ *Session, p *Point) { p.Volume = "w" }, "volume"},
		{"domain", func(_ *Session, p *Point) { p.Domain = "w" }, "domain"},
		{"base not pinned", func(_ *Session, p *Point) { p.Base = &PointRef{ID: other.ID, Session: other.Session} }, "did not pin"},
		{"base forgotten", func(s *Session, _ *Point) { s.BaseForgotten = true }, "was forgotten"},
		{"too large", func(_ *Session, p *Point) { p.Reason = strings.Repeat("x", maxPointSize) }, "at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var number uint64
			_, err := backup{repo: r, volume: "v", base: base, old: data, data: edited(data, 3, 1), ready: func(s *Session, p *Point) error {
				number = s.Number()
				tt.change(s, p)
				return nil
			}}.run(t.Context())
			if !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
			if o, err := r.readOutcome(t.Context(), number); o != nil || err != nil {
				t.Errorf("the session is decided: %v, %v", o, err)
			}
		})
	}
}

func TestBeginRefusesNames(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	for _, opt := range []SessionOptions{{}, {Volume: "a\xff"}, {Volume: strings.Repeat("v", 1025)}, {Volume: "v", Domain: strings.Repeat("d", 65)}, {Volume: "v", Domain: "\xff"}} {
		if _, err := r.Begin(t.Context(), opt); err == nil {
			t.Errorf("%+v is accepted", opt)
		}
	}
	if n := len(s.Objects()); n != 2 {
		t.Errorf("objects are %v", s.Objects())
	}
}

// Map nodes are read back from their packs while other goroutines go on storing.
func TestReadNodeBesidePuts(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r, err := Open(t.Context(), s, passphrase, OpenOptions{NodeBytes: 1}) // nothing stays in memory
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	session, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 64 << 10, Uploads: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 60 {
				plain := noise(uint64(w*1000+i), 5000)
				id, err := session.WriteNode(t.Context(), plain)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := session.ReadNode(t.Context(), id)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("node %s: %d bytes, %v", id.Short(), len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A session whose upload failed can't commit, and says why.
func TestFailedUploadFailsSession(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, wrapFault(t, s, "put packs/* nth=3 error=full"), "")
	_, err := backup{repo: r, volume: "v", data: noise(1, 64*testChunk)}.run(t.Context())
	if !errors.Is(err, objstore.ErrFull) {
		t.Errorf("%v, want %v", err, objstore.ErrFull)
	}
	history{}.check(t, s)
}

// A hook that refuses a pack (a journal on a full disk) fails the session.
func TestFailedHookFailsSession(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	refused := errors.New("journal is full")
	session, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 1 << 20}, OnPack: func(PackReport) error { return refused }})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	p, err := backup{repo: r, volume: "v", data: noise(1, testChunk)}.store(t.Context(), session)
	if err == nil {
		err = session.Commit(t.Context(), p)
	}
	if !errors.Is(err, refused) {
		t.Errorf("%v, want %v", err, refused)
	}
	history{}.check(t, s)
}

// A chunk that could not be looked up is not stored: a caller that goes on all
// the same can't commit.
func TestFailedLookupFailsSession(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	backup{repo: openRepo(t, s, ""), volume: "v", data: noise(1, testChunk)}.must(t)
	r := openRepo(t, wrapFault(t, s, "get index/* nth=2 error=unreachable"), "")
	session, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 1 << 20}})
	must(t, err)
	defer session.Close()
	r.mu.Lock()
	r.retire() // so that the next lookup reads segments again
	r.mu.Unlock()
	_, _, perr := session.Put(t.Context(), Chunk{Class: chunk.Base, Plain: noise(2, testChunk)})
	if perr == nil {
		t.Fatal("the lookup did not fail: this test shows nothing")
	}
	err = session.Commit(t.Context(), &Point{ID: session.Nonce(), Volume: "v", Line: "l"})
	if !errors.Is(err, objstore.ErrUnreachable) {
		t.Errorf("commit: %v, want that of the lookup", err)
	}
}

func TestCancelledSessionEnds(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	ctx, cancel := context.WithCancel(t.Context())
	b := backup{repo: r, volume: "v", data: noise(1, 8*testChunk), ready: func(*Session, *Point) error { cancel(); return nil }}
	if _, err := b.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	history{}.check(t, s)
}

// The same chunk of many goroutines at once is stored once.
func TestConcurrentPutsDeduplicate(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	session, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 128 << 10, Uploads: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 20 {
				if _, _, err := session.Put(t.Context(), Chunk{Class: 1, Plain: noise(uint64(i), testChunk)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if st := session.Stats(); st.NewChunks != 20 || st.Chunks != 160 {
		t.Errorf("%d of %d chunks are new, want 20 of 160", st.NewChunks, st.Chunks)
	}
	if err := session.flush(1, 2, 3); err != nil {
		t.Fatal(err)
	}
	if err := session.fresh.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	plain, err := objstore.ReadAll(t.Context(), s, session.segments[0].Name, 1<<20)
	if err == nil {
		plain, err = r.keyring.OpenRecord(r.config.repoID(), session.segments[0].Name, plain)
	}
	if err != nil {
		t.Fatal(err)
	}
	seg, err := index.DecodeSegment("x", plain)
	if err != nil || seg.Len() != 20 {
		t.Errorf("the segment has %d entries (%v), want 20", seg.Len(), err)
	}
}
