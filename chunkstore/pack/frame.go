// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"encoding/binary"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// FrameStored is the stored length of a frame's payload, tag included, and
// whether it is stored raw.
type FrameStored uint32

// Payload returns the bytes of the sealed payload; the frame has frameHeader
// more.
func (s FrameStored) Payload() uint32 { return uint32(s >> 1) }

// Raw reports whether the payload is the plaintext itself, not an LZ4 block.
func (s FrameStored) Raw() bool { return s&1 != 0 }

func frameStored(payload int, raw bool) FrameStored {
	s := FrameStored(payload) << 1
	if raw {
		s |= 1
	}
	return s
}

// check holds the length of a payload against the plaintext it stands for:
// what is raw is as long, what is compressed is shorter.
func (s FrameStored) check(plain int) error {
	n := int64(s.Payload())
	raw := int64(plain) + seal.Overhead
	switch {
	case s.Raw() && n != raw:
		return fmt.Errorf("raw payload of %d bytes, want %d", n, raw)
	case !s.Raw() && (n <= seal.Overhead || n >= raw):
		return fmt.Errorf("compressed payload of %d bytes, want %d to %d", n, seal.Overhead+1, raw-1)
	}
	return nil
}

// frame is what a frame's header says.
type frame struct {
	stored      FrameStored
	plain       int
	first, last bool // of its chunk
}

const (
	flagRaw   = 1 << 0
	flagFirst = 1 << 1
	flagLast  = 1 << 2
)

// put writes the plaintext of the header.
func (f frame) put(b *[8]byte) {
	var flags uint32
	if f.stored.Raw() {
		flags |= flagRaw
	}
	if f.first {
		flags |= flagFirst
	}
	if f.last {
		flags |= flagLast
	}
	binary.LittleEndian.PutUint32(b[:4], f.stored.Payload())
	binary.LittleEndian.PutUint32(b[4:], uint32(f.plain)|flags<<24)
}

// parseFrame reads the plaintext of a header and checks it in itself.
func parseFrame(b []byte) (frame, error) {
	if len(b) != 8 {
		return frame{}, fmt.Errorf("header of %d bytes, want 8", len(b))
	}
	payload, rest := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	flags := rest >> 24
	if flags&^(flagRaw|flagFirst|flagLast) != 0 {
		return frame{}, fmt.Errorf("unknown flags %#x", flags)
	}
	f := frame{plain: int(rest & 0xffffff), first: flags&flagFirst != 0, last: flags&flagLast != 0}
	if f.plain < 1 || f.plain > chunk.FrameSize || !f.last && f.plain != chunk.FrameSize {
		return frame{}, fmt.Errorf("plaintext of %d bytes", f.plain)
	}
	if payload > chunk.FrameSize+seal.Overhead {
		return frame{}, fmt.Errorf("payload of %d bytes", payload)
	}
	f.stored = frameStored(int(payload), flags&flagRaw != 0)
	return f, f.stored.check(f.plain)
}

// frameOf is the header that frame i of a chunk must have.
func frameOf(stored FrameStored, i, plain int) frame {
	off := i * chunk.FrameSize
	return frame{
		stored: stored,
		plain:  min(chunk.FrameSize, plain-off),
		first:  i == 0,
		last:   off+chunk.FrameSize >= plain,
	}
}
