// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// plainTOC returns the plaintext of a whole table of contents, the offset it
// lies at and the frames before it.
func plainTOC(t testing.TB, s spec) (toc []byte, base int64, frames uint32) {
	t.Helper()
	name, b := s.bytes(t, 1)
	end, err := parseTrailer(name, b, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Cipher(testKeyring(t), b)
	if err != nil {
		t.Fatal(err)
	}
	base = int64(len(b)) - trailerSize - int64(end.toc)
	aad := append(bytes.Clone(b[:HeaderSize]), b[len(b)-trailerSize:]...)
	toc, err = c.Open(nil, b[base:len(b)-trailerSize], aad, seal.FrameTOC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return toc, base, end.frames
}

// encodeTOC writes a decoded table again.
func encodeTOC(toc *TOC) []byte {
	out := appendTOCHead(nil, toc.Header, len(toc.Chunks))
	for _, c := range toc.Chunks {
		out = appendChunkHead(out, c.ID, int(c.Plain))
		for _, s := range c.FrameStored {
			out = appendFrame(out, s)
		}
		out = appendOrigin(out, Info{DigestSize: c.DigestSize, Pieces: c.Pieces}, c.Digests)
	}
	return out
}

func TestTOCTruncation(t *testing.T) {
	b, base, frames := plainTOC(t, smallSpec(1, t))
	for n := range b {
		_, err := decodeTOC("o", base, b[:n], chunk.Base, frames)
		if c := asCorrupt(t, err, "o"); c.Offset < base || c.Offset > base+int64(n) {
			t.Fatalf("cut at %d: %v", n, c)
		}
	}
	_, err := decodeTOC("o", base, append(bytes.Clone(b), 0), chunk.Base, frames)
	asCorrupt(t, err, "o")
	_, err = decodeTOC("o", base, b, chunk.Patch, frames)
	asCorrupt(t, err, "o")
	_, err = decodeTOC("o", base, b, chunk.Base, frames+1)
	asCorrupt(t, err, "o")
	_, err = decodeTOC("o", base+1, b, chunk.Base, frames)
	asCorrupt(t, err, "o")
}

// TestHostileTOC writes tables that are authentic and wrong.
func TestHostileTOC(t *testing.T) {
	head := func(class byte, domain uint64, count uint64) []byte {
		b := []byte{tocVersion, class}
		b = binary.AppendUvarint(b, domain)
		b = append(b, make([]byte, min(domain, 100))...)
		b = append(b, make([]byte, 16)...)
		b = append(b, 1, 2)
		return binary.AppendUvarint(b, count)
	}
	const most = 1<<64 - 1
	// record: name, plain length, frames…, digest size, pieces
	record := func(plain uint64, rest ...uint64) []byte {
		b := append(head(1, 0, 1), make([]byte, 32)...)
		b = binary.AppendUvarint(b, plain)
		for _, v := range rest {
			b = binary.AppendUvarint(b, v)
		}
		return append(b, make([]byte, 64)...)
	}
	raw := func(n uint64) uint64 { return (n+16)<<1 | 1 }
	for name, b := range map[string][]byte{
		"empty":             {},
		"version":           append([]byte{9}, head(1, 0, 0)[1:]...),
		"domain":            head(1, 65, 0),
		"huge domain":       head(1, most, 0),
		"huge count":        head(1, 0, most),
		"count beyond":      append(head(1, 0, 3), make([]byte, 2*minRecord)...),
		"long uvarint":      append(head(1, 0, 0)[:21], bytes.Repeat([]byte{0xff}, 12)...),
		"seq of 33 bits":    append(head(1, 0, 0)[:20], 0x80, 0x80, 0x80, 0x80, 0x10, 0),
		"no plaintext":      record(0, 0, 0, 0),
		"plaintext":         record(MaxPlain+1, raw(100), 0, 0, 0),
		"huge plaintext":    record(most, raw(100), 0, 0, 0),
		"raw frame length":  record(100, raw(101), 0, 0, 0),
		"compressed longer": record(100, 116<<1, 0, 0, 0),
		"compressed to nil": record(100, 16<<1, 0, 0, 0),
		"huge frame":        record(100, most, 0, 0, 0),
		"digest size":       record(100, raw(100), 17, 1, 0, 0, 100),
		"small digest size": record(100, raw(100), 11, 1, 0, 0, 100),
		"digests no pieces": record(100, raw(100), 12, 0, 0),
		"huge pieces":       record(100, raw(100), 0, most, 0),
		"many pieces":       record(100, raw(100), 0, MaxPlain, 0),
		"unit":              record(100, raw(100), 0, 1, 3, 0, 100),
		"unit of nothing":   record(100, raw(100), 0, 0, 12),
		"piece before zero": record(100, raw(100), 0, 1, 0, 1, 100),
		"piece far out":     record(100, raw(100), 0, 1, 0, most-1, 100),
		"piece in pages":    record(4096, raw(4096), 0, 1, 12, (maxVolume>>12+1)<<1, 1),
		"empty piece":       record(100, raw(100), 0, 1, 0, 0, 0),
		"piece too long":    record(100, raw(100), 0, 1, 0, 0, 101),
		"piece too short":   record(100, raw(100), 0, 1, 0, 0, 99),
		"huge piece":        record(100, raw(100), 0, 1, 0, 0, most),
		"digests beyond":    record(1<<20, append(bytes2uint(bytes.Repeat([]byte{2}, 16)), 12, 1, 12, 0, 256)...),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeTOC("o", 1<<20, b, chunk.Base, 1)
			asCorrupt(t, err, "o")
		})
	}
}

