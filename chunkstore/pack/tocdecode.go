// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// minRecord is the least a chunk takes in a table of contents: name, plain
// length, one frame, digest size, count of pieces, unit.
const minRecord = 32 + 1 + 1 + 1 + 1 + 1

// tocDecoder reads the plaintext of a table of contents. Slices of all chunks
// grow in arenas; a chunk's share is cut out when it is complete, so growing
// again leaves it where it was.
type tocDecoder struct {
	object string
	base   int64 // offset in the object of b's first byte
	b      []byte
	pos    int

	frames  []FrameStored
	pieces  []chunk.Piece
	digests []chunk.Digest
}

// decodeTOC reads the plaintext b of a table of contents that lies at offset
// base of a pack of the given class, behind the given number of frames. Every
// byte between the header and the table must belong to a frame.
func decodeTOC(object string, base int64, b []byte, class chunk.Class, frames uint32) (*TOC, error) {
	d := &tocDecoder{object: object, base: base, b: b}
	toc := &TOC{}
	count, err := d.head(&toc.Header, class)
	if err != nil {
		return nil, err
	}
	toc.Chunks = make([]TOCChunk, count)
	next := Entry{Offset: HeaderSize}
	for i := range toc.Chunks {
		c := &toc.Chunks[i]
		c.Offset, c.Frame = next.Offset, next.Frame
		if err := d.chunk(c, class); err != nil {
			if c, ok := errors.AsType[*seal.CorruptError](err); ok {
				c.Detail = fmt.Sprintf("%s (chunk %d of %d)", c.Detail, i, count)
			}
			return nil, err
		}
		next.Offset, next.Frame = c.Offset+c.Stored, c.Frame+uint32(len(c.FrameStored))
	}
	if d.pos != len(b) {
		return nil, d.corrupt("%d bytes follow the last chunk's record", len(b)-d.pos)
	}
	if int64(next.Offset) != base || next.Frame != frames {
		return nil, d.corrupt("%d frames end at %d, want %d frames that end at %d", next.Frame, next.Offset, frames, base)
	}
	return toc, nil
}

func (d *tocDecoder) head(h *Header, class chunk.Class) (count int, err error) {
	fixed, err := d.bytes(2)
	if err != nil {
		return 0, err
	}
	if fixed[0] != tocVersion || chunk.Class(fixed[1]) != class {
		return 0, d.corrupt("table of contents of version %d and class %d, want %d and %d", fixed[0], fixed[1], tocVersion, uint8(class))
	}
	n, err := d.uvarint("length of the domain", MaxDomain)
	if err != nil {
		return 0, err
	}
	domain, err := d.bytes(int(n))
	if err != nil {
		return 0, err
	}
	volume, err := d.bytes(len(h.Volume))
	if err != nil {
		return 0, err
	}
	session, err := d.uvarint("session", 1<<64-1)
	if err != nil {
		return 0, err
	}
	seq, err := d.uvarint("number in the session", 1<<32-1)
	if err != nil {
		return 0, err
	}
	*h = Header{Class: class, Domain: string(domain), Volume: [16]byte(volume), Session: session, Seq: uint32(seq)}
	chunks, err := d.uvarint("number of chunks", uint64(len(d.b)-d.pos)/minRecord+1)
	if err == nil && chunks > uint64(len(d.b)-d.pos)/minRecord {
		err = d.corrupt("%d chunks in %d bytes", chunks, len(d.b)-d.pos)
	}
	return int(chunks), err
}

func (d *tocDecoder) chunk(c *TOCChunk, class chunk.Class) error {
	id, err := d.bytes(len(c.ID))
	if err != nil {
		return err
	}
	plain, err := d.uvarint("plaintext length", MaxPlain)
	if err != nil {
		return err
	}
	if plain == 0 {
		return d.corrupt("a chunk of no bytes")
	}
	c.ID, c.Plain = chunk.ID(id), uint32(plain)
	if err := d.frameList(c); err != nil {
		return err
	}
	log, err := d.bytes(1)
	if err != nil {
		return err
	}
	if log[0] > maxDigestLog {
		return d.corrupt("digest size 2^%d", log[0])
	}
	if log[0] != 0 {
		c.DigestSize = 1 << log[0]
	}
	if err := d.pieceList(c); err != nil {
		return err
	}
	info := Info{DigestSize: c.DigestSize, Pieces: c.Pieces}
	if err := info.check(class, int64(plain)); err != nil {
		return d.corrupt("%v", err)
	}
	return d.digestList(c)
}

