// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"errors"
	"sync"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

func TestResumeRefuses(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	base := backup{repo: r, volume: "v", data: noise(1, testChunk)}.must(t)
	open, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Domain: "d", Base: base})
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	tests := []struct {
		name   string
		number uint64
		nonce  string
		opt    SessionOptions
		want   error
	}{
		{"the same", open.Number(), open.Nonce(), SessionOptions{Volume: "v", Domain: "d", Base: base}, nil},
		{"other nonce", open.Number(), hexID(1), SessionOptions{Volume: "v", Domain: "d", Base: base}, ErrForeign},
		{"other volume", open.Number(), open.Nonce(), SessionOptions{Volume: "w", Domain: "d", Base: base}, ErrForeign},
		{"other domain", open.Number(), open.Nonce(), SessionOptions{Volume: "v", Base: base}, ErrForeign},
		{"no base", open.Number(), open.Nonce(), SessionOptions{Volume: "v", Domain: "d"}, ErrForeign},
		{"other base", open.Number(), open.Nonce(), SessionOptions{Volume: "v", Domain: "d", Base: &Point{ID: hexID(3)}}, ErrForeign},
		{"no such session", 77, open.Nonce(), SessionOptions{Volume: "v", Domain: "d", Base: base}, ErrForeign},
		{"decided", base.Session, base.ID, SessionOptions{Volume: "v"}, ErrDecided},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := r.Resume(t.Context(), tt.number, tt.nonce, tt.opt, nil)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if got != nil {
				_ = got.Close()
			}
		})
	}
}

// A resumed session ships nothing again of what its journal saw, and what it
// commits reads back.
func TestResumeShipsNothingAgain(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	data := noise(5, 40*testChunk)
	var journal []PackReport
	var mu sync.Mutex
	opt := SessionOptions{Volume: "v", Budget: Budget{PackBytes: 64 << 10, Uploads: 2}, OnPack: func(p PackReport) error {
		mu.Lock()
		defer mu.Unlock()
		journal = append(journal, p)
		return nil
	}}
	first := openRepo(t, s, "")
	a, err := first.Begin(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (backup{repo: first, volume: "v", data: data}).store(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := a.flush(1, 2, 3); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	second := openRepo(t, s, "")
	known := func(yield func(PackReport) error) error {
		for _, p := range journal {
			if err := yield(p); err != nil {
				return err
			}
		}
		return nil
	}
	b, err := second.Resume(t.Context(), a.Number(), a.Nonce(), opt, known)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p, err := backup{repo: second, volume: "v", data: data}.store(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if st := b.Stats(); st.NewChunks != 0 {
		t.Errorf("%d chunks stored again", st.NewChunks)
	}
	if err := b.Commit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	history{p.ID: data}.check(t, s)
}
