// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"os"

	"golang.org/x/sys/unix"
)

// The page cache belongs to the node's applications (I3). Everything here is advice: a file system that does
// not take it costs memory, not correctness, so errors are dropped.

// expectScatter stops read-ahead: pages read ahead of a scattered range would stay behind for ever, and a
// sequential reader asks for megabytes at a time anyway.
func expectScatter(f *os.File) {
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)
}

// dropCached lets go of the cached clean pages that [off, off+n) touches; n = 0 is everything from off on.
func dropCached(f *os.File, off, n int64) {
	start := roundDown(off, PageSize)
	length := int64(0)
	if n > 0 {
		length = roundUp(off+n, PageSize) - start
	}
	_ = unix.Fadvise(int(f.Fd()), start, length, unix.FADV_DONTNEED)
}
