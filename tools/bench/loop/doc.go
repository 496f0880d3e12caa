// SPDX-License-Identifier: Apache-2.0

// Package loop is the yardstick that full backups are held against: what can't be left out of one, and nothing else.
//
// For bytes that are in memory already it cuts chunks (restic/chunker), names them (keyed BLAKE3), and per frame of
// 64 KiB compresses (LZ4), seals (AES-256-GCM), opens, decompresses and compares. It uses the bare libraries and no
// code of the engine; its scratch memory stays in the processor's cache, and nothing of what it makes is kept. So no
// engine with these libraries can be faster per byte, and the distance from the loop is what reading, digests, tables
// of contents, hashing packs, writing them and moving bytes between goroutines cost.
//
// A Worker does this for one goroutine; Run shares segments out to as many as there are cores. Measure times each
// stage inside the loop and beside it, alone, as a benchmark of its library would.
//
// Start reading at worker.go.
package loop
