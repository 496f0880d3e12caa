// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// What an entry can say at most.
const (
	packHeaderSize  = pack.HeaderSize
	packTrailerSize = 24
	maxPackSize     = pack.MaxPack
	maxPlain        = pack.MaxPlain
)

const (
	packRecordSize  = 56
	entryRecordSize = 52
)

// PackID identifies one stored pack.
type PackID struct {
	Session uint64
	Seq     uint32
	Hash    [32]byte
	Size    uint32
	Class   chunk.Class
}

// Name returns the name of the pack's object.
func (p PackID) Name() string { return pack.Name(p.Session, p.Seq, p.Hash) }

// compare is Compare without copies, for hot loops.
func (p *PackID) compare(q *PackID) int {
	if c := cmp.Compare(p.Session, q.Session); c != 0 {
		return c
	}
	if c := cmp.Compare(p.Seq, q.Seq); c != 0 {
		return c
	}
	return cmp.Or(bytes.Compare(p.Hash[:], q.Hash[:]), cmp.Compare(p.Size, q.Size), cmp.Compare(p.Class, q.Class))
}

// Compare orders packs by session, sequence and then all else, so that packs
// which differ in anything are different.
func (p PackID) Compare(q PackID) int { return p.compare(&q) }

func (p PackID) check() error {
	switch {
	case !p.Class.Valid():
		return fmt.Errorf("pack class is %d, expected 1 to 3", p.Class)
	case p.Size < packHeaderSize+packTrailerSize || p.Size > maxPackSize:
		return fmt.Errorf("pack size is %d, expected %d to %d", p.Size, packHeaderSize+packTrailerSize, maxPackSize)
	}
	return nil
}

// Location says where one chunk lies.
type Location struct {
	Pack PackID
	pack.Entry
}

// compare orders locations as segments and tables do.
func (l *Location) compare(m *Location) int {
	if c := l.ID.Compare(m.ID); c != 0 {
		return c
	}
	if c := l.Pack.compare(&m.Pack); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(l.Offset, m.Offset), cmp.Compare(l.Stored, m.Stored),
		cmp.Compare(l.Frame, m.Frame), cmp.Compare(l.Plain, m.Plain))
}

// entry is one entry record: a Location whose pack is a place in some table.
type entry struct {
	id                                 chunk.ID
	pack, offset, stored, frame, plain uint32
}

func (e *entry) compare(f *entry) int {
	if c := bytes.Compare(e.id[:], f.id[:]); c != 0 {
		return c
	}
	if c := cmp.Compare(e.pack, f.pack); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(e.offset, f.offset), cmp.Compare(e.stored, f.stored),
		cmp.Compare(e.frame, f.frame), cmp.Compare(e.plain, f.plain))
}

func (e *entry) check(p *PackID) error {
	end := uint64(e.offset) + uint64(e.stored)
	switch {
	case e.offset < packHeaderSize || e.stored == 0 || end > uint64(p.Size-packTrailerSize):
		return fmt.Errorf("entry lies at %d to %d of a pack of %d bytes", e.offset, end, p.Size)
	case e.plain == 0 || e.plain > maxPlain:
		return fmt.Errorf("entry has %d plain bytes, expected 1 to %d", e.plain, maxPlain)
	}
	return nil
}

func (e *entry) location(p PackID) Location {
	return Location{Pack: p, Entry: pack.Entry{ID: e.id, Offset: e.offset, Stored: e.stored, Frame: e.frame, Plain: e.plain}}
}

func entryOf(l *Location, packIndex uint32) entry {
	return entry{id: l.ID, pack: packIndex, offset: l.Offset, stored: l.Stored, frame: l.Frame, plain: l.Plain}
}

func (e *entry) put(b []byte) {
	_ = b[entryRecordSize-1]
	copy(b, e.id[:])
	binary.LittleEndian.PutUint32(b[32:], e.pack)
	binary.LittleEndian.PutUint32(b[36:], e.offset)
	binary.LittleEndian.PutUint32(b[40:], e.stored)
	binary.LittleEndian.PutUint32(b[44:], e.frame)
	binary.LittleEndian.PutUint32(b[48:], e.plain)
}

func (e *entry) get(b []byte) {
	_ = b[entryRecordSize-1]
	copy(e.id[:], b)
	e.pack = binary.LittleEndian.Uint32(b[32:])
	e.offset = binary.LittleEndian.Uint32(b[36:])
	e.stored = binary.LittleEndian.Uint32(b[40:])
	e.frame = binary.LittleEndian.Uint32(b[44:])
	e.plain = binary.LittleEndian.Uint32(b[48:])
}

func (p *PackID) put(b []byte) {
	clear(b[:packRecordSize])
	binary.LittleEndian.PutUint64(b, p.Session)
	binary.LittleEndian.PutUint32(b[8:], p.Seq)
	binary.LittleEndian.PutUint32(b[12:], p.Size)
	b[16] = byte(p.Class)
	copy(b[24:], p.Hash[:])
}

func (p *PackID) get(b []byte) {
	_ = b[packRecordSize-1]
	p.Session = binary.LittleEndian.Uint64(b)
	p.Seq = binary.LittleEndian.Uint32(b[8:])
	p.Size = binary.LittleEndian.Uint32(b[12:])
	p.Class = chunk.Class(b[16])
	copy(p.Hash[:], b[24:])
}
