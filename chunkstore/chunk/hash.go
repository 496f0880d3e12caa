// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// Digest is a short keyed digest of one piece of a chunk.
type Digest uint64

// Namer names chunks under one key. It is not for concurrent use and does not
// allocate per name.
type Namer struct{ h keyed }

// NewNamer returns a Namer for the key of one deduplication domain.
func NewNamer(key [32]byte) *Namer { return &Namer{newKeyed(key)} }

// Name returns the name of a chunk with this plaintext.
func (n *Namer) Name(plain []byte) ID { return ID(n.h.sum(plain)) }

// Digester digests pieces under one key: GMAC, that is AES-256-GCM of nothing
// with the piece as additional data and a nonce of zeros, cut to 64 bits. It is
// not for concurrent use and does not allocate per digest.
//
// A digest is only ever compared with another under the same key, and both stay
// under seal, so what counts is how often two given pieces agree over the choice
// of the key. For GHASH, a polynomial over GF(2^128), that is at most
// (length/16 + 1) / 2^64 after the cut, 2^-55 for 8 KiB, whatever the pieces
// are: a bound that holds without assumptions about the hash, at several times
// the speed of keyed BLAKE3 (docs/decisions/0005-digest-function.md). The usual
// ban on repeating a nonce protects against forgers who see tags; nobody sees these.
type Digester struct {
	gcm cipher.AEAD
	tag [16]byte
}

// NewDigester returns a Digester for the digest key of one domain.
func NewDigester(key [32]byte) *Digester {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("chunk: " + err.Error()) // refuses nothing but another length
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("chunk: " + err.Error()) // refuses nothing but another block size
	}
	return &Digester{gcm: gcm}
}

// zeroNonce is the nonce of every digest.
var zeroNonce [12]byte

// Sum returns the digest of a piece.
func (d *Digester) Sum(piece []byte) Digest {
	tag := d.gcm.Seal(d.tag[:0], zeroNonce[:], nil, piece)
	return Digest(binary.LittleEndian.Uint64(tag))
}

// keyed is a reusable hasher; the sum lives beside it so that it never escapes
// per call.
type keyed struct {
	h   *blake3.Hasher
	out [32]byte
}

func newKeyed(key [32]byte) keyed {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		// The library refuses nothing but a length other than 32.
		panic("chunk: " + err.Error())
	}
	return keyed{h: h}
}

func (k *keyed) sum(p []byte) [32]byte {
	k.h.Reset()
	k.h.Write(p)
	k.h.Sum(k.out[:0])
	return k.out
}
