// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"errors"
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
