// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"pgregory.net/rapid"
)

func TestReserveKeepsTheTarget(t *testing.T) {
	keys := testKeyring(t).Current()
	e := NewEncoder(keys.DigestKey(""))
	rapid.Check(t, func(t *rapid.T) {
		target := rapid.IntRange(2_000, 600_000).Draw(t, "target")
		b, err := NewBuilder(keys, testHeader, target)
		if err != nil {
			t.Fatal(err)
		}
		var flying []Ticket
		land := func() {
			for _, ticket := range flying {
				plain := pages(1, ticket.plain+pageSize)[:ticket.plain]
				enc, err := e.Encode(ticket, plain, Info{DigestSize: 4096, Pieces: []chunk.Piece{{Offset: 0, Length: int64(len(plain))}}})
				if err != nil {
					t.Fatal(err)
				}
				if err := b.Add(ticket, enc); err != nil {
					t.Fatal(err)
				}
			}
			flying = nil
		}
		for {
			ticket, ok := b.Reserve(rapid.IntRange(1, 100_000).Draw(t, "plain"))
			if !ok {
				break
			}
			if flying = append(flying, ticket); rapid.Bool().Draw(t, "land") {
				land()
			}
		}
		land()
		f, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Release()
		if f.Size > int64(target) && len(f.Entries) > 1 {
			t.Fatalf("%d chunks in %d bytes, target %d", len(f.Entries), f.Size, target)
		}
	})
}

