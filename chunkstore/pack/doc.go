// SPDX-License-Identifier: Apache-2.0

// Package pack reads and writes packs: the objects that hold a repository's
// chunks, compressed and sealed.
//
// A pack holds chunks of one class, one volume and one session. Chunks are
// cut into frames of 64 KiB of plaintext that are compressed and sealed alone,
// so that a part of a chunk can be read without the rest. A sealed table of
// contents at the end lists the chunks; it is not needed to read a chunk whose
// place is known from an index.
//
// # Pack
//
// Integers are little endian; uvarint and varint are those of encoding/binary
// (base 128, varint zigzag). The cipher is seal.PackCipher, whose kinds and
// numbers are given as (kind, number).
//
//	offset  size  field
//	0       8     magic "TIDEPACK"
//	8       1     version 1
//	9       1     class: 1 base, 2 patch, 3 map
//	10      6     zero
//	16      8     key id
//	24      32    salt, random
//	56      …     frames, numbered 0, 1, 2… through the pack
//	…       t     sealed table of contents, (3, 0), AAD = bytes 0…55 ‖ the trailer
//	end-24  4     t
//	end-20  4     number of frames
//	end-16  8     zero
//	end-8   8     magic "KCAPEDIT"
//
// # Frame
//
//	offset  size  field
//	0       24    sealed header, (1, frame number), no more AAD; its 8 bytes are
//	                0  4  stored length p of the payload, tag included
//	                4  3  length of the plaintext, 1…65,536; 65,536 but in a
//	                      chunk's last frame
//	                7  1  flags: 1 raw, 2 first of its chunk, 4 last of its chunk
//	24      p     sealed payload, (2, frame number), no more AAD: an LZ4 block,
//	              or the plaintext itself (raw) where LZ4 would not shrink it.
//	              So p = plain+16 where raw, 17 ≤ p < plain+16 where not.
//
// # Table of contents, plaintext
//
//	1        version 1
//	1        class, as in the header
//	uvarint  length d of the domain, at most 64
//	d        domain
//	16       volume hash
//	uvarint  session that wrote the pack first
//	uvarint  number of the pack in that session, below 2³²
//	uvarint  number of chunks
//	         then per chunk, in stored order, without gaps from offset 56 on:
//	32       name
//	uvarint  length of the plaintext, 1…8 MiB
//	uvarint  per frame (one per 64 KiB begun): p·2, +1 where raw
//	1        logarithm of the digest size, 12…16, or 0 for no digests
//	uvarint  number of pieces; 0 where the origin is unknown
//	1        logarithm u of the unit of pieces: 12 where all offsets and lengths
//	         are multiples of 4,096, else 0; 0 without pieces
//	         then per piece:
//	varint     distance from the end of the piece before (first: from 0), in 2ᵘ
//	uvarint    length, in 2ᵘ
//	8        per digest piece (see chunk.DigestPieces): its digest
//
// Pieces add up to the plaintext. Map chunks have neither pieces nor digests,
// and digests need pieces. Limits: pack 256 MiB, sealed table of contents
// 32 MiB, chunk 8 MiB; places in the volume below 2⁶⁰.
//
// # Name
//
//	packs/<session, at least 10 digits>/<number, at least 6 digits>-<64 hexadecimal digits>
//
// the last being the plain BLAKE3 of all stored bytes, so that a pack can be
// verified without a key.
//
// # Invariants
//
//	P1  A pack's bytes are fixed by its name. It is made in memory as a whole,
//	    named by the hash of it, and never altered.
//	P2  Every byte of a pack is bound by an authentication tag: frames and the
//	    table of contents by their own, header and trailer by the table's. The
//	    frames fill the space between header and table without a gap.
//	P3  A frame is sealed under its number in its pack, so it opens nowhere else;
//	    the number of a chunk's first frame is part of its location.
//	P4  Nothing is stored that was not decoded again: the Encoder opens each
//	    frame from the very bytes that will be stored and compares, Finish does
//	    the same with the table of contents.
//	P5  The name of a chunk is checked by whoever asked for it: Decoder proves
//	    that bytes are what a holder of the key sealed at that place, the name
//	    proves that they are the chunk.
//	P6  A pack may be copied under another session's name. Session and number in
//	    the table say where it was made and are not compared with the name; the
//	    hash is, by Verify.
//	P7  Decoders trust no figure, authentic or not: each is bounded before it is
//	    used or anything is allocated for it.
//
// # Memory
//
// Encoders write into slabs of 512 KiB that belong to the pack (slab.go).
// They go back to a pool when the pack is released, so a steady stream of
// packs allocates only per pack.
//
// To write, start at [Builder] and [Encoder]; to read, at [ReadTOC] and
// [Decoder]; to check or repair, at [Verify] and [Scan].
package pack
