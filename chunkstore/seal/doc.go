// SPDX-License-Identifier: Apache-2.0

// Package seal keeps a repository's secrets: the master secrets, the
// passphrase slots that wrap them, every key derived from them, the cipher of
// packs, and sealed records (small control objects).
//
// # Keys
//
// A master secret is 32 random bytes. A [Keyring] holds one or more of them,
// newest first; a new one is added by rotation and the old ones stay to read
// what they sealed. All else is derived with BLAKE3's key derivation mode,
// derive_key(context, material), 32 bytes long unless said otherwise:
//
//	context                     material            use
//	"tidemark v1 key id"        master              8 bytes: names the master in headers
//	"tidemark v1 record"        master              record key
//	"tidemark v1 pack"          master              pack key
//	"tidemark v1 chunk name"    master ‖ domain     keyed BLAKE3 of chunks (chunk.Namer)
//	"tidemark v1 digest"        master ‖ domain     GMAC of pieces (chunk.Digester)
//	"tidemark v1 volume"        master              keyed BLAKE3 of a volume's name, 16 bytes
//	"tidemark v1 polynomial"    master              unbounded output, read as 8-byte little-endian
//	                                                words until one, cut to degree 53 with its top
//	                                                and bottom bit set, is irreducible
//	"tidemark v1 local cache"   master              checks of the local index cache
//
// # Pack cipher
//
// The cipher of one pack is AES-256-GCM under BLAKE3 keyed(pack key, salt),
// salt being the 32 random bytes in the pack's header.
//
//	nonce, 12 B  kind u32 LE ‖ number u64 LE
//	AAD          "tidemark pack v1" ‖ salt 32 ‖ kind u32 LE ‖ number u64 LE ‖ the caller's
//	kind         1 frame header, 2 frame payload, 3 table of contents
//
// # Sealed record
//
//	offset  size  field
//	0       4     magic "TDMR"
//	4       1     version 1
//	5       3     zero
//	8       8     key id
//	16      32    salt (random)
//	48      n+16  AES-256-GCM of the plaintext; nonce 12 zero bytes,
//	              key BLAKE3 keyed(record key, salt),
//	              AAD = bytes 0…47 ‖ repository id 16 ‖ object name
//
// # Slot
//
// JSON, so that a person can see what a slot is:
//
//	{"version":1,
//	 "kdf":{"name":"argon2id","time":3,"memoryKiB":65536,"threads":4,"salt":"…"},
//	 "wrapped":"…",
//	 "check":"…"}
//
//	salt     base64 of 16…64 bytes (32 are written)
//	wrapped  base64 of nonce 12 ‖ AES-256-GCM of the payload under
//	         Argon2id(passphrase, salt, time, memory, threads) of 32 bytes
//	AAD      "tidemark slot v1" ‖ the kdf object as compact JSON, fields in the order
//	         above, no white space, base64 with padding
//	check    hexadecimal, first 8 bytes of BLAKE3(AAD ‖ wrapped's bytes); no secret,
//	         it tells a damaged slot from a wrong passphrase
//	payload  {"version":1,"masters":["base64 of 32 bytes",…],"config":"…"}, newest master
//	         first, config = hexadecimal BLAKE3 of the repository's config object
//
// # Invariants
//
//	S1  No key and nonce meet twice: every pack and every record has its own
//	    random 32-byte salt and so its own key, and within a pack kind and
//	    number differ for everything sealed.
//	S2  What a sealed thing is (which pack, which frame, which kind, which
//	    record of which repository) is authenticated, never inferred. Packs bind
//	    neither repository nor name, so they may be copied between repositories
//	    that share a key; records bind both.
//	S3  Nothing here prints a secret: the types that hold one format as an id.
//	S4  Figures in a slot are bounded before any of them is used, so a hostile
//	    repository can't have a reader spend more than 1 GiB of memory.
//	S5  Damage is a [CorruptError]; a key we don't hold is [ErrUnknownKey]; a
//	    passphrase that doesn't fit is [ErrWrongPassphrase]. Someone who can
//	    write to the store can forge the slot's check and so turn the first into
//	    the last, never into success.
//
// Start at [Keyring].
package seal
