// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// mapDomain names all map nodes. They hold chunk names, which differ between
// domains already, so a domain of their own would hide nothing more.
const mapDomain = ""

// Reader decodes and verifies chunks of one deduplication domain. It keeps
// scratch memory and serves one goroutine.
type Reader struct {
	repo  *packs
	namer *chunk.Namer
	dec   *pack.Decoder
}

// NewReader makes a reader for the chunks of a domain.
func (r *packs) NewReader(domain string) *Reader {
	return &Reader{repo: r, namer: chunk.NewNamer(r.keyring.Current().NameKey(domain)), dec: pack.NewDecoder()}
}

// Decode opens a whole chunk from its stored bytes into dst and verifies it
// against its name (C7).
func (rd *Reader) Decode(ctx context.Context, loc index.Location, stored, dst []byte) ([]byte, error) {
	cipher, err := rd.repo.cipher(ctx, loc.Pack)
	if err != nil {
		return nil, err
	}
	plain, err := rd.dec.Chunk(cipher, loc.Pack.Name(), loc.Entry, stored, dst)
	if err != nil {
		return nil, err
	}
	if got := rd.namer.Name(plain[len(dst):]); got != loc.ID {
		return nil, &seal.CorruptError{
			Object: loc.Pack.Name(), Offset: int64(loc.Offset),
			Detail: fmt.Sprintf("chunk %s decodes to bytes named %s", loc.ID.Short(), got.Short()),
		}
	}
	return plain, nil
}

// Chunk fetches, decodes and verifies one chunk, appending it to dst.
func (rd *Reader) Chunk(ctx context.Context, id ChunkID, dst []byte) ([]byte, error) {
	loc, err := rd.repo.Locate(ctx, id)
	if err != nil {
		return nil, err
	}
	return rd.at(ctx, loc, dst)
}

func (rd *Reader) at(ctx context.Context, loc index.Location, dst []byte) ([]byte, error) {
	stored, err := rd.repo.fetch(ctx, loc.Pack, int64(loc.Offset), int64(loc.Stored))
	if err != nil {
		return nil, fmt.Errorf("read chunk %s: %w", loc.ID.Short(), err)
	}
	return rd.Decode(ctx, loc, stored, dst)
}

// Fetch reads stored bytes of a pack.
func (r *packs) Fetch(ctx context.Context, p index.PackID, off, n int64) ([]byte, error) {
	b, err := objstore.ReadRange(ctx, r.store, p.Name(), off, n)
	if err != nil {
		return nil, lost(p.Name(), off, err)
	}
	return b, nil
}

// fetch is Fetch that reads packs of map nodes in larger blocks, for their
// nodes are small and read in order.
func (r *packs) fetch(ctx context.Context, p index.PackID, off, n int64) ([]byte, error) {
	size := int64(r.opt.RangeBytes)
	if p.Class != chunk.Map || n > size {
		return r.Fetch(ctx, p, off, n)
	}
	var out []byte
	for off, end := off, off+n; off < end; {
		b, err := r.block(ctx, p, off/size, size)
		if err != nil {
			return nil, err
		}
		at := off % size
		if at >= int64(len(b)) {
			return nil, &seal.CorruptError{Object: p.Name(), Offset: off, Detail: "ends before what its index says"}
		}
		b = b[at:min(int64(len(b)), at+end-off)]
		if out == nil && int64(len(b)) == n {
			return b, nil
		}
		out = append(out, b...)
		off += int64(len(b))
	}
	return out, nil
}

func (r *packs) block(ctx context.Context, p index.PackID, i, size int64) ([]byte, error) {
	k := metaKey{kind: metaBlock, id: p.Hash, block: i}
	if b, ok := r.meta.get(k); ok {
		return b.([]byte), nil
	}
	n := min(size, int64(p.Size)-i*size)
	if n <= 0 {
		return nil, &seal.CorruptError{Object: p.Name(), Offset: i * size, Detail: "is shorter than its index says"}
	}
	b, err := r.Fetch(ctx, p, i*size, n)
	if err != nil {
		return nil, err
	}
	r.meta.put(k, b, len(b))
	return b, nil
}

