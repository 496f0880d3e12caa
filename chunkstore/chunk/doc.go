// SPDX-License-Identifier: Apache-2.0

// Package chunk holds the small words that every part of the chunk store
// speaks: the name of a chunk, the digest of a piece of one, the class of a
// pack, and how a chunk's origin in its volume is cut into pieces.
//
// # Bytes
//
//	name        ID      32 bytes: BLAKE3 of the chunk's whole plaintext, keyed
//	                    with a 32-byte key that belongs to a deduplication
//	                    domain. Written as 64 lower-case hexadecimal digits.
//	digest      Digest  the first 8 bytes, read little endian, of the GMAC tag of
//	                    one piece's plaintext (AES-256-GCM, empty plaintext, the
//	                    piece as additional data, nonce of 12 zero bytes) under
//	                    another key of the domain.
//	class       Class   1 base, 2 patch, 3 map
//	frame       65,536  bytes of a chunk's plaintext that are compressed and
//	                    sealed together; the last frame of a chunk is shorter
//
// A piece is the longest stretch of a chunk that came from one contiguous
// stretch of its volume and crosses no multiple of the digest size, measured
// in the volume (see [DigestPieces]). Cutting at places of the volume rather
// than of the chunk lets a reader check an aligned range of the volume against
// digests without the chunk.
//
// # Invariants
//
//	C1  A name is a commitment: two chunks of one domain with equal names hold
//	    equal bytes. Nothing else (length, place, class) is part of a name.
//	C2  A digest is only a hint of 64 bits. It may excuse bytes from being read
//	    again, never from being verified when they are restored.
//	C3  The all-zero ID names no chunk; it is what "absent" looks like.
//
// Start at [Namer] and [DigestPieces].
package chunk
