// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pierrec/lz4/v4"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// Decoder opens frames. It is not for concurrent use and allocates nothing
// where dst has room.
type Decoder struct {
	head  []byte
	block []byte // an LZ4 block between opening and decoding
}

// NewDecoder returns a decoder.
func NewDecoder() *Decoder {
	return &Decoder{head: make([]byte, 0, 8), block: make([]byte, 0, chunk.FrameSize)}
}

// Chunk appends the plaintext of a whole chunk to dst, given the stored bytes
// that the entry points to, and needs no table of contents. It checks every
// length and that each frame is the one meant; the caller checks the name. The
// error is a *seal.CorruptError.
func (d *Decoder) Chunk(cipher *seal.PackCipher, object string, e Entry, stored, dst []byte) ([]byte, error) {
	if e.Plain < 1 || e.Plain > MaxPlain || len(stored) != int(e.Stored) {
		return nil, corrupt(object, int64(e.Offset), "%d stored bytes of a chunk of %d stored and %d plain bytes", len(stored), e.Stored, e.Plain)
	}
	plain := int(e.Plain)
	dst = slices.Grow(dst, plain)
	at, rest := int64(e.Offset), stored
	for i := range frameCount(plain) {
		n := uint64(e.Frame) + uint64(i)
		f, err := d.header(cipher, rest, n)
		if err == nil && f != frameOf(f.stored, i, plain) {
			err = fmt.Errorf("is %v, want %v", f, frameOf(f.stored, i, plain))
		}
		if err != nil {
			return nil, corrupt(object, at, "frame %d: header %v", n, err)
		}
		if dst, err = d.payload(cipher, rest[frameHeader:], n, f, dst); err != nil {
			return nil, corrupt(object, at+frameHeader, "frame %d: payload %v", n, err)
		}
		size := frameHeader + int(f.stored.Payload())
		at, rest = at+int64(size), rest[size:]
	}
	if len(rest) > 0 {
		return nil, corrupt(object, at, "%d bytes follow the last frame", len(rest))
	}
	return dst, nil
}

// Frame appends the plaintext of frame i of a chunk to dst, given the stored
// bytes of its FrameRange. The error is a *seal.CorruptError.
func (d *Decoder) Frame(cipher *seal.PackCipher, object string, c *TOCChunk, i int, stored, dst []byte) ([]byte, error) {
	offset, length := c.FrameRange(i)
	n := uint64(c.Frame) + uint64(i)
	want := frameOf(c.FrameStored[i], i, int(c.Plain))
	if len(stored) != int(length) {
		return nil, corrupt(object, int64(offset), "frame %d: %d stored bytes, want %d", n, len(stored), length)
	}
	f, err := d.header(cipher, stored, n)
	if err == nil && f != want {
		err = fmt.Errorf("is %v, the table of contents says %v", f, want)
	}
	if err != nil {
		return nil, corrupt(object, int64(offset), "frame %d: header %v", n, err)
	}
	dst = slices.Grow(dst, f.plain)
	if dst, err = d.payload(cipher, stored[frameHeader:], n, f, dst); err != nil {
		return nil, corrupt(object, int64(offset)+frameHeader, "frame %d: payload %v", n, err)
	}
	return dst, nil
}

// header opens the header that stored begins with.
func (d *Decoder) header(cipher *seal.PackCipher, stored []byte, n uint64) (frame, error) {
	if len(stored) < frameHeader {
		return frame{}, fmt.Errorf("ends after %d bytes, want %d", len(stored), frameHeader)
	}
	head, err := cipher.Open(d.head[:0], stored[:frameHeader], nil, seal.FrameHeader, n)
	if err != nil {
		return frame{}, err
	}
	return parseFrame(head)
}

// payload opens and decodes the payload that stored begins with.
func (d *Decoder) payload(cipher *seal.PackCipher, stored []byte, n uint64, f frame, dst []byte) ([]byte, error) {
	size := int(f.stored.Payload())
	if len(stored) < size {
		return nil, fmt.Errorf("ends after %d bytes, want %d", len(stored), size)
	}
	if f.stored.Raw() {
		return cipher.Open(dst, stored[:size], nil, seal.FramePayload, n)
	}
	block, err := cipher.Open(d.block[:0], stored[:size], nil, seal.FramePayload, n)
	if err != nil {
		return nil, err
	}
	from, to := len(dst), len(dst)+f.plain
	dst = slices.Grow(dst, f.plain)[:to]
	got, err := lz4.UncompressBlock(block, dst[from:to:to])
	if err != nil {
		return nil, errors.New("is no LZ4 block")
	}
	if got != f.plain {
		return nil, fmt.Errorf("decodes to %d bytes, want %d", got, f.plain)
	}
	return dst, nil
}

// String tells what a frame's header says, for error messages.
func (f frame) String() string {
	s := fmt.Sprintf("%d bytes stored as %d", f.plain, f.stored.Payload())
	if f.stored.Raw() {
		s += ", raw"
	}
	if f.first {
		s += ", first"
	}
	if f.last {
		s += ", last"
	}
	return s
}
