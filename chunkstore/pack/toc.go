// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

const (
	tocVersion = 1
	maxTOCHead = 128 // bytes before the first chunk's record, at most
	pageLog    = 12  // unit of pieces that are all whole pages
	maxVolume  = 1 << 60
)

// TOC is a pack's table of contents.
type TOC struct {
	Header
	KeyID  seal.KeyID
	Salt   [32]byte
	Chunks []TOCChunk // in stored order
}

// Cipher returns the cipher of the pack.
func (t *TOC) Cipher(keyring *seal.Keyring) (*seal.PackCipher, error) {
	keys, err := keyring.Find(t.KeyID)
	if err != nil {
		return nil, err
	}
	return keys.PackCipher(t.Salt)
}

// TOCChunk is what the table of contents says of one chunk. The slices of all
// chunks of a TOC share memory.
type TOCChunk struct {
	Entry
	FrameStored []FrameStored
	DigestSize  int
	Pieces      []chunk.Piece
	Digests     []chunk.Digest // one per piece that chunk.DigestPieces yields
}

// FrameRange returns where frame i lies in the pack, header and payload.
func (c *TOCChunk) FrameRange(i int) (offset, length uint32) {
	offset = c.Offset
	for _, s := range c.FrameStored[:i] {
		offset += frameHeader + s.Payload()
	}
	return offset, frameHeader + c.FrameStored[i].Payload()
}

// check holds an origin against the rules that writers and readers share.
func (in *Info) check(class chunk.Class, plain int64) error {
	if class == chunk.Map && (len(in.Pieces) > 0 || in.DigestSize != 0) {
		return fmt.Errorf("a map chunk with %d pieces and digest size %d, want neither", len(in.Pieces), in.DigestSize)
	}
	if n := in.DigestSize; n != 0 && (n&(n-1) != 0 || n < 1<<minDigestLog || n > 1<<maxDigestLog) {
		return fmt.Errorf("digest size %d, want 0 or a power of two from %d to %d", n, 1<<minDigestLog, 1<<maxDigestLog)
	}
	if len(in.Pieces) == 0 {
		if in.DigestSize != 0 {
			return fmt.Errorf("digest size %d without pieces", in.DigestSize)
		}
		return nil
	}
	return checkPieces(in.Pieces, plain)
}

func checkPieces(pieces []chunk.Piece, plain int64) error {
	var sum int64
	for i, p := range pieces {
		if p.Offset < 0 || p.Length <= 0 || p.Length > plain-sum || p.Offset > maxVolume-p.Length {
			return fmt.Errorf("piece %d of %d bytes at %d in a chunk of %d bytes, %d of them taken", i, p.Length, p.Offset, plain, sum)
		}
		sum += p.Length
	}
	if sum != plain {
		return fmt.Errorf("pieces of %d bytes, the chunk has %d", sum, plain)
	}
	return nil
}

func appendTOCHead(dst []byte, h Header, chunks int) []byte {
	dst = append(dst, tocVersion, byte(h.Class))
	dst = binary.AppendUvarint(dst, uint64(len(h.Domain)))
	dst = append(dst, h.Domain...)
	dst = append(dst, h.Volume[:]...)
	dst = binary.AppendUvarint(dst, h.Session)
	dst = binary.AppendUvarint(dst, uint64(h.Seq))
	return binary.AppendUvarint(dst, uint64(chunks))
}

// A chunk's record is written as its parts become known: appendChunkHead,
// appendFrame for each frame, appendOrigin.

func appendChunkHead(dst []byte, id chunk.ID, plain int) []byte {
	dst = append(dst, id[:]...)
	return binary.AppendUvarint(dst, uint64(plain))
}

func appendFrame(dst []byte, s FrameStored) []byte {
	return binary.AppendUvarint(dst, uint64(s))
}

func appendOrigin(dst []byte, in Info, digests []chunk.Digest) []byte {
	var digestLog byte
	if in.DigestSize != 0 {
		digestLog = byte(bits.TrailingZeros(uint(in.DigestSize)))
	}
	unit := pieceUnit(in.Pieces)
	dst = append(dst, digestLog)
	dst = binary.AppendUvarint(dst, uint64(len(in.Pieces)))
	dst = append(dst, unit)
	var end int64
	for _, p := range in.Pieces {
		dst = binary.AppendVarint(dst, (p.Offset-end)>>unit)
		dst = binary.AppendUvarint(dst, uint64(p.Length)>>unit)
		end = p.End()
	}
	for _, d := range digests {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(d))
	}
	return dst
}

// pieceUnit returns the logarithm of the unit in which pieces are written.
func pieceUnit(pieces []chunk.Piece) byte {
	var all int64
	for _, p := range pieces {
		all |= p.Offset | p.Length
	}
	if len(pieces) > 0 && all&(1<<pageLog-1) == 0 {
		return pageLog
	}
	return 0
}
