// SPDX-License-Identifier: Apache-2.0

// Package blockio reads and writes volumes: block devices and raw image files.
//
// It knows offsets and bytes and nothing of chunks, snapshots or claims. Start with OpenSource and
// (*Source).ReadAt for reading, OpenTarget and (*Target).WriteAt for writing, NewArena for the buffers
// both like best, and DataRuns to see which pages of a buffer hold anything.
//
// Invariants:
//
//	I1  ReadAt either fills the whole buffer with the volume's bytes or returns an error. The one error
//	    after which a buffer may still be used is *ReadError: everything outside its Ranges is true,
//	    everything inside reads as zeros and is not the volume's content.
//	I2  A volume whose size changes under a reader is never padded, cut or re-interpreted: *ChangedSizeError.
//	I3  Neither reading nor writing leaves a volume in the page cache. Reads are O_DIRECT where the file
//	    system and the alignment allow it; all other reads drop their pages behind them; writes are flushed
//	    and dropped window by window, so at most a few windows are dirty at once.
//	I4  A device that the kernel uses (mounted, swap, held by another device, opened exclusively) is not
//	    opened for writing unless forced; while a target device is open, nobody can mount it.
//	I5  A write-back error is never lost: the kernel reports it once, so a Target remembers the first one and
//	    every later call returns it.
//	I6  Buffers of an Arena lie outside the Go heap, at page-aligned addresses; memory is returned to the
//	    system only when every buffer is home.
//
// Sizes and offsets are bytes. Alignment is a fact of the source (logical block size, or what statx says)
// and never a duty of the caller: unaligned requests are merely slower.
package blockio
