// SPDX-License-Identifier: Apache-2.0

package chunk

import (
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

// Digester digests pieces under one key. It is not for concurrent use and does
// not allocate per digest.
type Digester struct{ h keyed }

// NewDigester returns a Digester for the digest key of one domain.
func NewDigester(key [32]byte) *Digester { return &Digester{newKeyed(key)} }

// Sum returns the digest of a piece.
func (d *Digester) Sum(piece []byte) Digest {
	sum := d.h.sum(piece)
	return Digest(binary.LittleEndian.Uint64(sum[:8]))
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
