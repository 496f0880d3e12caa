// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// swapper serves pack q for p.
type swapper struct {
	objstore.Store
	p, q string
	on   bool
}

func (s *swapper) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if s.on && name == s.p {
		name = s.q
	}
	return s.Store.Get(ctx, name, off, n)
}

// Frames count only under the salt of the table of contents that names their
// chunk: neither a header nor a table that was read at another time will do.
func TestFrameSwap(t *testing.T) {
	for _, all := range []bool{false, true} {
		m := mem.New()
		initRepo(t, m)
		r := openRepo(t, m, "")
		a, b := make([]byte, testChunk), make([]byte, testChunk)
		_, _ = rand.Read(a)
		_, _ = rand.Read(b)
		locA, locB := storeAlone(t, r, a), storeAlone(t, r, b)
		sw := &swapper{Store: m, p: locA.Pack.Name(), q: locB.Pack.Name()}
		v := openRepo(t, sw, "")
		toc, err := v.TOC(t.Context(), locA.Pack)
		must(t, err)
		if all { // the table goes out of memory, and comes from the other pack next
			v.meta.drop(metaTOC)
		}
		sw.on = true
		if _, err := v.NewFrameReader().Read(t.Context(), locA, &toc.Chunks[0], 0, testChunk); err == nil {
			t.Errorf("table read again %v: the store answers for a chunk with another's frames, and is believed", all)
		}
		sw.on = false
		v.meta.drop(metaTOC)
		got, err := v.NewFrameReader().Read(t.Context(), locA, &toc.Chunks[0], 0, testChunk)
		if err != nil || !bytes.Equal(got, a) {
			t.Errorf("the right frames: %v", err)
		}
	}
}

// storeAlone puts a chunk into a pack of its own.
func storeAlone(t *testing.T, r *Repository, data []byte) index.Location {
	t.Helper()
	s, err := r.Begin(t.Context(), SessionOptions{Volume: "v", Budget: Budget{PackBytes: 1 << 20}})
	must(t, err)
	id, _, err := s.Put(t.Context(), Chunk{Class: chunk.Base, Plain: data, Pieces: []chunk.Piece{{Length: int64(len(data))}}, DigestSize: testPage})
	must(t, err)
	must(t, s.Commit(t.Context(), &Point{ID: s.Nonce(), Volume: "v", Line: "l"}))
	must(t, s.Close())
	_, err = r.Index(t.Context())
	must(t, err)
	loc, err := r.Locate(t.Context(), id)
	must(t, err)
	return loc
}
