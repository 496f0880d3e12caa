// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
	"github.com/zeebo/blake3"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write golden files anew")

// drawPlain draws a chunk around the edges that matter: frames, and data that
// shrinks, does not, or does in part.
func drawPlain(t *rapid.T) []byte {
	n := rapid.OneOf(
		rapid.IntRange(1, 300),
		rapid.Map(rapid.IntRange(-20, 20), func(d int) int { return chunk.FrameSize + d }),
		rapid.IntRange(1, 3*chunk.FrameSize),
		rapid.Just(2*chunk.FrameSize),
	).Draw(t, "plain length")
	seed := rapid.Uint64Range(0, 1<<20).Draw(t, "seed")
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return noise(seed, n)
	case 1:
		return pages(seed, n+pageSize)[:n]
	case 2:
		return make([]byte, n)
	}
	mixed := noise(seed, n)
	clear(mixed[n/2:])
	return mixed
}

// drawInfo draws where a base or patch chunk came from.
func drawInfo(t *rapid.T, plain int) Info {
	var in Info
	unit := rapid.SampledFrom([]int64{1, 512, 4096}).Draw(t, "unit")
	var end int64
	for left := int64(plain); left > 0 && rapid.IntRange(0, 9).Draw(t, "pieces?") > 0 || len(in.Pieces) > 0 && left > 0; {
		n := left
		if len(in.Pieces) < 20 {
			n = min(left, unit*rapid.Int64Range(1, 40).Draw(t, "piece"))
		}
		off := max(0, end+unit*rapid.Int64Range(-100, 1<<30).Draw(t, "gap"))
		in.Pieces = append(in.Pieces, chunk.Piece{Offset: off, Length: n})
		end, left = off+n, left-n
	}
	if len(in.Pieces) > 0 {
		in.DigestSize = rapid.SampledFrom([]int{0, 4096, 8192, 16384, 32768, 65536}).Draw(t, "digest size")
	}
	return in
}

func drawSpec(t *rapid.T, tt testing.TB) spec {
	s := spec{header: Header{
		Class:   rapid.SampledFrom([]chunk.Class{chunk.Base, chunk.Patch, chunk.Map}).Draw(t, "class"),
		Domain:  rapid.StringMatching(`[a-z]{0,64}`).Draw(t, "domain"),
		Session: rapid.Uint64().Draw(t, "session"),
		Seq:     rapid.Uint32().Draw(t, "seq"),
	}}
	for range rapid.IntRange(1, 6).Draw(t, "chunks") {
		src := source{plain: drawPlain(t)}
		if s.header.Class != chunk.Map {
			src.info = drawInfo(t, len(src.plain))
		}
		s.sources = append(s.sources, src)
	}
	s.name(tt)
	return s
}

