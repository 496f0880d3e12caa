// SPDX-License-Identifier: Apache-2.0

// Command chunking measures what kinds and parameters of cutting are worth on real volumes made on this machine: the
// table behind docs/decisions/0003-chunking-defaults.md.
//
//	sudo go run ./tools/bench/chunking            # needs root for loop mounts, PostgreSQL, mkfs.ext4 and mkfs.xfs
//
// Three sets of images are made in a temporary directory, measured and removed:
//
//   - tree: a tree of files copied to an ext4 image, then in another order to an XFS image;
//   - database: an image that holds a PostgreSQL data directory, then a clone of it with 1 % of its pages rewritten;
//   - dumps: one image that holds two SQL dumps of that database, some hundred edited rows apart.
//
// Every image is read once and cut by all parameters side by side, as a full backup would: zero pages leave the stream,
// and a hole of 1 MiB ends a chunk. Reported are the unique share (bytes of distinct chunks by all data bytes, of all
// images so far of a set), the mean chunk and the speed of cutting alone, by CPU time of one thread.
//
// Start reading at lane.go for what is measured, main.go for what on.
package main
