// SPDX-License-Identifier: Apache-2.0

// Package cdc cuts a stream of bytes into chunks by their content, in parallel, with exactly the cuts of one
// sequential pass.
//
// Equal content is cut equally wherever it lies, so it is stored once. Two kinds of cutting exist:
//
//   - rabin: github.com/restic/chunker. A cut falls after a byte where the Rabin fingerprint of the last 64 bytes has its
//     low Bits all zero, Min bytes or more after the last cut, and in any case Max bytes after it. The polynomial is
//     secret to the repository. Sees content that moved by any distance. The fingerprint of 64 zero bytes is zero, so
//     any such run cuts: in padded data chunks are hardly longer than Min.
//   - aligned: a cut falls after a 4 KiB page whose CRC32C has its low Bits-12 all zero, with the same Min and Max, in
//     whole pages counted from where the stream or the chunk began. Sees content that moved by whole pages, which is
//     what file systems do to it, at many times the speed. No secret is in it: who sees the sizes of chunks learns
//     something of their content.
//
// # Parallel and exact
//
// The stream is handed over in blocks. Workers [Scanner.Scan] blocks in any order, each as if a chunk began at its
// block's first byte. One [Stitcher] then takes the blocks in order. It continues the last block's true chunk into the
// next block; where one of the cuts it finds is also a speculative cut of that block, both passes are in the same state,
// so all later cuts of the block are true and need not be computed again, and the state after them is the
// scanner's. With the default parameters that happens after 0.6 MiB on average, so blocks of several MiB pay.
//
// # Invariants
//
//   - I1: what decides whether a cut falls at p is the distance from the last cut and a bounded number of bytes before p
//     that lie after the last cut (Min is at least 64 bytes or one page). So the state right after a cut is always the
//     same, and two passes that share a cut agree from there on.
//   - I2: for any stream, any split of it into blocks (empty ones too) and any valid [Params], the Stitcher's cuts are
//     those of one sequential pass. Content without cuts of its own (only Max cuts) may never join; it costs one core's
//     speed then, never exactness.
//   - I3: no allocation per block once the buffers of a [Cuts] have grown.
//
// Start reading at stitch.go.
package cdc
