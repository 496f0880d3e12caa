// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// Sessions decided out of order; the store goes back to between the decisions.
func TestStoreWentBackBetweenDecisions(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	dir := t.TempDir()
	slowData, quick := noise(1, 4*testChunk), noise(2, 4*testChunk)
	r := openRepo(t, s, dir)
	var older *mem.Store
	backup{repo: r, volume: "slow", data: slowData, begun: func(*Session) error {
		older = s.Clone() // packs of the slow session are not there yet
		other := openRepo(t, s, "")
		backup{repo: other, volume: "quick", data: quick}.must(t)
		older = s.Clone()
		return nil
	}}.must(t)
	if _, err := r.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, r.Refresh(t.Context()))
	if _, err := r.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, r.Close())
	// the store is now what it was after quick's commit, before slow's
	r = openRepo(t, older, dir)
	p := backup{repo: r, volume: "again", data: slowData}.must(t)
	fresh := openRepo(t, older, "")
	q, err := fresh.Resolve(t.Context(), p.ID)
	must(t, err)
	if _, err := read(t.Context(), fresh, q); err != nil {
		t.Errorf("a committed point does not restore: %v", err)
	}
}

// One file of the cache is lost or damaged, and the store goes back.
func TestStoreWentBackOutcomesFileLost(t *testing.T) {
	for _, name := range []string{outcomesName, ledgerFile} {
		t.Run(name, func(t *testing.T) { storeWentBackWithout(t, name) })
	}
}

func storeWentBackWithout(t *testing.T, name string) {
	s := mem.New()
	initRepo(t, s)
	dir := t.TempDir()
	r := openRepo(t, s, dir)
	backup{repo: r, volume: "v", data: noise(1, 4*testChunk)}.must(t)
	older := s.Clone()
	lost := noise(2, 4*testChunk)
	backup{repo: r, volume: "v", data: lost}.must(t)
	_, err := r.Index(t.Context())
	must(t, err)
	file := filepath.Join(r.dir, name)
	must(t, r.Close())
	must(t, os.Truncate(file, 0)) // what a power loss leaves of a rename without fsync
	r = openRepo(t, older, dir)
	p := backup{repo: r, volume: "w", data: lost}.must(t)
	must(t, r.Close())
	fresh := openRepo(t, older, "")
	q, err := fresh.Resolve(t.Context(), p.ID)
	must(t, err)
	if _, err := read(t.Context(), fresh, q); err != nil {
		t.Errorf("a committed point does not restore: %v", err)
	}
}
