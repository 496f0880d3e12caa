// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"errors"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// TestVisitSeesWhatWalkAndIteratorSee walks a map by Visit and compares.
func TestVisitSeesWhatWalkAndIteratorSee(t *testing.T) {
	s := newMemory()
	w := NewWriter(s, true)
	var id chunk.ID
	want := map[int64]int64{}
	for off := int64(0); off < 40*64<<20; off += 3 << 20 {
		id[0], id[1] = byte(off>>20), byte(off>>28)+1
		if err := w.Add(t.Context(), Extent{Off: off, Len: 1 << 20, Chunk: id, Birth: 1}); err != nil {
			t.Fatal(err)
		}
		want[off] = 1 << 20
	}
	ref, err := w.Close(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := Map{Size: 40 * 64 << 20, Base: ref}
	walked := map[chunk.ID]bool{}
	if err := Walk(t.Context(), s, m, func(id chunk.ID) error { walked[id] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	got, visited := map[int64]int64{}, 0
	var visit func(n Node) error
	visit = func(n Node) error {
		if visited++; !walked[n.ID()] {
			t.Errorf("Walk did not see node %s", n.ID())
		}
		from, length := n.Span()
		return Visit(t.Context(), s, n, visit, func(e Extent) error {
			if !n.Leaf() || e.Off < from || e.End() > from+length {
				t.Errorf("extent %+v in a node of %d+%d", e, from, length)
			}
			// What a window cut in two is put together again.
			for off, n := range got {
				if off+n == e.Off {
					got[off] += e.Len
					return nil
				}
			}
			got[e.Off] = e.Len
			return nil
		})
	}
	for _, n := range m.Roots() {
		if err := visit(n); err != nil {
			t.Fatal(err)
		}
	}
	if visited != len(walked) || len(got) != len(want) {
		t.Errorf("%d nodes of %d, %d extents of %d", visited, len(walked), len(got), len(want))
	}
	for off, n := range want {
		if got[off] != n {
			t.Errorf("extent at %d has %d bytes, want %d", off, got[off], n)
		}
	}
	stop := errors.New("stop")
	for _, n := range m.Roots() {
		if err := Visit(t.Context(), s, n, func(Node) error { return stop }, func(Extent) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("the caller's error came back as %v", err)
		}
	}
}
