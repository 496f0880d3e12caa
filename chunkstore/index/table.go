// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime/debug"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// table is one mapped table file. It is immutable and for concurrent use until
// close. Lookups go through the mapping; passes over all of it read the file.
type table struct {
	layout
	key  *pageKey
	id   tableID
	path string
	f    *os.File
	data []byte
	refs int // snapshots that hold it; guarded by tableSet.mu
}

// openTable takes over f, also when it fails.
func openTable(key *pageKey, id tableID, f *os.File) (*table, error) {
	t := &table{key: key, id: id, path: f.Name(), f: f}
	if err := t.open(); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *table) open() error {
	info, err := t.f.Stat()
	if err != nil {
		return fmt.Errorf("open index table: %w", err)
	}
	if info.Size() < pageSize || int64(int(info.Size())) != info.Size() {
		return t.damage(0, fmt.Sprintf("table has %d bytes, expected at least %d", info.Size(), pageSize))
	}
	header := make([]byte, pageSize)
	if err := t.read(header, 0); err != nil {
		return err
	}
	if err := t.get(header); err != nil {
		return t.damage(0, err.Error())
	}
	if info.Size() != t.bytes() {
		return t.damage(0, fmt.Sprintf("table has %d bytes, expected %d", info.Size(), t.bytes()))
	}
	t.data, err = unix.Mmap(int(t.f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map index table %s: %w", t.path, err)
	}
	// A lookup touches pages far apart; reading ahead would only evict others.
	if err := unix.Madvise(t.data, unix.MADV_RANDOM); err != nil {
		return fmt.Errorf("advise on index table %s: %w", t.path, err)
	}
	return nil
}

func (t *table) close() error {
	var err error
	if t.data != nil {
		err = unix.Munmap(t.data)
		t.data = nil
	}
	return errors.Join(err, t.f.Close())
}

func (t *table) damage(page uint64, detail string) error {
	return &DamageError{Path: t.path, Offset: int64(page) * pageSize, Detail: detail}
}

// read fills buf with whole pages from page n on and checks them.
func (t *table) read(buf []byte, n uint64) error {
	got, err := t.f.ReadAt(buf, int64(n)*pageSize)
	if got < len(buf) {
		return t.damage(n, fmt.Sprintf("read %d of %d bytes: %v", got, len(buf), err))
	}
	for i := 0; i < len(buf); i += pageSize {
		p := n + uint64(i/pageSize)
		if bad := t.key.check(buf[i:i+pageSize], t.id, p); bad != "" {
			return t.damage(p, bad)
		}
	}
	return nil
}

// page returns a checked page of the mapping. Callers hold a faultGuard.
func (t *table) page(n uint64) ([]byte, error) {
	p := t.data[n*pageSize:][:pageSize:pageSize]
	if bad := t.key.check(p, t.id, n); bad != "" {
		return nil, t.damage(n, bad)
	}
	return p, nil
}

// faultGuard makes a page that the kernel can't bring in (the file was
// truncated, its disk is failing) a damage instead of the process's death:
//
//	defer t.faultGuard(debug.SetPanicOnFault(true), &err)
func (t *table) faultGuard(old bool, err *error) {
	debug.SetPanicOnFault(old)
	switch r := recover().(type) {
	case nil:
	case interface{ Addr() uintptr }:
		*err = t.damage(0, "a page of the mapping can't be read")
	default:
		panic(r)
	}
}

// cursor stands before a record of a section.
type cursor struct {
	t    *table
	s    section
	p    uint64 // page of the section
	i    int    // record in the page
	page []byte // checked, nil beyond the end
}

// record returns the record at the cursor, or nil at the end.
func (c *cursor) record() []byte {
	if c.page == nil {
		return nil
	}
	return c.page[c.i*c.s.size:][:c.s.size]
}

func (c *cursor) next() (err error) {
	if c.i++; c.i < c.s.inPage(c.p) {
		return nil
	}
	c.p, c.i, c.page = c.p+1, 0, nil
	if c.p < c.s.pages() {
		c.page, err = c.t.page(c.s.first + c.p)
	}
	return err
}

// guesses is after how many probes seek stops to believe that keys are uniform
// and bisects, so that no set of keys makes it slow.
const guesses = 6

// seek finds the first record of s whose 32-byte key is not below id.
func (t *table) seek(s section, id *chunk.ID) (cursor, error) {
	key := binary.BigEndian.Uint64(id[:])
	lo, hi := uint64(0), s.pages()
	low, high := uint64(0), ^uint64(0) // keys around lo…hi
	at := cursor{t: t, s: s, p: hi}
	for probe := 0; lo < hi; probe++ {
		m := lo + (hi-lo)/2
		if probe < guesses {
			m = lo + interpolate(key, low, high, hi-lo)
		}
		page, err := t.page(s.first + m)
		if err != nil {
			return at, err
		}
		n := s.inPage(m)
		last := page[(n-1)*s.size:][:len(id)]
		switch {
		case bytes.Compare(last, id[:]) < 0:
			lo, low = m+1, binary.BigEndian.Uint64(last)
		case bytes.Compare(page[:len(id)], id[:]) >= 0:
			// The records of this key may begin in a page before.
			hi, high = m, binary.BigEndian.Uint64(page)
			at = cursor{t: t, s: s, p: m, page: page}
		default:
			i := sort.Search(n, func(i int) bool { return bytes.Compare(page[i*s.size:][:len(id)], id[:]) >= 0 })
			return cursor{t: t, s: s, p: m, i: i, page: page}, nil
		}
	}
	return at, nil
}

// interpolate guesses which of n pages holds key when keys are uniform.
func interpolate(key, low, high, n uint64) uint64 {
	if key <= low || high <= low {
		return 0
	}
	if key >= high {
		return n - 1
	}
	h, l := bits.Mul64(key-low, n)
	q, _ := bits.Div64(h, l, high-low)
	return min(q, n-1)
}

// find calls fn for each place of a chunk until fn returns false.
func (t *table) find(id *chunk.ID, fn func(Location) bool) (err error) {
	defer t.faultGuard(debug.SetPanicOnFault(true), &err)
	c, err := t.seek(t.entries, id)
	for ; err == nil; err = c.next() {
		r := c.record()
		if r == nil || !bytes.Equal(r[:len(id)], id[:]) {
			return nil
		}
		var e entry
		e.get(r)
		p, err := t.pack(e.pack)
		if err != nil {
			return err
		}
		if !fn(e.location(p)) {
			return nil
		}
	}
	return err
}

// pack reads one record of the pack section. Callers hold a faultGuard.
func (t *table) pack(i uint32) (p PackID, err error) {
	s := t.packs
	if uint64(i) >= s.count {
		return p, t.damage(0, fmt.Sprintf("entry names pack %d of %d", i, s.count))
	}
	n := uint64(i) / s.perPage()
	page, err := t.page(s.first + n)
	if err != nil {
		return p, err
	}
	p.get(page[int(uint64(i)%s.perPage())*s.size:])
	return p, nil
}

// hasName reports whether the table has a segment of that name digest.
func (t *table) hasName(name *chunk.ID) (found bool, err error) {
	defer t.faultGuard(debug.SetPanicOnFault(true), &err)
	c, err := t.seek(t.names, name)
	if err != nil {
		return false, err
	}
	r := c.record()
	return r != nil && bytes.Equal(r, name[:]), nil
}
