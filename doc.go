// SPDX-License-Identifier: Apache-2.0

// Package tidemark is the root of the Tidemark module: backup and restore of volumes, block by block, for the cost of what changed.
// It holds no code, only the tests that keep the tree in order (hygiene_test.go, arrows_test.go).
//
// An arrow means "imports", and nothing imports upwards:
//
//	cmd/tidemark             flags, wiring, output
//	    │
//	mover                    the pipelines: backup, restore, verify
//	    │
//	    ├── blockdiff        range algebra, claims of what changed
//	    ├── blockio          devices and files: direct reads, zeros, targets
//	    └── chunkstore       the repository: keys, sessions, points, reading and writing chunks
//	            ├── imagemap     where each range of a volume lies
//	            ├── index        where each chunk lies
//	            ├── cdc          where chunks are cut
//	            ├── pack         the object that holds chunks
//	            ├── seal         keys and authenticated encryption
//	            ├── chunk        names and digests
//	            └── objstore     object storage: folder, S3, and what wraps them
//
// Start reading at docs/README.md.
package tidemark
