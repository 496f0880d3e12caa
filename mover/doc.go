// SPDX-License-Identifier: Apache-2.0

// Package mover moves bytes between volumes and repositories: backup, restore
// and verify.
//
// # The backup pipeline
//
//	ranges ─► tasks ─► slabs (read, compare, find zeros, scan for cuts)   several at once
//	                     │ in order
//	                     ▼
//	                  stitcher (true cuts, gathered patches)              one
//	                     │ chunks
//	                     ▼
//	                  chunk workers (name, known?, frames, pack)          one per core
//	                     │ in order
//	                     ▼
//	                  collector (extents ─► journal, run of the map)      one
//
// Everything between two stages is bounded by bytes: slabs and chunk buffers
// come from fixed arenas outside the Go heap, packs by the session's budget.
//
// # Invariants
//
//	M1  Two moments of a source are never mixed into one point: an interrupted backup goes on
//	    only from a source proven to be the same, otherwise everything is read again.
//	M2  A claim is used only with the base it belongs to, and is audited; caught lying, the whole
//	    volume is compared before the point is made.
//	M3  What a point maps was hashed from the bytes that were shipped, or was compared with, or
//	    claimed equal to, what its base maps.
//	M4  An unreadable range fails the backup unless the user said to skip it; then the point lists it.
//	M5  Memory follows the limit, never the size of volume or repository.
//	M6  A restore writes only verified bytes; what failed is named and nothing else is touched.
//
// # Where to start
//
// Backup in backup.go reads as the story of one run; decide.go has the rules
// for what is read, slab.go and stitch.go the hot path, compare.go the check of
// a volume's bytes against a map that fingerprints, audit and delta restore share.
package mover
