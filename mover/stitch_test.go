// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/restic/chunker"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/cdc"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// TestRemainder takes a block apart and finds every byte once, with its place
// in the volume.
func TestRemainder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r remainder
		var want, got []string
		at := int64(0)
		for range rapid.IntRange(1, 6).Draw(t, "parts") {
			at += rapid.Int64Range(1, 10).Draw(t, "gap")
			n := rapid.Int64Range(1, 10).Draw(t, "n")
			part := make([]byte, n)
			for i := range part {
				part[i] = byte(at) + byte(i)
				want = append(want, fmt.Sprint(at+int64(i), part[i]))
			}
			r.parts, r.pieces = append(r.parts, part), append(r.pieces, piece{off: at, n: n})
			at += n
		}
		for len(r.parts) > 0 {
			if left := r.length(); left != len(want)-len(got) {
				t.Fatalf("%d bytes are left after %d of %d", left, len(got), len(want))
			}
			data, p := r.take(rapid.IntRange(1, len(r.first())).Draw(t, "take"))
			if int64(len(data)) != p.n {
				t.Fatalf("%d bytes for a piece of %d", len(data), p.n)
			}
			for i, b := range data {
				got = append(got, fmt.Sprint(p.off+int64(i), b))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("took %v, want %v", got, want)
		}
	})
}

// volume makes data in which there are zero runs of every interesting length.
func volume(rnd *rand.Rand, size int) []byte {
	data := make([]byte, size)
	for at := 0; at < size; {
		n := min(1+rnd.IntN(1<<20), size-at)
		random(rnd, data[at:at+n])
		at += n
		switch rnd.IntN(5) {
		case 0:
			at += rnd.IntN(3) * pageSize
		case 1:
			at += longRun - pageSize + rnd.IntN(3)*pageSize // about as long as ends a chunk
		case 2:
			at += rnd.IntN(2 << 20)
		}
	}
	return data
}

func random(rnd *rand.Rand, p []byte) {
	for len(p) >= 8 {
		x := rnd.Uint64()
		for i := range 8 {
			p[i] = byte(x >> (8 * i))
		}
		p = p[8:]
	}
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
}

// sequential names the chunks of one pass over the non-zero pages.
func sequential(p cdc.Params, data []byte, name func([]byte) chunk.ID) (ids []chunk.ID) {
	var stream []byte
	end := func() {
		for len(stream) > 0 {
			n := nextCut(p, stream)
			ids = append(ids, name(stream[:n]))
			stream = stream[n:]
		}
		stream = nil
	}
	last := 0 // end of the last non-zero page
	for at := 0; at < len(data); at += pageSize {
		page := data[at:min(at+pageSize, len(data))]
		if blockio.IsZero(page) {
			continue
		}
		if at-last >= longRun {
			end()
		}
		stream = append(stream, page...)
		last = at + len(page)
	}
	end()
	return ids
}

// nextCut is the length of the chunk at the beginning of the stream, computed
// the plain way.
func nextCut(p cdc.Params, stream []byte) int {
	if p.Kind == cdc.Rabin {
		c := chunker.NewBase(p.Polynomial, chunker.WithBaseBoundaries(uint(p.Min), uint(p.Max)), chunker.WithBaseAverageBits(p.Bits))
		if n := c.NextSplitPoint(stream); n >= 0 {
			return n
		}
		return len(stream)
	}
	mask := uint32(1)<<(p.Bits-12) - 1
	for at := pageSize; at <= len(stream); at += pageSize {
		sum := crc32.Checksum(stream[at-pageSize:at], castagnoli)
		if at >= p.Min && sum&mask == 0 || at >= p.Max {
			return at
		}
	}
	return len(stream)
}

// chunksOf lists the chunks of a point in the order of the volume.
func chunksOf(t *testing.T, repo *chunkstore.Repository, p *chunkstore.Point) (ids []chunk.ID) {
	it := imagemap.NewIterator(repo, p.Map, 0, p.Size, imagemap.Options{})
	for {
		e, ok, err := it.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return ids
		}
		if e.ChunkOff == 0 {
			ids = append(ids, e.Chunk)
		}
	}
}

// However many readers and whatever the slabs, the chunks are those of one
// sequential pass.
func TestChunksAreThoseOfOnePass(t *testing.T) {
	store := mem.New()
	newTestRepo(t, store)
	repo := openTestRepo(t, store, t.TempDir())
	rnd := rand.New(rand.NewPCG(3, 1))
	image := filepath.Join(t.TempDir(), "image")
	for i, slab := range []int{256 << 10, 1 << 20, 1<<20 + 3*pageSize, 4 << 20} {
		for _, readers := range []int{1, 3} {
			for _, kind := range []cdc.Kind{cdc.Rabin, cdc.Aligned} {
				data := volume(rnd, 5<<20+i*777)
				if err := os.WriteFile(image, data, 0o600); err != nil {
					t.Fatal(err)
				}
				rep, err := Backup(t.Context(), repo, BackupOptions{
					Source: image, Volume: "v", Full: true, Memory: MinMemory, Chunker: kind,
					tune: func(p *plan) { p.slabBytes, p.slabs, p.readers = slab, readers+2, readers },
				})
				if err != nil {
					t.Fatal(err)
				}
				p, err := repo.Resolve(t.Context(), rep.Point)
				if err != nil {
					t.Fatal(err)
				}
				want := sequential(repo.CutParams(kind), data, chunk.NewNamer(repo.Keyring().Current().NameKey("")).Name)
				if diff := cmp.Diff(want, chunksOf(t, repo, p)); diff != "" {
					t.Fatalf("slabs of %d, %d readers, %s:\n%s", slab, readers, kind, diff)
				}
				if len(want) < 12 {
					t.Fatalf("only %d chunks: this proves little", len(want))
				}
			}
		}
	}
}