// TestRoundTrip builds packs with chunks encoded and added at once in any
// order, and reads them back in every way there is.
func TestRoundTrip(t *testing.T) {
	k := testKeyring(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := drawSpec(rt, t)
		order := rapid.Permutation(seq(len(s.sources))).Draw(rt, "order")
		f := buildConcurrently(rt, k.Current(), s, order)
		stored := bytes.Join(f.Body, nil)
		checkFinished(rt, s, f, stored)
		checkTOC(rt, k, s, f, stored)
		checkScan(rt, k, s, f, stored)
		if err := Verify(k, f.Name(), stored); err != nil {
			rt.Fatal(err)
		}
		f.Release()
	})
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func buildConcurrently(t *rapid.T, keys *seal.Keys, s spec, order []int) *Finished {
	b, err := NewBuilder(keys, s.header, MaxPack)
	if err != nil {
		t.Fatal(err)
	}
	tickets := make([]Ticket, len(s.sources))
	for i, src := range s.sources {
		var ok bool
		if tickets[i], ok = b.Reserve(len(src.plain)); !ok {
			t.Fatal("a chunk does not fit")
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for w := range errs {
		wg.Go(func() {
			e := NewEncoder(keys.DigestKey(s.header.Domain))
			for k := w; k < len(order); k += len(errs) {
				i := order[k]
				enc, err := e.Encode(tickets[i], s.sources[i].plain, s.sources[i].info)
				errs[w] = errors.Join(errs[w], err, b.Add(tickets[i], enc))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	f, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func checkFinished(t *rapid.T, s spec, f *Finished, stored []byte) {
	if int64(len(stored)) != f.Size || blake3.Sum256(stored) != f.Hash || f.Header != s.header {
		t.Fatalf("%d bytes, size %d, hash %x, header %+v", len(stored), f.Size, f.Hash, f.Header)
	}
	frames, data := uint32(0), int64(0)
	for i, e := range f.Entries {
		src := s.sources[i]
		want := Entry{ID: src.info.ID, Offset: uint32(HeaderSize + data), Stored: e.Stored, Frame: frames, Plain: uint32(len(src.plain))}
		if e != want || int(e.Stored) > len(src.plain)+frameCount(len(src.plain))*frameCost {
			t.Fatalf("entry %d is %+v, want %+v", i, e, want)
		}
		frames += uint32(frameCount(len(src.plain)))
		data += int64(e.Stored)
	}
	if s.header.Class == chunk.Map {
		data = 0
	}
	if f.DataBytes != data {
		t.Fatalf("data bytes %d, want %d", f.DataBytes, data)
	}
}

func checkTOC(t *rapid.T, k *seal.Keyring, s spec, f *Finished, stored []byte) {
	toc, err := readTOC(k, "object", stored)
	if err != nil {
		t.Fatal(err)
	}
	if toc.Header != s.header || toc.KeyID != k.Current().ID() || len(toc.Chunks) != len(s.sources) {
		t.Fatalf("header %+v, key %s, %d chunks", toc.Header, toc.KeyID, len(toc.Chunks))
	}
	cipher, err := toc.Cipher(k)
	if err != nil {
		t.Fatal(err)
	}
	d, digester := NewDecoder(), chunk.NewDigester(k.Current().DigestKey(s.header.Domain))
	for i := range toc.Chunks {
		c, src := &toc.Chunks[i], s.sources[i]
		if c.Entry != f.Entries[i] || c.DigestSize != src.info.DigestSize {
			t.Fatalf("chunk %d is %+v", i, c)
		}
		if diff := cmp.Diff(src.info.Pieces, c.Pieces, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		var digests []chunk.Digest
		chunk.DigestPieces(c.Pieces, int64(c.DigestSize), func(off, _, n int64) {
			digests = append(digests, digester.Sum(src.plain[off:off+n]))
		})
		if diff := cmp.Diff(digests, c.Digests, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		whole, err := d.Chunk(cipher, "object", c.Entry, stored[c.Offset:c.Offset+c.Stored], []byte("prefix"))
		if err != nil || !bytes.Equal(whole, append([]byte("prefix"), src.plain...)) {
			t.Fatalf("chunk %d: %d bytes, %v", i, len(whole), err)
		}
		var joined []byte
		for j := range c.FrameStored {
			off, n := c.FrameRange(j)
			if joined, err = d.Frame(cipher, "object", c, j, stored[off:off+n], joined); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(joined, src.plain) {
			t.Fatalf("the frames of chunk %d are not its plaintext", i)
		}
	}
}

func checkScan(t *rapid.T, k *seal.Keyring, s spec, f *Finished, stored []byte) {
	cipher, err := Cipher(k, stored[:HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	d, i := NewDecoder(), 0
	if err := Scan(k, "object", stored, func(e Entry, b []byte) error {
		want := f.Entries[i]
		want.ID = chunk.ID{}
		plain, err := d.Chunk(cipher, "object", e, b, nil)
		if e != want || err != nil || !bytes.Equal(plain, s.sources[i].plain) {
			t.Fatalf("scanned %+v, want %+v, %v", e, want, err)
		}
		i++
		return nil
	}); err != nil || i != len(s.sources) {
		t.Fatalf("scanned %d of %d chunks: %v", i, len(s.sources), err)
	}
}

// TestLargestChunk takes more slabs than an Encoded has room for in itself.
func TestLargestChunk(t *testing.T) {
	s := spec{header: testHeader, sources: []source{{plain: noise(3, MaxPlain), info: Info{DigestSize: 4096, Pieces: []chunk.Piece{{Offset: 0, Length: MaxPlain}}}}}}
	s.name(t)
	name, stored := s.bytes(t, 1)
	if err := Verify(testKeyring(t), name, stored); err != nil {
		t.Error(err)
	}
}

// TestLongTOC needs a second read of the tail.
func TestLongTOC(t *testing.T) {
	s := spec{header: testHeader}
	for i := range 3000 {
		s.sources = append(s.sources, source{plain: []byte{byte(i), byte(i >> 8)}})
	}
	s.name(t)
	_, stored := s.bytes(t, 1)
	toc, err := readTOC(testKeyring(t), "object", stored)
	if err != nil || len(toc.Chunks) != 3000 || len(stored) < 3*tailGuess {
		t.Fatalf("pack of %d bytes: %v", len(stored), err)
	}
}

func TestGolden(t *testing.T) {
	s := smallSpec(7, t)
	name, stored := s.bytes(t, 42)
	if *update {
		if err := os.WriteFile("testdata/pack.golden", stored, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/pack.golden")
	if err != nil {
		t.Fatal(err)
	}
	// What was written once must be read for ever, also should another release
	// of LZ4 write other blocks, in which case only the comparison may change.
	toc, err := readTOC(testKeyring(t), "golden", want)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(testKeyring(t), Name(toc.Session, toc.Seq, blake3.Sum256(want)), want); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(stored, want) {
		t.Errorf("%s: %d bytes differ from the %d golden ones", name, len(stored), len(want))
	}
}

func TestName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		session, seq := rapid.Uint64().Draw(t, "session"), rapid.Uint32().Draw(t, "seq")
		hash := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
		s, q, h, err := ParseName(Name(session, seq, hash))
		if err != nil || s != session || q != seq || h != hash {
			t.Fatalf("%s: %d, %d, %x, %v", Name(session, seq, hash), s, q, h, err)
		}
	})
	if got, want := Name(7, 1, [32]byte{0xab}), "packs/0000000007/000001-ab00000000000000000000000000000000000000000000000000000000000000"; got != want {
		t.Errorf("name %s, want %s", got, want)
	}
}

func FuzzParseName(f *testing.F) {
	f.Add(Name(1, 2, [32]byte{3}))
	f.Add(Name(1<<63, 1<<31, [32]byte{0xff}))
	f.Add("packs/1/000002-" + string(bytes.Repeat([]byte("0"), 64)))
	f.Add("packs/+000000001/000002-" + string(bytes.Repeat([]byte("A"), 64)))
	f.Fuzz(func(t *testing.T, s string) {
		session, seq, hash, err := ParseName(s)
		if err == nil && Name(session, seq, hash) != s {
			t.Fatalf("%q is read as %q", s, Name(session, seq, hash))
		}
	})
}