func (d *tocDecoder) frameList(c *TOCChunk) error {
	from := len(d.frames)
	stored := int64(0)
	n := frameCount(int(c.Plain))
	for i := range n {
		v, err := d.uvarint("frame length", 1<<32-1)
		if err != nil {
			return err
		}
		s := FrameStored(v)
		if err := s.check(frameOf(s, i, int(c.Plain)).plain); err != nil {
			return d.corrupt("frame %d: %v", i, err)
		}
		d.frames = append(d.frames, s)
		stored += frameHeader + int64(s.Payload())
	}
	if int64(c.Offset)+stored > d.base {
		return d.corrupt("frames from %d of %d bytes, the table of contents begins at %d", c.Offset, stored, d.base)
	}
	c.FrameStored = d.frames[from:len(d.frames):len(d.frames)]
	c.Stored = uint32(stored)
	return nil
}

func (d *tocDecoder) pieceList(c *TOCChunk) error {
	from := len(d.pieces)
	count, err := d.uvarint("number of pieces", MaxPlain)
	if err != nil {
		return err
	}
	unit, err := d.bytes(1)
	if err != nil {
		return err
	}
	if u := unit[0]; u != 0 && (u != pageLog || count == 0) {
		return d.corrupt("%d pieces in units of 2^%d", count, u)
	}
	var end int64
	for range count {
		gap, err := d.varint("gap before a piece", maxVolume>>unit[0])
		if err != nil {
			return err
		}
		n, err := d.uvarint("length of a piece", MaxPlain>>unit[0])
		if err != nil {
			return err
		}
		p := chunk.Piece{Offset: end + gap<<unit[0], Length: int64(n) << unit[0]}
		if p.Offset < 0 || p.Offset > maxVolume {
			return d.corrupt("piece at %d", p.Offset)
		}
		d.pieces = append(d.pieces, p)
		end = p.End()
	}
	c.Pieces = d.pieces[from:len(d.pieces):len(d.pieces)]
	return nil
}

func (d *tocDecoder) digestList(c *TOCChunk) error {
	count := chunk.CountDigestPieces(c.Pieces, int64(c.DigestSize))
	if room := int64(len(d.b)-d.pos) / 8; count > room {
		return d.corrupt("%d digests, there is room for %d", count, room)
	}
	b, err := d.bytes(8 * int(count))
	if err != nil {
		return err
	}
	from := len(d.digests)
	for ; len(b) > 0; b = b[8:] {
		d.digests = append(d.digests, chunk.Digest(binary.LittleEndian.Uint64(b)))
	}
	c.Digests = d.digests[from:len(d.digests):len(d.digests)]
	return nil
}

func (d *tocDecoder) bytes(n int) ([]byte, error) {
	if n > len(d.b)-d.pos {
		return nil, d.corrupt("ends after %d bytes, %d more are wanted", len(d.b), n-(len(d.b)-d.pos))
	}
	b := d.b[d.pos : d.pos+n]
	d.pos += n
	return b, nil
}

func (d *tocDecoder) uvarint(what string, most uint64) (uint64, error) {
	v, n := binary.Uvarint(d.b[d.pos:])
	if n <= 0 || v > most {
		return 0, d.corrupt("%s: %d, want at most %d", what, v, most)
	}
	d.pos += n
	return v, nil
}

func (d *tocDecoder) varint(what string, most int64) (int64, error) {
	v, n := binary.Varint(d.b[d.pos:])
	if n <= 0 || v > most || v < -most {
		return 0, d.corrupt("%s: %d, want at most %d", what, v, most)
	}
	d.pos += n
	return v, nil
}

func (d *tocDecoder) corrupt(format string, args ...any) error {
	return corrupt(d.object, d.base+int64(d.pos), "table of contents: "+format, args...)
}
