// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"testing"
	"unsafe"
)

// The ways to find zeros that were measured; IsZero is the fastest of them. They must agree (TestIsZeroAgree).
var zeroFinders = []struct {
	name string
	fn   func([]byte) bool
}{
	{"IsZero", IsZero},
	{"equal-page", zeroByEqual},
	{"binary-8x8", zeroByBinary},
	{"unsafe-8x8", zeroByUnsafe},
}

var zeroPage [PageSize]byte

func zeroByEqual(b []byte) bool {
	for len(b) > PageSize {
		if !bytes.Equal(b[:PageSize], zeroPage[:]) {
			return false
		}
		b = b[PageSize:]
	}
	return bytes.Equal(b, zeroPage[:len(b)])
}

func zeroByBinary(b []byte) bool {
	for len(b) >= 64 {
		w := b[:64]
		if binary.LittleEndian.Uint64(w)|binary.LittleEndian.Uint64(w[8:])|
			binary.LittleEndian.Uint64(w[16:])|binary.LittleEndian.Uint64(w[24:])|
			binary.LittleEndian.Uint64(w[32:])|binary.LittleEndian.Uint64(w[40:])|
			binary.LittleEndian.Uint64(w[48:])|binary.LittleEndian.Uint64(w[56:]) != 0 {
			return false
		}
		b = b[64:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func zeroByUnsafe(b []byte) bool {
	n := len(b) / 64
	if n > 0 {
		for _, w := range unsafe.Slice((*[8]uint64)(unsafe.Pointer(unsafe.SliceData(b))), n) {
			if w[0]|w[1]|w[2]|w[3]|w[4]|w[5]|w[6]|w[7] != 0 {
				return false
			}
		}
	}
	for _, c := range b[n*64:] {
		if c != 0 {
			return false
		}
	}
	return true
}

func BenchmarkIsZero(b *testing.B) {
	for _, size := range []int{4 << 10, 256 << 10, 64 << 20} {
		buf := make([]byte, size)
		for _, f := range zeroFinders {
			b.Run(f.name+"/"+strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if !f.fn(buf) {
						b.Fatal("zeros not recognised")
					}
				}
			})
		}
	}
}

// BenchmarkDataRuns walks 1 MiB by pages: all zero, all data, and pages that betray themselves at the very end.
func BenchmarkDataRuns(b *testing.B) {
	const size = 1 << 20
	late := make([]byte, size)
	for off := PageSize - 1; off < size; off += 2 * PageSize {
		late[off] = 1
	}
	for _, c := range []struct {
		name string
		buf  []byte
	}{{"zero", make([]byte, size)}, {"data", bytes.Repeat([]byte{7}, size)}, {"every-second-late", late}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			total := 0
			for b.Loop() {
				DataRuns(c.buf, PageSize, func(_, n int) { total += n })
			}
		})
	}
}
