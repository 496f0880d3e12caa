// SPDX-License-Identifier: Apache-2.0

// Package index says in which pack a chunk lies. It has three parts: the
// segment, which is how the repository keeps that knowledge; [Cache], which
// keeps all segments of a repository searchable on local disk without holding
// anything per chunk on the heap; and [Fresh], the chunks that one running
// session stores and that no segment holds yet.
//
// # Segment
//
// A segment is immutable. What follows is its plaintext; sealing it is the
// business of the caller. Integers are little endian.
//
//	offset  size    field
//	0       4       magic "TDIX"
//	4       1       version 1
//	5       3       zero
//	8       4       P, number of packs
//	12      4       N, number of entries, at most 1<<20
//	16      56·P    packs, ascending, each named by at least one entry
//	…       52·N    entries, ascending by (chunk, pack), no two equal in both
//
//	pack    0  8 session | 8  4 sequence | 12  4 size | 16  1 class | 17  7 zero | 24  32 BLAKE3 of its bytes
//	entry   0 32 chunk   | 32 4 pack (its place in the table) | 36 4 offset of the first frame header
//	        40 4 stored bytes, headers included | 44 4 number of the first frame | 48 4 plain bytes
//
// # Cache directory
//
// The cache holds nothing that the repository does not hold, so losing it
// costs time only.
//
//	lock           flock(2) around every change of the directory; never removed
//	manifest-1     magic "TDXM" | 1 version 1 | 3 zero | 4 number of tables | 16 per table: its id |
//	               32 keyed BLAKE3 of all before. Replaced by rename.
//	<id>.table-1   a table; in force while the manifest names it
//
// A table is a sequence of 4 KiB pages: a header page, then pages of packs
// (72 of 56 bytes), of segment names (127 keyed BLAKE3 of 32 bytes), of
// entries (78 of 52 bytes), each kind ascending and without duplicates.
//
//	page    0     4064  records, then zeros
//	        4064  16    table id
//	        4080  8     page number
//	        4088  8     keyed digest of all before
//	header  0  4 magic "TDXT" | 4 1 version 1 | 5 3 zero | 8 8 packs | 16 8 names | 24 8 entries
//
// # Invariants
//
//	X1  No byte of a table or manifest is used before the digest of its page is
//	    checked, at every access and not once at opening. (Only a pass over all
//	    entries checks a page of packs once per pass.) Damage, truncation under
//	    a live mapping included, is [ErrCacheDamaged]; it is never an absent
//	    chunk.
//	X2  Tables are immutable. A table is written and synced before the manifest
//	    that names it; a table is removed only after the manifest that no
//	    longer names it is durable. So a kill at any moment leaves either the
//	    state before or after a change, and files that nothing names, which the
//	    next holder of the lock removes.
//	X3  The directory is changed under the lock only. Readers take no lock: they
//	    keep what they have mapped, removed or not, until nobody uses it.
//	X4  A segment's name is in a table if and only if all its entries are in
//	    tables of the same manifest.
//	X5  Merging changes neither the set of entries nor that of names.
//	X6  An id that a session has claimed is at every instant in flight, in memory
//	    or in a spilled table of its Fresh. So of all its claimers exactly one is
//	    told New.
//
// Start at [OpenCache] and [NewFresh].
package index
