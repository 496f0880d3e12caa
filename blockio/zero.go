// SPDX-License-Identifier: Apache-2.0

package blockio

import "bytes"

// zeroLine is what the first cache line of a buffer is compared with; it is never written.
var zeroLine [64]byte

// IsZero reports whether b holds nothing but zeros. A first line of zeros, and every line equal to the one
// before it, make a buffer of zeros; the runtime's vectorised comparison does both, and measured faster than
// a page of zeros to compare with and than 64-bit words (BenchmarkIsZero has all of them).
func IsZero(b []byte) bool {
	if len(b) <= len(zeroLine) {
		return bytes.Equal(b, zeroLine[:len(b)])
	}
	return bytes.Equal(b[:len(zeroLine)], zeroLine[:]) && bytes.Equal(b[:len(b)-len(zeroLine)], b[len(zeroLine):])
}

// DataRuns calls fn for every maximal run of pages of b that are not all zero, in ascending order. Pages
// begin at multiples of page from the start of b; the last one may be short. fn is not called for zeros.
func DataRuns(b []byte, page int, fn func(off, n int)) {
	if page <= 0 {
		page = PageSize
	}
	start := -1
	for off := 0; off < len(b); off += page {
		if zero := IsZero(b[off:min(off+page, len(b))]); !zero && start < 0 {
			start = off
		} else if zero && start >= 0 {
			fn(start, off-start)
			start = -1
		}
	}
	if start >= 0 {
		fn(start, len(b)-start)
	}
}
