// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

var update = flag.Bool("update", false, "write the golden nodes anew")

// plainID is an id that a reader of the golden files recognises.
func plainID(n byte) chunk.ID { return chunk.ID(bytes.Repeat([]byte{n}, 32)) }

// everyKind uses every control byte of the leaf format.
var everyKind = []Extent{
	{Off: 1 << 20, Len: 8 << 10, Chunk: plainID(0xa1), Birth: 7},
	{Off: 2 << 20, Len: 8 << 10, Chunk: plainID(0xa1), ChunkOff: 8 << 10, Birth: 7},         // same chunk goes on
	{Off: 3 << 20, Len: 8 << 10, Chunk: plainID(0xa1), ChunkOff: 64 << 10, Birth: 7},        // with a skip
	{Off: 4 << 20, Len: 4 << 10, Chunk: plainID(0xb2), ChunkOff: 12 << 10, Birth: 3},        // new, in the middle, older
	{Off: 5 << 20, Len: 4 << 10, Chunk: plainID(0xa1), ChunkOff: 72 << 10, Birth: 7},        // back, goes on
	{Off: 5<<20 + 4<<10, Len: 4 << 10, Chunk: plainID(0xb2), ChunkOff: 4 << 10, Birth: 3},   // back, skip backwards
	{Off: 6 << 20, Len: 1 << 30, Hole: true, Birth: 7},                                      // hole
	{Off: 2 << 30, Len: 4 << 10, Hole: true, Birth: 2},                                      // hole, other birth
	{Off: 3 << 30, Len: 483_211, Chunk: plainID(0xc3), Birth: 1 << 40},                      // bytes, not pages
	{Off: 3<<30 + 483_211, Len: 1000, Chunk: plainID(0xd4), ChunkOff: 5000, Birth: 1 << 40}, // new with an odd offset
	{Off: 3<<30 + 500_000, Len: 1000, Chunk: plainID(0xd4), ChunkOff: 6001, Birth: 1 << 41}, // same, odd skip
	{Off: 1<<62 - 4096, Len: 4096, Chunk: plainID(0xd4), ChunkOff: MaxChunk - 4096, Birth: 0},
}

type recorder struct {
	memory
	order []chunk.ID
}

func (r *recorder) WriteNode(ctx context.Context, plain []byte) (chunk.ID, error) {
	id, err := r.memory.WriteNode(ctx, plain)
	r.order = append(r.order, id)
	return id, err
}

func TestGoldenNodes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		base    bool
		extents []Extent
	}{
		{"run", false, everyKind},
		{"base", true, everyKind},
		{"base-hole", true, []Extent{{Off: 0, Len: 100 << 20, Hole: true, Birth: 9}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{memory: *newMemory()}
			ref := build(t, rec, tt.base, tt.extents)
			var text strings.Builder
			for _, id := range rec.order {
				text.WriteString(hex.Dump(rec.nodes[id]) + "\n")
			}
			file := filepath.Join("testdata", tt.name+".v1.txt")
			if *update {
				if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), text.String()); d != "" {
				t.Errorf("nodes changed (-want +got):\n%s", d)
			}
			m := Map{Size: 1 << 62, Base: ref}
			got, err := rest(t.Context(), NewIterator(rec, m, 0, m.Size, Options{Holes: true}))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.extents, got); d != "" {
				t.Errorf("extents (-want +got):\n%s", d)
			}
		})
	}
}
