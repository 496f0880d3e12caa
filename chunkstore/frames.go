// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"fmt"

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

// Read returns bytes [from, to) of a chunk's plaintext; they are valid until
// the next call.
func (f *FrameReader) Read(ctx context.Context, loc index.Location, c *pack.TOCChunk, from, to int64) ([]byte, error) {
	if from < 0 || from >= to || to > int64(c.Plain) || c.ID != loc.ID {
		return nil, &seal.CorruptError{Object: loc.Pack.Name(), Offset: int64(loc.Offset), Detail: fmt.Sprintf(
			"bytes %d to %d are wanted of chunk %s, which the table of contents gives %d", from, to, loc.ID.Short(), c.Plain)}
	}
	start := int64(f.first) * chunk.FrameSize
	if f.id == loc.ID && from >= start && to <= start+int64(len(f.plain)) {
		return f.plain[from-start : to-start], nil
	}
	first, last := int(from/chunk.FrameSize), int((to-1)/chunk.FrameSize)
	off, _ := c.FrameRange(first)
	end, n := c.FrameRange(last)
	stored, err := f.repo.fetch(ctx, loc.Pack, int64(off), int64(end-off)+int64(n))
	if err != nil {
		return nil, fmt.Errorf("read frames of chunk %s: %w", loc.ID.Short(), err)
	}
	cipher, err := f.repo.cipher(ctx, loc.Pack)
	if err != nil {
		return nil, err
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