// Cipher gives what opens a pack's frames, reading the pack's header the first time.
func (r *packs) cipher(ctx context.Context, p index.PackID) (*seal.PackCipher, error) {
	k := metaKey{kind: metaCipher, id: p.Hash}
	if c, ok := r.meta.get(k); ok {
		return c.(*seal.PackCipher), nil
	}
	head, err := r.fetch(ctx, p, 0, pack.HeaderSize)
	if err != nil {
		return nil, fmt.Errorf("read header of %s: %w", p.Name(), err)
	}
	return r.learnCipher(p, head)
}

// learnCipher derives the cipher from a header that was read with other bytes.
func (r *packs) learnCipher(p index.PackID, head []byte) (*seal.PackCipher, error) {
	c, err := pack.Cipher(r.keyring, head)
	if bad, ok := errors.AsType[*seal.CorruptError](err); ok {
		bad.Object = p.Name()
	}
	if err != nil {
		return nil, err
	}
	r.meta.put(metaKey{kind: metaCipher, id: p.Hash}, c, 1024)
	return c, nil
}

// TOC reads a pack's table of contents, from memory where it was read before.
func (r *packs) TOC(ctx context.Context, p index.PackID) (*pack.TOC, error) {
	k := metaKey{kind: metaTOC, id: p.Hash}
	if t, ok := r.meta.get(k); ok {
		return t.(*pack.TOC), nil
	}
	read := func(ctx context.Context, off, n int64) ([]byte, error) { return r.Fetch(ctx, p, off, n) }
	t, err := pack.ReadTOC(ctx, r.keyring, p.Name(), int64(p.Size), read)
	if err != nil {
		return nil, err
	}
	size := 256
	for i := range t.Chunks {
		c := &t.Chunks[i]
		size += 128 + 4*len(c.FrameStored) + 16*len(c.Pieces) + 8*len(c.Digests)
	}
	r.meta.put(k, t, size)
	return t, nil
}

// ReadNode implements imagemap.Source for committed points.
func (r *packs) ReadNode(ctx context.Context, id ChunkID) ([]byte, error) {
	k := metaKey{kind: metaNode, id: id}
	if b, ok := r.meta.get(k); ok {
		return b.([]byte), nil
	}
	loc, err := r.Locate(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.readNodeAt(ctx, loc)
}

func (r *packs) readNodeAt(ctx context.Context, loc index.Location) ([]byte, error) {
	if loc.Pack.Class != chunk.Map {
		return nil, &seal.CorruptError{Object: loc.Pack.Name(), Detail: fmt.Sprintf("map node %s lies in a pack of class %s", loc.ID.Short(), loc.Pack.Class)}
	}
	rd, ok := r.nodeReaders.Get().(*Reader)
	if !ok {
		rd = r.NewReader(mapDomain)
	}
	defer r.nodeReaders.Put(rd)
	b, err := rd.at(ctx, loc, nil)
	if err != nil {
		return nil, err
	}
	r.meta.put(metaKey{kind: metaNode, id: loc.ID}, b, len(b))
	return b, nil
}

// WriteNode implements imagemap.Sink.
func (s *Session) WriteNode(ctx context.Context, plain []byte) (ChunkID, error) {
	id, _, err := s.Put(ctx, Chunk{Class: chunk.Map, Plain: plain})
	if err == nil {
		s.repo.meta.put(metaKey{kind: metaNode, id: id}, append([]byte(nil), plain...), len(plain))
	}
	return id, err
}

// ReadNode implements imagemap.Source for what the session wrote and what is
// committed. A node of the session's own that left the cache is read back from
// its pack, which is sent first.
func (s *Session) ReadNode(ctx context.Context, id ChunkID) ([]byte, error) {
	if b, ok := s.repo.meta.get(metaKey{kind: metaNode, id: id}); ok {
		return b.([]byte), nil
	}
	for range 2 {
		loc, ok, err := s.location(ctx, id, false)
		if err != nil {
			return nil, err
		}
		if ok {
			return s.repo.readNodeAt(ctx, loc)
		}
		if err := s.flush(chunk.Map); err != nil {
			return nil, err
		}
	}
	return nil, &MissingChunkError{ID: id}
}