func TestReserveCountsWhatIsFinished(t *testing.T) {
	keys := testKeyring(t).Current()
	e := NewEncoder(keys.DigestKey(""))
	b, err := NewBuilder(keys, testHeader, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := b.Reserve(60_000)
	if _, ok := b.Reserve(60_000); ok {
		t.Error("two chunks of 60000 bytes in flight for 100000")
	}
	enc, err := e.Encode(first, make([]byte, 60_000), Info{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(first, enc); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Reserve(60_000); !ok || b.Chunks() != 2 {
		t.Error("no room although the first chunk shrank to nothing")
	}
	b.Discard()
	if _, ok := b.Reserve(1); ok {
		t.Error("reserved in a pack that was discarded")
	}
}

func TestAnyChunkFitsAnEmptyPack(t *testing.T) {
	b, err := NewBuilder(testKeyring(t).Current(), testHeader, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Reserve(MaxPlain); !ok {
		t.Error("an empty pack refuses its first chunk")
	}
}

func TestBuilderRefuses(t *testing.T) {
	keys := testKeyring(t).Current()
	for name, h := range map[string]Header{"class": {}, "domain": {Class: chunk.Base, Domain: strings.Repeat("d", MaxDomain+1)}} {
		if _, err := NewBuilder(keys, h, 1000); err == nil {
			t.Errorf("bad %s is taken", name)
		}
	}
	for _, target := range []int{-1, 0, MaxPack + 1} {
		if _, err := NewBuilder(keys, testHeader, target); err == nil {
			t.Errorf("target %d is taken", target)
		}
	}
}

func TestBuilderRefusesWrongOrder(t *testing.T) {
	keys := testKeyring(t).Current()
	e := NewEncoder(keys.DigestKey(""))
	b, err := NewBuilder(keys, testHeader, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(); err == nil {
		t.Error("an empty pack is finished")
	}
	one, _ := b.Reserve(1)
	two, _ := b.Reserve(1)
	enc, err := e.Encode(one, []byte{1}, Info{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(two, enc); err == nil {
		t.Error("a chunk takes another's place")
	}
	if err := b.Add(one, Encoded{}); err == nil {
		t.Error("nothing takes a place")
	}
	if err := b.Add(one, enc); err != nil {
		t.Error(err)
	}
	if err := b.Add(one, enc); err == nil {
		t.Error("a chunk is added twice")
	}
	if _, err := b.Finish(); err == nil {
		t.Error("a pack is finished with a chunk missing")
	}
	if enc, err = e.Encode(two, []byte{2}, Info{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(two, enc); err != nil {
		t.Error(err)
	}
	if _, err := b.Finish(); err != nil {
		t.Error(err)
	}
	if _, err := b.Finish(); err == nil {
		t.Error("a pack is finished twice")
	}
}

func TestEncodeRefuses(t *testing.T) {
	keys := testKeyring(t).Current()
	e := NewEncoder(keys.DigestKey(""))
	piece := func(off, n int64) Info { return Info{Pieces: []chunk.Piece{{Offset: off, Length: n}}} }
	sized := func(in Info, size int) Info { in.DigestSize = size; return in }
	many := Info{Pieces: make([]chunk.Piece, 300_000)}
	for i := range many.Pieces {
		many.Pieces[i] = chunk.Piece{Offset: int64(2 * i), Length: 1}
	}
	tests := map[string]struct {
		class chunk.Class
		plain int
		info  Info
	}{
		"empty":               {chunk.Base, 0, Info{}},
		"too long":            {chunk.Base, MaxPlain + 1, Info{}},
		"map with pieces":     {chunk.Map, 10, piece(0, 10)},
		"map with digests":    {chunk.Map, 10, Info{DigestSize: 4096}},
		"pieces too short":    {chunk.Base, 10, piece(0, 9)},
		"pieces too long":     {chunk.Base, 10, piece(0, 11)},
		"empty piece":         {chunk.Base, 10, Info{Pieces: []chunk.Piece{{Offset: 0, Length: 10}, {Offset: 50, Length: 0}}}},
		"negative piece":      {chunk.Base, 10, piece(-1, 10)},
		"piece far out":       {chunk.Base, 10, piece(maxVolume, 10)},
		"digest size 5000":    {chunk.Base, 10, sized(piece(0, 10), 5000)},
		"digest size 2048":    {chunk.Base, 10, sized(piece(0, 10), 2048)},
		"digest size 128 KiB": {chunk.Base, 10, sized(piece(0, 10), 128<<10)},
		"digests, no pieces":  {chunk.Base, 10, Info{DigestSize: 4096}},
		"too many pieces":     {chunk.Base, 300_000, many},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := testHeader
			h.Class = tt.class
			b, err := NewBuilder(keys, h, MaxPack)
			if err != nil {
				t.Fatal(err)
			}
			ticket, _ := b.Reserve(tt.plain)
			if _, err := e.Encode(ticket, make([]byte, tt.plain), tt.info); err == nil {
				t.Error("no error")
			}
		})
	}
	if _, err := e.Encode(Ticket{}, nil, Info{}); err == nil {
		t.Error("the zero Ticket is taken")
	}
	b, err := NewBuilder(keys, testHeader, 1000)
	if err != nil {
		t.Fatal(err)
	}
	ticket, _ := b.Reserve(5)
	if _, err := e.Encode(ticket, make([]byte, 6), Info{}); err == nil {
		t.Error("a chunk of another length than reserved is taken")
	}
}

// TestVerifyNoticesFaults damages what Encode is about to hand out, as memory
// would.
func TestVerifyNoticesFaults(t *testing.T) {
	keys := testKeyring(t).Current()
	e := NewEncoder(keys.DigestKey(""))
	for name, plain := range map[string][]byte{"compressed": pages(1, 65536), "raw": noise(1, 65536)} {
		t.Run(name, func(t *testing.T) {
			b, err := NewBuilder(keys, testHeader, 1000)
			if err != nil {
				t.Fatal(err)
			}
			ticket, _ := b.Reserve(len(plain))
			enc, err := e.Encode(ticket, plain, Info{})
			if err != nil {
				t.Fatal(err)
			}
			stored := enc.some[0]
			f, err := e.decoder.header(b.cipher, stored, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.verify(ticket, 0, f, stored, plain); err != nil {
				t.Fatal(err)
			}
			flip := func(b []byte, i int) []byte {
				b = bytes.Clone(b)
				b[i] ^= 4
				return b
			}
			other := f
			other.last = false
			for what, err := range map[string]error{
				"header":    e.verify(ticket, 0, f, flip(stored, 3), plain),
				"payload":   e.verify(ticket, 0, f, flip(stored, 1000), plain),
				"plaintext": e.verify(ticket, 0, f, stored, flip(plain, 65535)),
				"number":    e.verify(ticket, 1, f, stored, plain),
				"flags":     e.verify(ticket, 0, other, stored, plain),
			} {
				if !errors.Is(err, ErrVerify) {
					t.Errorf("%s: error %v", what, err)
				}
			}
		})
	}
}

// TestIncompressibleIsRaw holds for every length near where LZ4 begins to pay.
func TestIncompressibleIsRaw(t *testing.T) {
	for n := 1; n < 200; n++ {
		for name, plain := range map[string][]byte{"noise": noise(uint64(n), n), "zeros": make([]byte, n)} {
			_, stored := spec{header: testHeader, sources: []source{{plain: plain}}}.bytes(t, 1)
			toc, err := readTOC(testKeyring(t), "object", stored)
			if err != nil {
				t.Fatal(err)
			}
			s := toc.Chunks[0].FrameStored[0]
			if int(s.Payload()) > n+16 || s.Raw() != (int(s.Payload()) == n+16) || name == "noise" && !s.Raw() || name == "zeros" && n > 30 && s.Raw() {
				t.Errorf("%d bytes of %s: payload of %d bytes, raw %v", n, name, s.Payload(), s.Raw())
			}
		}
	}
}

func TestEncodeDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	keys := testKeyring(t).Current()
	e := NewEncoder(keys.DigestKey(""))
	for name, plain := range map[string][]byte{"pages": pages(1, 256<<10), "noise": noise(1, 256<<10)} {
		info := Info{DigestSize: 4096, Pieces: []chunk.Piece{{Offset: 4096, Length: int64(len(plain))}}}
		b, err := NewBuilder(keys, testHeader, MaxPack)
		if err != nil {
			t.Fatal(err)
		}
		tickets := make([]Ticket, 60)
		for i := range tickets {
			tickets[i], _ = b.Reserve(len(plain))
		}
		for range 60 { // slabs for all that follows
			b.putSlab(&slab{buf: make([]byte, slabSize)})
		}
		b.memory.all = append(make([]*slab, 0, 60), b.memory.partial...)
		i := 0
		if got := testing.AllocsPerRun(50, func() {
			enc, err := e.Encode(tickets[i], plain, info)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Add(tickets[i], enc); err != nil {
				t.Fatal(err)
			}
			i++
		}); got != 0 {
			t.Errorf("%s: %v allocations per Encode and Add", name, got)
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	s := smallSpec(1, t)
	_, stored := s.bytes(t, 1)
	k := testKeyring(t)
	toc, err := readTOC(k, "object", stored)
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := toc.Cipher(k)
	if err != nil {
		t.Fatal(err)
	}
	d, out, c := NewDecoder(), make([]byte, 0, 100_000), &toc.Chunks[0]
	off, n := c.FrameRange(1)
	if got := testing.AllocsPerRun(50, func() {
		if out, err = d.Chunk(cipher, "object", c.Entry, stored[c.Offset:c.Offset+c.Stored], out[:0]); err != nil {
			t.Fatal(err)
		}
		if out, err = d.Frame(cipher, "object", c, 1, stored[off:off+n], out[:0]); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations per chunk and frame", got)
	}
}
