// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// TestPointsOfADamagedRepository: what can be read is listed, what can't is named.
func TestPointsOfADamagedRepository(t *testing.T) {
	store := mem.New()
	initRepo(t, store)
	repo := openRepo(t, store, t.TempDir())
	for i := range 3 {
		if _, err := (backup{repo: repo, volume: "v", data: bytes.Repeat([]byte{byte(i)}, testChunk)}).run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	metas := repo.Metas("")
	store.Tamper(metas[1].Name, func(data []byte) []byte {
		data[len(data)/2] ^= 1
		return data
	})

	points, err := repo.Points(t.Context(), "")
	var damage *seal.CorruptError
	if !errors.As(err, &damage) || damage.Object != metas[1].Name {
		t.Fatalf("the damaged point is not named: %v", err)
	}
	if len(points) != 2 || points[0].ID != metas[0].ID || points[1].ID != metas[2].ID {
		t.Fatalf("listed %d points, want the two that are whole", len(points))
	}
}

// TestNoPointRestsOnALostPack: what is found in the index is looked for in the
// store before a point relies on it.
func TestNoPointRestsOnALostPack(t *testing.T) {
	for _, how := range []string{"lost", "cut"} {
		t.Run(how, func(t *testing.T) {
			store := mem.New()
			initRepo(t, store)
			repo := openRepo(t, store, t.TempDir())
			b := backup{repo: repo, volume: "v", data: bytes.Repeat([]byte("page"), testChunk)}
			if _, err := b.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			var name string
			for _, o := range store.Objects() {
				if name == "" && strings.HasPrefix(o, "packs/") { // the data; the map's comes after
					name = o
				}
			}
			if how == "cut" {
				store.Tamper(name, func(data []byte) []byte { return data[:len(data)-1] })
			} else if err := store.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			b.volume = "w"
			_, err := b.run(t.Context())
			var damage *seal.CorruptError
			if !errors.As(err, &damage) || damage.Object != name || len(repo.Metas("w")) != 0 {
				t.Fatalf("a point rests on the pack: %v", err)
			}
		})
	}
}
