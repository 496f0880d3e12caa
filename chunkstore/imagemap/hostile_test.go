// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// inner assembles an inner node of the children as they are, whatever they say.
func inner(height uint8, children ...node) []byte {
	var w innerWriter
	for _, c := range children {
		w.add(c)
	}
	last := children[len(children)-1]
	b := appendHeader(nil, height, header{children[0].first, last.end, uint64(len(children))})
	return append(b, w.entries...)
}

func child(n int64) node {
	return node{id: chunk.ID{1}, first: n * 10, end: n*10 + 10, extents: 1, bytes: 10, stored: 10, birth: 1}
}

func children(n int64) (all []node) {
	for i := range n {
		all = append(all, child(i))
	}
	return all
}

func TestNodesAreRefused(t *testing.T) {
	leaf := func(count uint64, rest ...byte) []byte {
		return append(appendHeader(nil, 0, header{0, 1 << 20, count}), rest...)
	}
	id := bytes.Repeat([]byte{7}, 32)
	whole := func(b ...byte) []byte { // one chunk, one birth, one extent of 1 MiB
		return leaf(1, append(append([]byte{0x80, 0x80, 0x40, 1, 1, 2}, id...), b...)...)
	}
	for _, tt := range []struct {
		name, want string
		ref        Ref
		node       []byte
	}{
		{"no node", "magic", Ref{}, []byte("something else")},
		{"too long", "limit 1048576", Ref{}, make([]byte, MaxNode+1)},
		{"newer version", "version 2", Ref{}, []byte("TDIM\x02\x00\x00\x00")},
		{"reserved bytes", "reserved", Ref{}, []byte("TDIM\x01\x00\x01\x00")},
		{"other height", "height 0 found, 1 expected", Ref{Height: 1}, leaf(1)},
		{"too high", "height 7, limit 6", Ref{Height: 7}, inner(7, children(2)...)},
		{"negative sums", "expected", Ref{Bytes: -1}, leaf(1)},
		{"too many extents", "65537, limit 65536", Ref{}, leaf(MaxExtents + 1)},
		{"no extents", "empty node", Ref{}, leaf(0)},
		{"more ids than extents", "number of chunk ids is 2, limit 1", Ref{}, leaf(1, 0, 2)},
		{"other extents than the parent says", "2 of 0 expected", Ref{Extents: 2}, leaf(1, 0, 0, 1)},
		{"ids cut off", "chunk ids needs 32", Ref{Extents: 1}, leaf(1, 0, 1, 1, 2)},
		{"births without end", "births in", Ref{Extents: 1}, leaf(1, 0, 0, 0)},
		{"extents missing", "1 extents are missing", Ref{Bytes: 1 << 20}, whole()},
		{"reserved control", "control 0xd2", Ref{Bytes: 1 << 20}, whole(reserved|inBytes|hasLength|atNew, 1)},
		{"unknown control", "control 0x17", Ref{Bytes: 1 << 20}, whole(hasLength|7, 1)},
		{"length zero", "length 0", Ref{Bytes: 1 << 20}, whole(atNew)},
		{"gap before the first", "begins at 4096", Ref{Bytes: 1 << 20}, whole(hasGap|hasLength|atNew, 1, 1)},
		{"length beyond the span", "length is 300, limit 256", Ref{Bytes: 1 << 20}, whole(hasLength|atNew, 0xac, 2)},
		{"no chunk to go on in", "without a chunk", Ref{Bytes: 1 << 20}, whole(hasLength|atSame, 0x80, 2)}, //nolint:staticcheck // a control names its target even where that is the zero one
		{"back too far", "1 back, 0 known", Ref{Bytes: 1 << 20}, whole(hasLength|atBack, 0x80, 2, 1)},
		{"beyond the chunk", "begins at 8388608", Ref{Bytes: 1 << 20}, whole(hasLength|atNewOffset, 0x80, 2, 0x80, 0x10)},
		{"birth not in the table", "index of birth is 1, limit 0", Ref{Bytes: 1 << 20}, whole(hasLength|hasBirth|atNew, 0x80, 2, 1)},
		{"ends early", "extents end at 4096", Ref{Bytes: 1 << 20}, whole(hasLength|atNew, 1)},
		{"bytes behind", "1 bytes behind", Ref{Bytes: 1 << 20}, whole(hasLength|atNew, 0x80, 2, 9)},
		{"hole counted as data", "extents of 0 bytes", Ref{Bytes: 1 << 20}, leaf(1, 0x80, 0x80, 0x40, 0, 1, 2, hasLength|atHole, 0x80, 2)},
		{"number without end", "cut off or too long", Ref{}, append([]byte("TDIM\x01\x00\x00\x00"), bytes.Repeat([]byte{0xff}, 20)...)},
		{"too many children", "513, limit 512", Ref{Height: 1}, inner(1, children(513)...)},
		{"empty child", "empty child at 0", Ref{Height: 1, Extents: 9, Bytes: 99, Stored: 999}, inner(1, node{}, child(1))},
		{"itself as child", "height 2 found, 1 expected", Ref{Height: 2, Extents: 1, Bytes: 10, Stored: 10 + int64(len(inner(2, child(0))))}, inner(2, child(0))},
		{"more extents than the parent says", "extents is 1, limit 0", Ref{Height: 1, Stored: 999}, inner(1, child(0))},
		{"more stored than the parent says", "stored is 10, limit", Ref{Height: 1, Extents: 1, Bytes: 10, Stored: 50}, inner(1, child(0))},
		{"fewer children than the parent says", "1 extents, 10 bytes", Ref{Height: 1, Extents: 2, Bytes: 20, Stored: 999}, inner(1, child(0))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &hostile{nodes: [][]byte{tt.node}}
			tt.ref.Root = chunk.ID{1}
			if tt.ref.Height == 0 {
				tt.ref.Extents, tt.ref.Stored = max(tt.ref.Extents, 1), int64(len(tt.node))
			}
			it := NewIterator(h, Map{Size: maxOffset, Base: tt.ref}, 0, maxOffset, Options{Holes: true})
			es, err := rest(t.Context(), it)
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || corrupt.Node.IsZero() || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%d extents, error %v, want %q", len(es), err, tt.want)
			}
		})
	}
}
