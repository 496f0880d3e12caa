// SPDX-License-Identifier: Apache-2.0

// Package imagemap says where the bytes of a volume lie: extents
// (volume offset, length, chunk, offset in chunk) in immutable trees of nodes,
// one base per line of points and a few delta runs over it.
//
// Start with [Map] (what a restore point names), [Writer] (makes a tree),
// [Iterator] (reads the overlay of base and runs), [Compact] (keeps runs few)
// and [ChangedSince] and [Diff] (what differs between two points).
//
// # Invariants
//
//   - I1. A tree holds ascending, disjoint, non-empty extents. What stands in a
//     newer run hides what it covers in older runs and in the base.
//   - I2. A range that no extent covers (a gap) reads as zeros, and so does an
//     explicit hole. They differ in one thing: a hole has its own birth, a gap
//     has the birth of the line, [Map].Birth.
//   - I3. Birth is the number of the session in which the content last changed.
//     Moving bytes to another chunk, merging runs and folding keep it. So at any
//     place births never fall from an older layer to a newer one.
//   - I4. Explicit holes are never dropped, neither when runs are merged nor
//     when they are folded into the base: the base keeps them with their births.
//     A base written by a full backup has none; hole by hole they are replaced
//     as space is used again. That is why [ChangedSince] is exact.
//   - I5. Nodes are addressed by content and never change. A base leaf covers at
//     most one window of 64 MiB, an inner node of a base at most one aligned group
//     of 128 such windows (or of 128 such groups, and so on): an untouched window
//     is the same node in every point, and folding writes the same tree that a
//     full pass would write.
//   - I6. A node's height is its parent's minus one and its span is exactly what
//     the parent says, spans of siblings are disjoint: no walk can meet a node
//     twice in one tree or run for ever, whatever the nodes hold.
//   - I7. A point whose volume changed its size since the point it was built on
//     writes the range between both sizes in its run, with data or an explicit
//     hole. Without it a volume that shrank and grew again would show old bytes,
//     and [ChangedSince] would not name the new tail. (A tail that was never
//     written has no extents and reads as zeros all the same.) Nothing looks
//     beyond [Map].Size; runs that are merged keep what lies there, a fold drops it.
//
// # Node
//
// All numbers are LEB128 varints unless a size is given. A node is at most
// 1 MiB. Every node begins so:
//
//	size  field
//	4     magic "TDIM"
//	1     version 1
//	1     height: 0 leaf, 1…6 inner
//	2     zero
//	v     first: volume offset of the first extent
//	v     span: end of the last extent − first
//	v     count: extents of a leaf (1…65536), children of an inner node (1…512)
//
// A leaf goes on:
//
//	v     bytes: sum of the lengths of the extents that are not holes
//	v     number of chunk ids
//	v     number of births
//	v…    births in order of first use, each as zigzag difference to the one before (first: to 0)
//	32…   chunk ids in order of first use
//	…     extents
//
// An extent is a control byte and the numbers it announces, in this order:
//
//	bits 0–2  where its bytes are:
//	          0 same chunk as the last data extent, where that ended
//	          1 same chunk, zigzag skip from there follows
//	          2 next id of the table, from offset 0
//	          3 next id of the table, offset follows
//	          4 an earlier id: distance back from the newest id used so far follows; where its last extent ended
//	          5 the same, distance and zigzag skip follow
//	          6 hole
//	bit 3     gap to the end of the extent before follows (else 0)
//	bit 4     length follows (else that of the extent before)
//	bit 5     index into births follows (else: a known chunk's last birth; the last
//	          hole's for a hole; the birth of the extent before for a new chunk)
//	bit 6     gap, length, skip and offset are in bytes, else in units of 4 KiB
//	bit 7     zero
//
// numbers: gap, length, distance, skip or offset, birth index. So a page that
// goes on in the chunk of the page before costs the control byte and its gap.
//
// An inner node goes on with its children, ascending:
//
//	v     gap to the end of the child before (first: 0)
//	v     span
//	v     extents below
//	v     bytes below
//	v     stored: plaintext bytes of all nodes of the child's tree, itself included
//	v     newest birth below
//	32    id of the child
//
// The newest birth lets [ChangedSince] skip what is old without reading it.
package imagemap
