// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"
	"pgregory.net/rapid"
)

func TestIDText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var id ID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "id"))
		got, err := ParseID(id.String())
		if err != nil || got != id {
			t.Fatalf("ParseID(%s) = %s, %v", id, got, err)
		}
		if !strings.HasPrefix(id.String(), id.Short()) || len(id.Short()) != 8 {
			t.Fatalf("Short %q of %q", id.Short(), id)
		}
		text, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		var back ID
		if err := json.Unmarshal(text, &back); err != nil || back != id {
			t.Fatalf("JSON %s: %s, %v", text, back, err)
		}
	})
}

func TestParseIDRefuses(t *testing.T) {
	good := strings.Repeat("0a", 32)
	for name, s := range map[string]string{
		"empty":      "",
		"short":      good[1:],
		"long":       good + "0",
		"upper case": strings.ToUpper(good),
		"no digit":   "g" + good[1:],
		"sign":       "+" + good[1:],
	} {
		t.Run(name, func(t *testing.T) {
			if id, err := ParseID(s); err == nil || !id.IsZero() {
				t.Errorf("ParseID(%q) = %s, %v", s, id, err)
			}
		})
	}
}

func TestCompareAndZero(t *testing.T) {
	a, b := ID{31: 1}, ID{0: 1}
	if a.Compare(b) != -1 || b.Compare(a) != 1 || a.Compare(a) != 0 {
		t.Error("names are not ordered by their bytes")
	}
	if a.IsZero() || !(ID{}).IsZero() {
		t.Error("IsZero")
	}
}

func TestClass(t *testing.T) {
	want := map[Class]string{0: "class 0", Base: "base", Patch: "patch", Map: "map", 4: "class 4"}
	for c, s := range want {
		if c.String() != s || c.Valid() == (c == 0 || c == 4) {
			t.Errorf("class %d: %q, valid %v", uint8(c), c, c.Valid())
		}
	}
}

// TestNames compares with the library called plainly, and thereby shows that
// reuse leaves nothing behind.
func TestNames(t *testing.T) {
	key := [32]byte{1, 2, 3}
	n := NewNamer(key)
	rapid.Check(t, func(t *rapid.T) {
		p := drawBytes(t, rapid.OneOf(rapid.IntRange(0, 70_000), rapid.Map(rapid.IntRange(0, 16), func(k int) int { return k * 4096 })))
		h, err := blake3.NewKeyed(key[:])
		if err != nil {
			t.Fatal(err)
		}
		h.Write(p)
		want := h.Sum(nil)
		if id := n.Name(p); [32]byte(want) != [32]byte(id) {
			t.Fatalf("name %s, want %x", id, want)
		}
	})
}

// TestDigests compares with GMAC bit by bit as NIST SP 800-38D has it.
func TestDigests(t *testing.T) {
	key := [32]byte{1, 2, 3}
	d := NewDigester(key)
	rapid.Check(t, func(t *rapid.T) {
		p := drawBytes(t, rapid.IntRange(0, 600))
		want := plainGMAC(t, key, p)
		if got := d.Sum(p); uint64(got) != binary.LittleEndian.Uint64(want[:8]) {
			t.Fatalf("digest %x, want %x", got, want[:8])
		}
	})
}

func drawBytes(t *rapid.T, length *rapid.Generator[int]) []byte {
	p := make([]byte, length.Draw(t, "len"))
	for i := range p {
		p[i] = byte(i * 7)
	}
	return p
}

func plainGMAC(t *rapid.T, key [32]byte, data []byte) (tag [16]byte) {
	c, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	var h, y [16]byte
	c.Encrypt(h[:], make([]byte, 16))
	padded := append(bytes.Clone(data), make([]byte, (16-len(data)%16)%16)...)
	padded = binary.BigEndian.AppendUint64(padded, uint64(8*len(data)))
	padded = binary.BigEndian.AppendUint64(padded, 0)
	for ; len(padded) > 0; padded = padded[16:] {
		for i := range y {
			y[i] ^= padded[i]
		}
		y = gf128(y, h)
	}
	counter := [16]byte{15: 1}
	c.Encrypt(tag[:], counter[:])
	for i := range tag {
		tag[i] ^= y[i]
	}
	return tag
}

// gf128 multiplies in GF(2^128), first bit first, modulo 1 + a + a^2 + a^7 + a^128.
func gf128(x, y [16]byte) (z [16]byte) {
	for i := range 128 {
		if x[i/8]&(0x80>>(i%8)) != 0 {
			for j := range z {
				z[j] ^= y[j]
			}
		}
		odd := y[15]&1 != 0
		for j := 15; j > 0; j-- {
			y[j] = y[j]>>1 | y[j-1]<<7
		}
		y[0] >>= 1
		if odd {
			y[0] ^= 0xe1
		}
	}
	return z
}

func TestHashesDoNotAllocate(t *testing.T) {
	n, d := NewNamer([32]byte{1}), NewDigester([32]byte{2})
	for _, size := range []int{0, 512, 4096, 8192, 65536, 300_001} {
		p := make([]byte, size)
		if got := testing.AllocsPerRun(20, func() { n.Name(p); d.Sum(p) }); got != 0 {
			t.Errorf("%d bytes: %v allocations", size, got)
		}
	}
}

func TestDigestPieces(t *testing.T) {
	type part struct{ ChunkOff, VolumeOff, Length int64 }
	got := []part{}
	DigestPieces([]Piece{{4096, 8192}, {20000, 0}, {32768, 100}}, 8192, func(c, v, n int64) {
		got = append(got, part{c, v, n})
	})
	want := []part{{0, 4096, 4096}, {4096, 8192, 4096}, {8192, 32768, 100}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDigestPiecesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := int64(1) << rapid.IntRange(0, 16).Draw(t, "log2")
		pieces := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Piece {
			return Piece{rapid.Int64Range(0, 1<<40).Draw(t, "off"), rapid.Int64Range(0, 64*size).Draw(t, "len")}
		}), 0, 5).Draw(t, "pieces")
		var rebuilt []Piece
		var at, calls int64
		DigestPieces(pieces, size, func(c, v, n int64) {
			if c != at || n <= 0 || v/size != (v+n-1)/size {
				t.Fatalf("part (%d, %d, %d) at %d", c, v, n, at)
			}
			if k := len(rebuilt); v%size != 0 || k == 0 || rebuilt[k-1].End() != v {
				rebuilt = append(rebuilt, Piece{v, n})
			} else {
				rebuilt[k-1].Length += n
			}
			at += n
			calls++
		})
		var total int64
		for _, p := range pieces {
			total += p.Length
		}
		if at != total || calls != CountDigestPieces(pieces, size) {
			t.Fatalf("%d bytes in %d calls, want %d in %d", at, calls, total, CountDigestPieces(pieces, size))
		}
	})
	DigestPieces([]Piece{{0, 4096}}, 0, func(_, _, _ int64) { t.Error("called for size 0") })
}

func BenchmarkName(b *testing.B) {
	n, p := NewNamer([32]byte{1}), make([]byte, 512<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		n.Name(p)
	}
}

func BenchmarkDigest(b *testing.B) {
	for name, size := range map[string]int{"4KiB": 4 << 10, "16KiB": 16 << 10, "64KiB": 64 << 10} {
		b.Run(name, func(b *testing.B) {
			d, p := NewDigester([32]byte{1}), make([]byte, size)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				d.Sum(p)
			}
		})
	}
}
