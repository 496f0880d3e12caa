// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"sync"
)

// Overhead is how many bytes sealing adds.
const Overhead = 16

// FrameKind tells what is sealed in a pack.
type FrameKind uint8

const (
	FrameHeader  FrameKind = 1
	FramePayload FrameKind = 2
	FrameTOC     FrameKind = 3
)

const packLabel = "tidemark pack v1"

// PackCipher seals and opens the parts of one pack. It is safe for concurrent
// use and allocates nothing where dst has room.
type PackCipher struct {
	aead   cipher.AEAD
	prefix []byte // label ‖ salt, with which every AAD begins
}

// PackCipher returns the cipher of the pack with this salt.
func (k *Keys) PackCipher(salt [32]byte) (*PackCipher, error) {
	aead, err := newGCM(keyedSum(k.pack, salt[:]))
	if err != nil {
		return nil, err
	}
	return &PackCipher{aead: aead, prefix: append([]byte(packLabel), salt[:]...)}, nil
}

// Seal appends the sealed plain to dst. No two calls for one pack may have
// equal kind and n (S1). The plaintext may lie at dst's end exactly or not
// overlap dst's room at all.
func (c *PackCipher) Seal(dst, plain, aad []byte, kind FrameKind, n uint64) []byte {
	s := c.bind(aad, kind, n)
	dst = c.aead.Seal(dst, s.nonce[:], plain, s.aad)
	bindings.Put(s)
	return dst
}

// Open appends the plaintext of sealed to dst. An error is ErrNotAuthentic,
// and then nothing of the plaintext is given out.
func (c *PackCipher) Open(dst, sealed, aad []byte, kind FrameKind, n uint64) ([]byte, error) {
	s := c.bind(aad, kind, n)
	out, err := c.aead.Open(dst, s.nonce[:], sealed, s.aad)
	bindings.Put(s)
	if err != nil {
		return nil, ErrNotAuthentic
	}
	return out, nil
}

// binding holds nonce and AAD of one call. They pass through an interface and
// would be allocated per call if they lay on the stack.
type binding struct {
	nonce [12]byte
	aad   []byte
}

var bindings = sync.Pool{New: func() any { return &binding{aad: make([]byte, 0, 256)} }}

func (c *PackCipher) bind(aad []byte, kind FrameKind, n uint64) *binding {
	s := bindings.Get().(*binding)
	binary.LittleEndian.PutUint32(s.nonce[:4], uint32(kind))
	binary.LittleEndian.PutUint64(s.nonce[4:], n)
	s.aad = append(s.aad[:0], c.prefix...)
	s.aad = append(s.aad, s.nonce[:]...)
	s.aad = append(s.aad, aad...)
	return s
}

func newGCM(key [32]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
