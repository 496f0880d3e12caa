// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// FrameReader reads parts of chunks by their frames, each authenticated by its
// seal. It keeps the frames it decoded last and serves one goroutine.
type FrameReader struct {
	repo  *packs
	dec   *pack.Decoder
	id    ChunkID
	first int    // the decoded frames of id are first, first+1, …
	plain []byte // their plaintext
}

// NewFrameReader makes a reader.
func (r *packs) NewFrameReader() *FrameReader {
	return &FrameReader{repo: r, dec: pack.NewDecoder()}
}

// framesOf finds a chunk in its pack's table of contents, and the cipher of the
// very pack that the table is of. Frames are opened without the check of the
// whole chunk's name, so all that vouches for them is that their seal has the
// salt under which the table was sealed that names the chunk. A pack header
// that was read apart, or a table that was read before, could be another pack's.
// (Session and number in the table say nothing: a copied pack keeps them.)
func (r *packs) framesOf(ctx context.Context, loc index.Location) (*pack.TOCChunk, *seal.PackCipher, error) {
	t, err := r.TOC(ctx, loc.Pack)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(t.Chunks, func(c pack.TOCChunk) bool { return c.ID == loc.ID })
	if i < 0 {
		return nil, nil, &seal.CorruptError{Object: loc.Pack.Name(), Offset: int64(loc.Offset), Detail: fmt.Sprintf(
			"its table of contents does not have chunk %s", loc.ID.Short())}
	}
	cipher, err := t.Cipher(r.keyring)
	return &t.Chunks[i], cipher, err
}

func checkSpan(loc index.Location, c *pack.TOCChunk, from, to int64) error {
	if from < 0 || from >= to || to > int64(c.Plain) || c.ID != loc.ID {
		return &seal.CorruptError{Object: loc.Pack.Name(), Offset: int64(loc.Offset), Detail: fmt.Sprintf(
			"bytes %d to %d are wanted of chunk %s, which the table of contents gives %d", from, to, loc.ID.Short(), c.Plain)}
	}
	return nil
}

// Read returns bytes [from, to) of a chunk's plaintext, of which c is the
// caller's idea; they are valid until the next call.
func (f *FrameReader) Read(ctx context.Context, loc index.Location, c *pack.TOCChunk, from, to int64) ([]byte, error) {
	if err := checkSpan(loc, c, from, to); err != nil {
		return nil, err
	}
	start := int64(f.first) * chunk.FrameSize
	if f.id == loc.ID && from >= start && to <= start+int64(len(f.plain)) {
		return f.plain[from-start : to-start], nil
	}
	c, cipher, err := f.repo.framesOf(ctx, loc)
	if err == nil {
		err = checkSpan(loc, c, from, to)
	}
	if err != nil {
		return nil, err
	}
	first, last := int(from/chunk.FrameSize), int((to-1)/chunk.FrameSize)
	off, _ := c.FrameRange(first)
	end, n := c.FrameRange(last)
	stored, err := f.repo.fetch(ctx, loc.Pack, int64(off), int64(end-off)+int64(n))
	if err != nil {
		return nil, fmt.Errorf("read frames of chunk %s: %w", loc.ID.Short(), err)
	}
	f.id, f.first, f.plain = ChunkID{}, first, f.plain[:0]
	for i := first; i <= last; i++ {
		o, n := c.FrameRange(i)
		f.plain, err = f.dec.Frame(cipher, loc.Pack.Name(), c, i, stored[o-off:o-off+n], f.plain)
		if err != nil {
			return nil, err
		}
	}
	f.id = loc.ID
	start = int64(first) * chunk.FrameSize
	return f.plain[from-start : to-start], nil
}
