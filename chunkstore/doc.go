// SPDX-License-Identifier: Apache-2.0

// Package chunkstore is the repository: what backups leave behind and restores
// read, in a bucket or a folder.
//
// # Objects
//
//	config                          plain JSON: version, id, chunking parameters; immutable
//	keys/<slot>/slot                the master secret wrapped by one passphrase (package seal)
//	sessions/<n>/open               a writer announces itself, with a pin on its base point
//	sessions/<n>/outcome            how the session ended: committed, fenced or abandoned
//	packs/<session>/<seq>-<hash>    chunks (package pack)
//	index/<session>/<seq>-<hash>    where the session's chunks are (package index), sealed
//	points/<volume hash>/<id>       restore points: the roots of image maps (package imagemap), sealed
//	gc/epochs/<n>                   what the collector decided: condemned packs, folded sessions, usage
//	gc/forgotten/<point>            a tombstone: the point is no longer retained
//
// Everything but config, slots and packs is a sealed record bound to its own
// name; docs/format.md has the bytes.
//
// # Invariants
//
//	C1  An object is created once under a name that is never used again; nothing is overwritten.
//	C2  A session's number n is won by creating sessions/<n>/open; numbers are dense, so what
//	    exists is found by reading names, never by trusting a list.
//	C3  A session's open record, with the pin on its base, is durable before the writer reads
//	    the base's tombstone and the epochs. The collector writes those first and looks for
//	    sessions after: one of the two always sees the other.
//	C4  A point exists if and only if the outcome of its session says committed and names it.
//	    Order: packs, index segments, point, outcome.
//	C5  Exactly one outcome per session: who creates the object decides. A writer that finds
//	    "fenced" has lost, whatever it uploaded.
//	C6  A chunk found only in a condemned pack is absent for a writer.
//	C7  What is read is verified: records by their seal and name, packs by frame seals,
//	    chunks by their keyed BLAKE3 name, before any byte reaches a caller.
//
// # Where to start
//
// Init and Open make a Repository. Begin makes a Session, which takes chunks
// (Session.Put), map nodes (Session implements imagemap.Sink and Source) and
// commits a Point. Points, Resolve and Reader serve the other direction.
package chunkstore