// bytes2uint gives frames of stored length 17 for each byte.
func bytes2uint(b []byte) []uint64 {
	out := make([]uint64, len(b))
	for i := range out {
		out[i] = 17 << 1
	}
	return out
}

func FuzzDecodeTOC(f *testing.F) {
	s := smallSpec(1, f)
	s.sources[1].info.Pieces = []chunk.Piece{{Offset: 1 << 30, Length: 20}, {Offset: 5, Length: 30}}
	b, base, frames := plainTOC(f, s)
	f.Add(b, base, frames)
	s = smallSpec(1, f)
	s.sources = s.sources[2:]
	b, base, frames = plainTOC(f, s)
	f.Add(b, base, frames)
	f.Add(b[:len(b)-1], base, frames)
	f.Add(append(b[:2:2], bytes.Repeat([]byte{0xff}, 60)...), base, frames)
	f.Fuzz(func(t *testing.T, b []byte, base int64, frames uint32) {
		if base < HeaderSize || base > MaxPack {
			return
		}
		toc, err := decodeTOC("o", base, b, chunk.Base, frames)
		if err != nil {
			asCorrupt(t, err, "o")
			return
		}
		end := int64(HeaderSize)
		for _, c := range toc.Chunks {
			if int64(c.Offset) != end || len(c.FrameStored) != frameCount(int(c.Plain)) {
				t.Fatalf("chunk %+v at %d", c, end)
			}
			end += int64(c.Stored)
		}
		if end != base {
			t.Fatalf("frames end at %d, want %d", end, base)
		}
		again, err := decodeTOC("o", base, encodeTOC(toc), chunk.Base, frames)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(toc, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add(makeHeader(chunk.Patch, seal.KeyID{1}, [32]byte{2}))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		class, key, salt, err := ParseHeader(b)
		if err == nil && !bytes.Equal(makeHeader(class, key, salt), b[:HeaderSize]) {
			t.Fatalf("header %x is read as %s, %s, %x", b, class, key, salt)
		}
	})
}

// FuzzScan seals what the fuzzer says: per frame 8 bytes of header, then as
// many bytes of payload as the header announces and there are.
func FuzzScan(f *testing.F) {
	k := testKeyring(f)
	cipher, err := k.Current().PackCipher([32]byte{})
	if err != nil {
		f.Fatal(err)
	}
	one := func(payload, plain uint32, flags byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, payload)
		b = binary.LittleEndian.AppendUint32(b, plain|uint32(flags)<<24)
		return append(b, make([]byte, min(payload, 100))...)
	}
	f.Add(one(21, 5, flagRaw|flagFirst|flagLast))
	f.Add(append(one(60, chunk.FrameSize, flagFirst), one(20, 7, flagLast)...))
	f.Add(one(1<<32-1, 1<<24-1, 0xff))
	f.Add(append(one(60, chunk.FrameSize, flagFirst), one(60, chunk.FrameSize, flagFirst)...))
	f.Fuzz(func(t *testing.T, script []byte) {
		b := makeHeader(chunk.Base, k.Current().ID(), [32]byte{})
		for n := uint64(0); len(script) >= 8; n++ {
			b = cipher.Seal(b, script[:8], nil, seal.FrameHeader, n)
			size := min(int64(binary.LittleEndian.Uint32(script)), int64(len(script)-8))
			b = append(b, script[8:8+size]...)
			script = script[8+size:]
		}
		at := HeaderSize
		d := NewDecoder()
		err := Scan(k, "o", b, func(e Entry, stored []byte) error {
			if int(e.Offset) != at || int(e.Stored) != len(stored) || e.Plain < 1 || e.Plain > MaxPlain {
				t.Fatalf("entry %+v at %d with %d bytes", e, at, len(stored))
			}
			at += len(stored)
			if _, err := d.Chunk(cipher, "o", e, stored, nil); err != nil {
				asCorrupt(t, err, "o")
			}
			return nil
		})
		asCorrupt(t, err, "o") // there is no trailer
	})
}
