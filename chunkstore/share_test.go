// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// Several handles, some on one cache folder, write the same and different data
// at once. Every committed point reads back, and what was there before is not
// stored again.
func TestConcurrentWriters(t *testing.T) {
	const handles, rounds = 4, 3
	s := mem.New()
	initRepo(t, s)
	common := noise(1, 12*testChunk)
	cache := t.TempDir()
	want := history{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for h := range handles {
		dir := cache
		if h%2 == 0 {
			dir = ""
		}
		r := openRepo(t, s, dir)
		for w := range 2 {
			wg.Go(func() {
				volume := fmt.Sprintf("v%d-%d", h, w)
				var base *Point
				var old []byte
				for i := range rounds {
					own := noise(uint64(100*h+10*w+i), 4*testChunk)
					data := append(bytes.Clone(common), own...)
					p, err := backup{repo: r, volume: volume, base: base, old: old, data: data}.run(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					want[p.ID] = data
					mu.Unlock()
					base, old = p, data
				}
			})
		}
	}
	wg.Wait()
	want.check(t, s)
	r := openRepo(t, s, cache)
	want.checkIn(t, r)
	if _, n := newChunks(t, r, common); n != 0 {
		t.Errorf("%d chunks are stored again", n)
	}
}

// Domains share nothing, or the size of a backup would answer what others hold.
func TestDomainsDoNotShare(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	data := noise(1, 4*testChunk)
	want := history{}
	for _, domain := range []string{"", "tenant a", "tenant b"} {
		for round := range 2 {
			var n int64
			p := backup{repo: r, volume: "v", domain: domain, data: data, ready: func(s *Session, _ *Point) error {
				n = s.Stats().NewChunks
				return nil
			}}.must(t)
			want[p.ID] = data
			if wantNew := int64(4 * (1 - round)); n != wantNew {
				t.Errorf("domain %q, round %d: %d new chunks, want %d", domain, round, n, wantNew)
			}
		}
	}
	want.check(t, s)
}

// A session with more chunks than it may remember emits several segments, and
// deduplicates against all of them.
func TestManySegments(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, t.TempDir())
	session, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 128 << 10, Uploads: 2, FreshEntries: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	const chunks = 5000 // FreshEntries has a floor of 1024
	plain := make([]byte, 64)
	for i := range 2 * chunks {
		clear(plain)
		copy(plain, fmt.Sprint(i%chunks))
		_, isNew, err := session.Put(t.Context(), Chunk{Class: 1, Plain: plain})
		if err != nil {
			t.Fatal(err)
		}
		if isNew != (i < chunks) {
			t.Fatalf("chunk %d of %d: new %v", i, chunks, isNew)
		}
	}
	p, err := backup{repo: r, volume: "v", data: noise(1, testChunk)}.store(t.Context(), session)
	if err == nil {
		err = session.Commit(t.Context(), p)
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := len(session.segments); n < 4 {
		t.Errorf("%d segments", n)
	}
	other := openRepo(t, s, "")
	for i := range chunks {
		clear(plain)
		copy(plain, fmt.Sprint(i))
		if _, known, err := other.find(t.Context(), idOf(other, plain), true); err != nil || !known {
			t.Fatalf("chunk %d: %v, %v", i, known, err)
		}
	}
}

// cached makes a repository with a few points and a warm cache.
func cached(t *testing.T) (s *mem.Store, dir string, want history) {
	t.Helper()
	s, dir, want = mem.New(), t.TempDir(), history{}
	initRepo(t, s)
	r := openRepo(t, s, dir)
	for i := range uint64(3) {
		data := noise(i, 8*testChunk)
		want[backup{repo: r, volume: "v", data: data}.must(t).ID] = data
	}
	if _, err := r.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return s, dir, want
}

func eachFile(t *testing.T, dir string, fn func(path string, size int64)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		i, err := d.Info()
		if err == nil {
			fn(path, i.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever becomes of the cache, all points read, what is there is found and
// what is not is stored.
func TestDamagedCache(t *testing.T) {
	damages := map[string]func(t *testing.T, path string, size int64){
		"removed":   func(t *testing.T, path string, _ int64) { must(t, os.Remove(path)) },
		"empty":     func(t *testing.T, path string, _ int64) { must(t, os.Truncate(path, 0)) },
		"cut":       func(t *testing.T, path string, size int64) { must(t, os.Truncate(path, size/2)) },
		"longer":    func(t *testing.T, path string, size int64) { must(t, os.Truncate(path, size+4096)) },
		"flip head": func(t *testing.T, path string, size int64) { flipFile(t, path, min(9, size-1)) },
		"flip mid":  func(t *testing.T, path string, size int64) { flipFile(t, path, size/2) },
		"flip tail": func(t *testing.T, path string, size int64) { flipFile(t, path, size-1) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			s, dir, want := cached(t)
			var files []string
			eachFile(t, dir, func(path string, size int64) {
				if size > 0 {
					files = append(files, path)
				}
			})
			if len(files) < 3 {
				t.Fatalf("the cache has only %v", files)
			}
			for _, path := range files {
				info, err := os.Stat(path)
				if err != nil {
					continue // rebuilt meanwhile
				}
				damage(t, path, info.Size())
				r := openRepo(t, s, dir)
				want.checkIn(t, r)
				if _, n := newChunks(t, r, noise(1, 8*testChunk)); n != 0 {
					t.Errorf("%s: %d chunks stored again", path, n)
				}
				for _, m := range r.Metas("w") { // newChunks' own
					want[m.ID] = noise(1, 8*testChunk)
				}
				must(t, r.Close())
			}
		})
	}
}

// Damage that comes up while the repository is open is mended, too.
func TestCacheDamagedWhileOpen(t *testing.T) {
	s, dir, want := cached(t)
	r := openRepo(t, s, dir)
	if _, err := r.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	eachFile(t, dir, func(path string, size int64) {
		if strings.Contains(path, "table") {
			for at := int64(4096); at < size; at += 4096 {
				flipFile(t, path, at+100)
			}
		}
	})
	if _, n := newChunks(t, r, noise(1, 8*testChunk)); n != 0 {
		t.Errorf("%d chunks stored again", n)
	}
	if len(r.retired) != 1 {
		t.Errorf("%d indexes were retired: the damage was not seen", len(r.retired))
	}
	want[r.Metas("w")[0].ID] = noise(1, 8*testChunk)
	want.checkIn(t, r)
}

func flipFile(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, at)
	must(t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A store that went back to an older state, and even on from there, does not
// hold what the cache remembers: nothing may be left out because of it.
func TestStoreWentBack(t *testing.T) {
	for _, goesOn := range []bool{false, true} {
		s := mem.New()
		initRepo(t, s)
		dir := t.TempDir()
		want := history{}
		r := openRepo(t, s, dir)
		first := noise(1, 4*testChunk)
		want[backup{repo: r, volume: "v", data: first}.must(t).ID] = first
		older := s.Clone()
		lost := noise(2, 4*testChunk)
		backup{repo: r, volume: "v", data: lost}.must(t)
		if _, err := r.Index(t.Context()); err != nil {
			t.Fatal(err)
		}
		must(t, r.Close())
		if goesOn {
			other := noise(3, 4*testChunk)
			want[backup{repo: openRepo(t, older, ""), volume: "v", data: other}.must(t).ID] = other
		}
		r = openRepo(t, older, dir)
		want.checkIn(t, r)
		p, n := newChunks(t, r, lost)
		if n != 4 {
			t.Errorf("%d chunks stored, want 4: the cache is believed", n)
		}
		want[p.ID] = lost
		want.check(t, older)
		must(t, r.Close())
		if _, n := newChunks(t, openRepo(t, older, dir), first); n != 0 {
			t.Errorf("%d chunks stored again: the cache is of no use any more", n)
		}
	}
}

// A second handle on the cache that knows less does not take away what the
// first one needs to see that the store went back.
func TestOlderHandleKeepsNewerCache(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	dir := t.TempDir()
	a := openRepo(t, s, dir)
	data := noise(1, testChunk)
	backup{repo: a, volume: "v", data: data}.must(t)
	must(t, a.Close())
	a, b := openRepo(t, s, dir), openRepo(t, s, dir)
	backup{repo: a, volume: "v", data: noise(2, testChunk)}.must(t)
	must(t, a.Close())
	b.mu.Lock()
	b.dirty = true
	b.mu.Unlock()
	must(t, b.Close())
	c := openRepo(t, s, dir)
	if list := c.readOutcomesFile(); len(list) != 2 {
		t.Errorf("%d outcomes are cached, want 2", len(list))
	}
}

// While one goroutine waits for the store's news, others look chunks up.
func TestLookupsDoNotWaitForNews(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	data := noise(1, testChunk)
	backup{repo: openRepo(t, s, ""), volume: "v", data: data}.must(t)
	rec := &recorder{Store: s}
	r := openRepo(t, rec, "")
	_, err := r.Index(t.Context())
	must(t, err)
	backup{repo: openRepo(t, s, ""), volume: "v", data: noise(2, testChunk)}.must(t)
	news := func() error {
		_, err := r.Index(t.Context())
		return errors.Join(r.Refresh(t.Context()), err)
	}
	for _, slow := range []string{epochName(0), outcomeName(1), "index/"} {
		waiting, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		var once sync.Once
		rec.hook = func(_, name string) {
			if strings.HasPrefix(name, slow) {
				once.Do(func() { close(waiting); <-goOn })
			}
		}
		go func() { done <- news() }()
		<-waiting
		if _, known, err := r.find(t.Context(), idOf(r, data), true); !known || err != nil {
			t.Errorf("while %s is read: %v, %v", slow, known, err)
		}
		close(goOn)
		must(t, <-done)
		r.mu.Lock() // so that the next round has the same to read
		if slow == epochName(0) {
			delete(r.outcomes, 1)
			delete(r.learnt, 1)
		}
		r.mu.Unlock()
	}
}
