// SPDX-License-Identifier: Apache-2.0

// Package blockdiff answers which ranges of a volume matter: which hold data, which changed, and which of the
// others to look at anyway.
//
// A change list is a claim, never a proof. Whoever made it (a storage driver, a tool, a person) may be wrong in both
// directions, and only one of them loses data: a range that changed and is not named. So everything here may name
// too much and never too little, and [Sample] chooses what a backup re-reads outside a claim to catch a liar.
//
// # Invariants
//
//   - I1: [Ranges] that this package returns are normalized: ascending, disjoint, not adjacent, every length positive.
//     Its operations accept lists that are ascending and disjoint; adjacent ranges are fine. Anything else goes
//     through [Normalize] first.
//   - I2: Union, AlignOut and Coalesce only grow the set of bytes; Intersect, Subtract and Clip only shrink it.
//   - I3: a claim that is broken, truncated, out of order or out of bounds is refused whole with a [*ClaimError] of one
//     sentence. An early end of a list never reads as "nothing else changed".
//   - I4: a parsed claim and a file's allocation hold at most [MaxRanges] ranges; beyond that the nearest ones are
//     joined, so what they name grows and their memory does not.
//   - I5: a sample never reaches into the claim, never exceeds its budget, and its rolling part reads every byte outside
//     the claim before it reads any one twice.
//
// # The claim format
//
// A JSON list, in ascending order, as ParseClaim reads and WriteClaim writes it:
//
//	[{"offset":0,"length":65536},{"offset":1048576,"length":4096}]
//
// The output of "rbd diff --format json" is accepted as it is: its third field "exists" may be there, as a boolean or
// as a string; what no longer exists has changed too. Numbers may be strings. No other field is accepted, for a
// field that is not understood ("unit", say) may change what the others mean.
//
// Start reading at range.go; claim.go and sample.go stand on it.
package blockdiff
