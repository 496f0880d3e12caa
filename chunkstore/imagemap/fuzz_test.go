// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// FuzzNode decodes one node on its own word, and what decodes must survive
// encoding and decoding again.
func FuzzNode(f *testing.F) {
	store := newMemory()
	build(f, store, true, everyKind)
	build(f, store, false, everyKind)
	for _, b := range store.nodes {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := node{root: true, stored: int64(len(b))}
		if len(b) > 5 {
			n.height = b[5]
		}
		if checkPrefix(&n, b) != nil {
			return
		}
		if n.height > 0 {
			decodeInner(n, b)
			return
		}
		es := decodeLeaf(t, n, b)
		if es == nil {
			return
		}
		var w leafWriter
		for i := range es {
			w.add(&es[i])
		}
		copied := newMemory()
		n2, err := w.finish(t.Context(), copied)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(es, decodeLeaf(t, n2, copied.nodes[n2.id])); d != "" {
			t.Fatal(d)
		}
	})
}

func decodeInner(n node, b []byte) {
	n.extents, n.bytes, n.stored = maxOffset, maxOffset, maxOffset
	var r innerReader
	var c node
	for err := r.open(n, b); err == nil && r.left > 0; {
		err = r.next(&c)
	}
}

// decodeLeaf returns the extents of a leaf, nil if it is corrupt.
func decodeLeaf(t *testing.T, n node, b []byte) []Extent {
	s := scan{b: b, p: prefixSize}
	_, _, n.extents = s.uvarint(maxOffset, ""), s.uvarint(maxOffset, ""), s.uvarint(maxOffset, "")
	n.bytes = int64(s.uvarint(maxOffset, ""))
	var l leafReader
	if l.open(n, b) != nil {
		return nil
	}
	es := make([]Extent, 0, l.left)
	end := int64(0)
	for l.left > 0 {
		var e Extent
		if err := l.next(&e); err != nil {
			if _, ok := errors.AsType[*CorruptError](err); !ok {
				t.Fatalf("error of another kind: %v", err)
			}
			return nil
		}
		if err := e.check(); err != nil || e.Off < end {
			t.Fatalf("extent %+v behind %d: %v", e, end, err)
		}
		end = e.End()
		es = append(es, e)
	}
	return es
}

// hostile hands out its nodes under any name: a name's first byte chooses.
type hostile struct {
	nodes [][]byte
	reads int
}

func (h *hostile) ReadNode(_ context.Context, id chunk.ID) ([]byte, error) {
	h.reads++
	return h.nodes[int(id[0])%len(h.nodes)], nil
}

func (h *hostile) WriteNode(_ context.Context, plain []byte) (chunk.ID, error) {
	h.nodes = append(h.nodes, append([]byte(nil), plain...))
	return chunk.ID{byte(len(h.nodes) - 1), 1}, nil
}

func (h *hostile) pack() []byte {
	var out []byte
	for _, n := range h.nodes {
		out = binary.LittleEndian.AppendUint16(out, uint16(len(n)))
		out = append(out, n...)
	}
	return out
}

func unpack(b []byte) *hostile {
	h := new(hostile)
	for len(b) > 2 && len(h.nodes) < 256 {
		n := min(int(binary.LittleEndian.Uint16(b)), len(b)-2)
		h.nodes = append(h.nodes, b[2:2+n])
		b = b[2+n:]
	}
	return h
}

// smallTree is a tree of several levels that hostile can name.
func smallTree(tb testing.TB, base bool) (*hostile, Ref) {
	h := new(hostile)
	w := newWriter(h, base, tiny(4096))
	r := rand.New(rand.NewPCG(8, 9))
	for i := range 60 {
		e := Extent{Off: int64(i) * 40960, Len: 8192, Chunk: chunkID(uint64(i / 4)), ChunkOff: uint32(i % 4 * 8192), Birth: r.Uint64N(9)}
		if i%7 == 0 {
			e = Extent{Off: e.Off, Len: 40960, Hole: true, Birth: e.Birth}
		}
		if err := w.Add(tb.Context(), e); err != nil {
			tb.Fatal(err)
		}
	}
	ref, err := w.Close(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if ref.Height < 2 {
		tb.Fatalf("height %d, wanted a tree", ref.Height)
	}
	return h, ref
}

// readHostile does everything that reads with a tree that lies. It must end,
// within one read per node, and what it yields must be in order.
func readHostile(t *testing.T, h *hostile, ref Ref) {
	t.Helper()
	nodes := len(h.nodes)
	for _, m := range []Map{{Size: maxOffset, Base: ref}, {Size: 1 << 30, Runs: []Ref{ref}}} {
		h.reads = 0
		end := int64(0)
		it := NewIterator(h, m, 0, m.Size, Options{Holes: true})
		for {
			e, ok, err := it.Next(t.Context())
			if !ok || err != nil {
				break
			}
			if e.check() != nil || e.Off < end {
				t.Fatalf("extent %+v behind %d", e, end)
			}
			end = e.End()
		}
		if h.reads > nodes+1 {
			t.Fatalf("%d reads for %d nodes", h.reads, nodes)
		}
		ignore := func(off, n int64) error { return nil }
		_ = ChangedSince(t.Context(), h, m, 4, ignore)
		other := ref
		other.Root[0]++
		_ = Diff(t.Context(), h, Map{Size: 1 << 40, Base: other, Runs: m.Runs}, m, ignore)
		_ = Walk(t.Context(), h, m, func(chunk.ID) error { return nil })
		m.Size, m.Runs = 1<<25, []Ref{other}
		_, _, _ = compact(t.Context(), h, newMemory(), m, Policy{}, tiny(4096))
	}
}

func FuzzTree(f *testing.F) {
	for _, base := range []bool{true, false} {
		h, ref := smallTree(f, base)
		f.Add(h.pack(), ref.Root[0], ref.Height, ref.Extents, ref.Bytes, ref.Stored)
	}
	f.Fuzz(func(t *testing.T, nodes []byte, root, height uint8, extents uint64, bytes, stored int64) {
		h := unpack(nodes)
		if len(h.nodes) == 0 {
			return
		}
		readHostile(t, h, Ref{Root: chunk.ID{root, 1}, Height: height, Extents: extents, Bytes: bytes, Stored: stored})
	})
}

// Every byte of every node, changed in two ways: noticed or harmless.
func TestEveryByteChanged(t *testing.T) {
	for _, base := range []bool{true, false} {
		h, ref := smallTree(t, base)
		for i := range h.nodes {
			plain := h.nodes[i]
			for j := range plain {
				for _, x := range []byte{1, 0x80} {
					changed := append([]byte(nil), plain...)
					changed[j] ^= x
					h.nodes[i] = changed
					readHostile(t, h, ref)
				}
			}
			h.nodes[i] = plain
		}
	}
}
