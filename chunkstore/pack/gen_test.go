// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

const pageSize = 8 << 10

// pages returns n bytes of 8 KiB pages as a database leaves them: a header,
// line pointers from the front, rows from the back, free space between. Rows
// repeat words and counters and hold some noise; LZ4 about halves them.
func pages(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	words := strings.Fields("pending shipped returned alpha beta gamma customer account street avenue north south 2026-03-01 2026-03-02 EUR USD true false")
	out := make([]byte, n)
	row := make([]byte, 0, 512)
	for at := 0; at+pageSize <= n; at += pageSize {
		page := out[at : at+pageSize]
		binary.LittleEndian.PutUint64(page, r.Uint64()>>24)
		binary.LittleEndian.PutUint32(page[12:], uint32(at/pageSize))
		low, high := 24, pageSize
		for k := uint64(0); ; k++ {
			row = binary.LittleEndian.AppendUint64(row[:0], seed<<32+uint64(at)+k)
			row = append(row, 0, 0, 0, 0, 1, 0, 24, 9)
			for range 9 {
				row = append(row, words[r.IntN(len(words))]...)
				row = append(row, 0)
			}
			for range 4 {
				row = binary.LittleEndian.AppendUint64(row, r.Uint64()>>(8*r.UintN(6)))
			}
			high -= len(row)
			if high < low+700 {
				break
			}
			copy(page[high:], row)
			binary.LittleEndian.PutUint32(page[low:], uint32(high)|uint32(len(row))<<16)
			low += 4
		}
	}
	return out
}

// noise returns n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	out := make([]byte, n)
	rand.NewChaCha8(key).Read(out)
	return out
}

// testKeyring opens the slot in testdata: two masters, the same for ever.
func testKeyring(t testing.TB) *seal.Keyring {
	t.Helper()
	slot, err := os.ReadFile("testdata/slot.json")
	if err != nil {
		t.Fatal(err)
	}
	k, err := seal.OpenSlot(slot, []byte("correct horse"), []byte(`{"version":1}`))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// source is a chunk to put in a pack.
type source struct {
	plain []byte
	info  Info
}

var testHeader = Header{Class: chunk.Base, Domain: "tenant", Volume: [16]byte{5, 6, 7}, Session: 12, Seq: 3}

// spec is a pack as a value.
type spec struct {
	header  Header
	sources []source
}

// smallSpec makes a pack of about a kilobyte: two frames that compress, one
// that does not, and digests.
func smallSpec(seed uint64, t testing.TB) spec {
	long := bytes.Repeat([]byte{byte(seed), 1, 2, 3, 4, 5, 6, 7}, 70_000/8)
	s := spec{header: testHeader, sources: []source{
		{plain: long, info: Info{DigestSize: 65536, Pieces: []chunk.Piece{{Offset: 1 << 20, Length: 70_000}}}},
		{plain: noise(seed, 50)},
		{plain: []byte("x")},
	}}
	s.name(t)
	return s
}

// name fills in the chunks' names.
func (s *spec) name(t testing.TB) {
	n := chunk.NewNamer(testKeyring(t).Current().NameKey(s.header.Domain))
	for i := range s.sources {
		s.sources[i].info.ID = n.Name(s.sources[i].plain)
	}
}

// build makes the pack with a salt of one repeated byte.
func (s spec) build(t testing.TB, salt byte) *Finished {
	t.Helper()
	keys := testKeyring(t).Current()
	b, err := newBuilder(keys, s.header, MaxPack, [32]byte(bytes.Repeat([]byte{salt}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	e := NewEncoder(keys.DigestKey(s.header.Domain))
	for _, src := range s.sources {
		ticket, ok := b.Reserve(len(src.plain))
		if !ok {
			t.Fatal("a chunk does not fit")
		}
		enc, err := e.Encode(ticket, src.plain, src.info)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(ticket, enc); err != nil {
			t.Fatal(err)
		}
	}
	f, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// bytes builds the pack and returns its name and stored bytes.
func (s spec) bytes(t testing.TB, salt byte) (string, []byte) {
	t.Helper()
	f := s.build(t, salt)
	defer f.Release()
	return f.Name(), bytes.Join(f.Body, nil)
}

func readTOC(k *seal.Keyring, object string, b []byte) (*TOC, error) {
	return ReadTOC(context.Background(), k, object, int64(len(b)), func(_ context.Context, off, n int64) ([]byte, error) {
		if off < 0 || n < 0 || off > int64(len(b))-n {
			return nil, errors.New("read outside of the object")
		}
		return b[off : off+n], nil
	})
}

// asCorrupt requires a CorruptError of this object.
func asCorrupt(t testing.TB, err error, object string) *seal.CorruptError {
	t.Helper()
	c, ok := errors.AsType[*seal.CorruptError](err)
	if !ok {
		t.Fatalf("error %v, want a CorruptError", err)
	}
	if c.Object != object || c.Offset < 0 || c.Detail == "" {
		t.Fatalf("error %#v, want object %s, an offset and a detail", c, object)
	}
	return c
}
