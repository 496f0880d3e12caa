// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// MaxEntries is how many entries one segment holds at most.
const MaxEntries = 1 << 20

const (
	segmentMagic      = "TDIX"
	segmentVersion    = 1
	segmentHeaderSize = 16
)

// EncodeSegment returns the plaintext of a segment of these locations, which
// it sorts in place. It refuses what DecodeSegment would refuse, by decoding
// what it wrote.
func EncodeSegment(locs []Location) ([]byte, error) {
	if len(locs) > MaxEntries {
		return nil, fmt.Errorf("encode index segment: %d entries, at most %d", len(locs), MaxEntries)
	}
	slices.SortFunc(locs, func(a, b Location) int { return a.compare(&b) })
	packs := packsOf(locs)
	b := make([]byte, segmentHeaderSize+len(packs)*packRecordSize+len(locs)*entryRecordSize)
	copy(b, segmentMagic)
	b[4] = segmentVersion
	binary.LittleEndian.PutUint32(b[8:], uint32(len(packs)))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(locs)))
	at := b[segmentHeaderSize:]
	place := make(map[PackID]uint32, len(packs))
	for i := range packs {
		packs[i].put(at)
		at = at[packRecordSize:]
		place[packs[i]] = uint32(i)
	}
	for i := range locs {
		e := entryOf(&locs[i], place[locs[i].Pack])
		e.put(at)
		at = at[entryRecordSize:]
	}
	s, err := DecodeSegment("new index segment", b)
	if err != nil {
		return nil, fmt.Errorf("encode index segment: %w", err)
	}
	for i := range locs {
		if s.At(i) != locs[i] {
			return nil, fmt.Errorf("encode index segment: entry %d reads back differently", i)
		}
	}
	return b, nil
}

func packsOf(locs []Location) []PackID {
	seen := make(map[PackID]struct{})
	packs := []PackID{}
	for i := range locs {
		if _, ok := seen[locs[i].Pack]; !ok {
			seen[locs[i].Pack] = struct{}{}
			packs = append(packs, locs[i].Pack)
		}
	}
	slices.SortFunc(packs, PackID.Compare)
	return packs
}

// Segment is a decoded segment. It refers to the bytes it was decoded from.
type Segment struct {
	packs   []PackID
	entries []byte
}

// DecodeSegment checks the plaintext of a segment wholly; object is its name
// for errors, which are *seal.CorruptError or seal.ErrNewerVersion.
func DecodeSegment(object string, b []byte) (*Segment, error) {
	corrupt := func(offset int, format string, args ...any) error {
		return &seal.CorruptError{Object: object, Offset: int64(offset), Detail: fmt.Sprintf(format, args...)}
	}
	if len(b) < segmentHeaderSize {
		return nil, corrupt(0, "index segment has %d bytes, expected at least %d", len(b), segmentHeaderSize)
	}
	if string(b[:4]) != segmentMagic {
		return nil, corrupt(0, "index segment begins with %x, expected %x", b[:4], segmentMagic)
	}
	if b[4] > segmentVersion {
		return nil, fmt.Errorf("%s: index segment version %d: %w", object, b[4], seal.ErrNewerVersion)
	}
	if b[4] != segmentVersion || b[5]|b[6]|b[7] != 0 {
		return nil, corrupt(4, "index segment version is %x, expected %x", b[4:8], [4]byte{segmentVersion})
	}
	p, n := uint64(binary.LittleEndian.Uint32(b[8:])), uint64(binary.LittleEndian.Uint32(b[12:]))
	if n > MaxEntries || p > n {
		return nil, corrupt(8, "index segment has %d packs and %d entries, at most %d", p, n, MaxEntries)
	}
	if want := segmentHeaderSize + p*packRecordSize + n*entryRecordSize; uint64(len(b)) != want {
		return nil, corrupt(len(b), "index segment has %d bytes, expected %d", len(b), want)
	}
	s := &Segment{packs: make([]PackID, p), entries: b[segmentHeaderSize+p*packRecordSize:]}
	if i, err := s.readPacks(b[segmentHeaderSize:]); err != nil {
		return nil, corrupt(segmentHeaderSize+i*packRecordSize, "%v", err)
	}
	if i, err := s.checkEntries(); err != nil {
		return nil, corrupt(len(b)-len(s.entries)+i*entryRecordSize, "%v", err)
	}
	return s, nil
}

// readPacks returns the index of the record that the error is about.
func (s *Segment) readPacks(b []byte) (int, error) {
	for i := range s.packs {
		r := b[i*packRecordSize:]
		p := &s.packs[i]
		p.get(r)
		if [7]byte(r[17:24]) != [7]byte{} {
			return i, fmt.Errorf("reserved bytes are %x, expected zeros", r[17:24])
		}
		if err := p.check(); err != nil {
			return i, err
		}
		if i > 0 && s.packs[i-1].Compare(*p) >= 0 {
			return i, fmt.Errorf("pack %d does not ascend", i)
		}
	}
	return 0, nil
}

func (s *Segment) checkEntries() (int, error) {
	used := make([]bool, len(s.packs))
	missing := len(used)
	var prev, e entry
	for i := range s.Len() {
		e.get(s.entries[i*entryRecordSize:])
		if uint64(e.pack) >= uint64(len(s.packs)) {
			return i, fmt.Errorf("entry names pack %d of %d", e.pack, len(s.packs))
		}
		if err := e.check(&s.packs[e.pack]); err != nil {
			return i, err
		}
		if c := prev.id.Compare(e.id); i > 0 && (c > 0 || c == 0 && prev.pack >= e.pack) {
			return i, fmt.Errorf("chunk %s in pack %d after chunk %s in pack %d", e.id, e.pack, prev.id, prev.pack)
		}
		if !used[e.pack] {
			used[e.pack] = true
			missing--
		}
		prev = e
	}
	if missing > 0 {
		return s.Len(), fmt.Errorf("%d of %d packs have no entry", missing, len(used))
	}
	return 0, nil
}

// Len returns the number of entries.
func (s *Segment) Len() int { return len(s.entries) / entryRecordSize }

// Packs returns the segment's packs, ascending. They belong to the segment.
func (s *Segment) Packs() []PackID { return s.packs }

// At returns entry i of the ascending entries.
func (s *Segment) At(i int) Location {
	e := s.entry(i)
	return e.location(s.packs[e.pack])
}

func (s *Segment) entry(i int) (e entry) {
	e.get(s.entries[i*entryRecordSize:])
	return e
}
