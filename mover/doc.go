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
// # The restore pipeline
//
//	map ─► planner (batches of extents)                    one, a batch ahead
//	         │ by stripe of the volume, pack, place in it
//	         ▼
//	       jobs ─► fetchers (into a ring of bytes)         as many as bytes allow
//	         │
//	         ▼
//	       workers (open, decode, verify, write to places) two per core
//
// A stream fills windows of the volume that way; --delta plans only what a
// comparison of the target with the map found to differ. A restore that goes on
// where another was killed does both: it compares what that one wrote, and plans
// what differs and all the rest.
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
//	M7  What a target holds is never believed: what a killed restore's journal says was written and
//	    synced is read again and compared with the point's digests, and only what matches is not
//	    written; all else is fetched, verified and written. A target has one journal, which any
//	    other restore to it empties, durably, before its first write.
//	M8  Within a batch no stored byte is fetched twice; what several batches share is reported.
//
// # Where to start
//
// Backup in backup.go reads as the story of one run; decide.go has the rules
// for what is read, slab.go and stitch.go the hot path, compare.go the check of
// a volume's bytes against a map that fingerprints, audit and delta restore share.
// Restore in restore.go is the other way; restorebatch.go decides what is fetched
// when, restorehaul.go moves it. Verify in verify.go goes on after a problem and
// verifyblame.go finds out whom it hurts.
package mover
