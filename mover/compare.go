// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// comparer tells where bytes of a volume differ from what a map says, reading
// as little as possible from the repository: digests from tables of contents
// where an extent covers whole digest pieces, frames where it does not. It
// serves one goroutine.
type comparer struct {
	repo   *chunkstore.Repository
	m      imagemap.Map
	digest *chunk.Digester
	frames *chunkstore.FrameReader
	known  map[chunk.ID]*located
	last   *located // the chunk of the extent before
}

// located is what a comparison needs of a chunk. It holds copies, so that it
// keeps no table of contents in memory.
type located struct {
	loc     index.Location
	starts  []uint32 // of the digest pieces in the chunk, and the end of the last
	digests []chunk.Digest
}

// maxKnown bounds the chunks that a comparer remembers, at about 1 KiB each.
// Neighbouring extents of a fragmented map come from a few hundred.
const maxKnown = 1024

// newComparer compares with a point's map. A repository's points of one volume
// share a domain, which keys the digests.
func newComparer(repo *chunkstore.Repository, p *chunkstore.Point) *comparer {
	return &comparer{
		repo: repo, m: p.Map,
		digest: chunk.NewDigester(repo.Keyring().Current().DigestKey(p.Domain)),
		frames: repo.NewFrameReader(),
		known:  map[chunk.ID]*located{},
	}
}

// compare calls differs for every part of data, the volume's bytes at off, that
// is not what the map says. Parts are digest pieces, or pages where frames had
// to be fetched.
func (c *comparer) compare(ctx context.Context, off int64, data []byte, differs func(off, n int64)) error {
	end := off + int64(len(data))
	at := off
	it := imagemap.NewIterator(c.repo, c.m, off, end, imagemap.Options{})
	for {
		e, ok, err := it.Next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		zeros(at, data[at-off:e.Off-off], differs)
		if err := c.extent(ctx, e, data[e.Off-off:e.End()-off], differs); err != nil {
			return err
		}
		at = e.End()
	}
	zeros(at, data[at-off:], differs)
	return nil
}

// zeros reports what of a part that the map says is zero is not.
func zeros(off int64, data []byte, differs func(off, n int64)) {
	blockio.DataRuns(data, pageSize, func(o, n int) { differs(off+int64(o), int64(n)) })
}

// holes reports what of a part that is zero in the volume has data in the map.
func (c *comparer) holes(ctx context.Context, off, n int64, differs func(off, n int64)) error {
	it := imagemap.NewIterator(c.repo, c.m, off, off+n, imagemap.Options{})
	from, to := off, off // neighbours are reported as one
	for {
		e, ok, err := it.Next(ctx)
		if err != nil {
			return err
		}
		if !ok || e.Off != to {
			if to > from {
				differs(from, to-from)
			}
			from = e.Off
		}
		if !ok {
			return nil
		}
		to = e.End()
	}
}

// extent compares one extent with the volume's bytes. What no digest covers
// whole is compared with the stored bytes.
func (c *comparer) extent(ctx context.Context, e imagemap.Extent, data []byte, differs func(off, n int64)) error {
	l, err := c.locate(ctx, e.Chunk)
	if err != nil {
		return err
	}
	from, to := e.ChunkOff, e.ChunkOff+uint32(e.Len)
	if to > l.loc.Plain {
		return &seal.CorruptError{Object: l.loc.Pack.Name(), Offset: int64(l.loc.Offset), Detail: fmt.Sprintf("chunk %s is shorter than the map says", e.Chunk.Short())}
	}
	at := from // everything before is decided
	i, _ := slices.BinarySearch(l.starts, from)
	for ; i < len(l.digests) && l.starts[i+1] <= to; i++ {
		start, end := l.starts[i], l.starts[i+1]
		if start > at {
			if err := c.stored(ctx, l, e, data, at, start, differs); err != nil {
				return err
			}
		}
		at = end
		if c.digest.Sum(data[start-from:end-from]) != l.digests[i] {
			differs(e.Off+int64(start-from), int64(end-start))
		}
	}
	if at == to {
		return nil
	}
	return c.stored(ctx, l, e, data, at, to, differs)
}

// stored compares chunk bytes [from, to) with the volume's, page by page of the
// volume, by fetching the frames that hold them.
func (c *comparer) stored(ctx context.Context, l *located, e imagemap.Extent, data []byte, from, to uint32, differs func(off, n int64)) error {
	toc, err := c.entry(ctx, l.loc)
	if err != nil {
		return err
	}
	plain, err := c.frames.Read(ctx, l.loc, toc, int64(from), int64(to))
	if err != nil {
		return err
	}
	have := data[from-e.ChunkOff : to-e.ChunkOff]
	vol := e.Off + int64(from-e.ChunkOff)
	for len(have) > 0 {
		n := min(pageSize-vol%pageSize, int64(len(have)))
		if !bytes.Equal(have[:n], plain[:n]) {
			differs(vol, n)
		}
		have, plain, vol = have[n:], plain[n:], vol+n
	}
	return nil
}

func (c *comparer) locate(ctx context.Context, id chunk.ID) (*located, error) {
	if c.last != nil && c.last.loc.ID == id {
		return c.last, nil
	}
	l := c.known[id]
	if l == nil {
		loc, err := c.repo.Locate(ctx, id)
		if err != nil {
			return nil, err
		}
		toc, err := c.entry(ctx, loc)
		if err != nil {
			return nil, err
		}
		if len(c.known) >= maxKnown {
			clear(c.known)
		}
		l = newLocated(loc, toc)
		c.known[id] = l
	}
	c.last = l
	return l, nil
}

func newLocated(loc index.Location, toc *pack.TOCChunk) *located {
	l := &located{loc: loc, starts: make([]uint32, 0, len(toc.Digests)+1), digests: slices.Clone(toc.Digests)}
	end := int64(0)
	chunk.DigestPieces(toc.Pieces, int64(toc.DigestSize), func(at, _, n int64) {
		l.starts = append(l.starts, uint32(at))
		end = at + n
	})
	l.starts = append(l.starts, uint32(end))
	return l
}

// entry finds a chunk in its pack's table of contents.
func (c *comparer) entry(ctx context.Context, loc index.Location) (*pack.TOCChunk, error) {
	toc, err := c.repo.TOC(ctx, loc.Pack)
	if err != nil {
		return nil, err
	}
	i := sort.Search(len(toc.Chunks), func(i int) bool { return toc.Chunks[i].Offset >= loc.Offset })
	if i == len(toc.Chunks) || toc.Chunks[i].ID != loc.ID {
		return nil, &seal.CorruptError{Object: loc.Pack.Name(), Offset: int64(loc.Offset), Detail: fmt.Sprintf("the index finds chunk %s here, the table of contents does not", loc.ID.Short())}
	}
	return &toc.Chunks[i], nil
}
