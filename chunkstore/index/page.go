// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

const (
	pageSize    = 4096
	pageRoom    = pageSize - 32 // for records
	pageFileAt  = pageRoom
	pageNumAt   = pageFileAt + 16
	pageDigest  = pageNumAt + 8
	nameSize    = 32
	tableHeader = 32
)

// ErrCacheDamaged says that a local index holds bytes it was not given. The
// remedy is to close it, RemoveCache, and add the segments again.
var ErrCacheDamaged = errors.New("local index is damaged")

// DamageError tells where a local index is damaged; it is an ErrCacheDamaged.
type DamageError struct {
	Path   string
	Offset int64
	Detail string // what was expected and what found
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: %s at offset %d: %s", ErrCacheDamaged, e.Path, e.Offset, e.Detail)
}

// Is makes errors.Is(err, ErrCacheDamaged) hold.
func (e *DamageError) Is(target error) bool { return target == ErrCacheDamaged }

// tableID is random, so that no page can be taken for another table's.
type tableID [16]byte

func (id tableID) String() string { return hex.EncodeToString(id[:]) }

// pageKey seals and checks pages under one key; it is for concurrent use.
type pageKey struct {
	key  [32]byte
	free chan *chunk.Digester // idle digesters: each is for one user at a time
}

func newPageKey(key [32]byte) *pageKey {
	return &pageKey{key: key, free: make(chan *chunk.Digester, 4*runtime.GOMAXPROCS(0))}
}

func (k *pageKey) sum(page []byte) uint64 {
	var d *chunk.Digester
	select {
	case d = <-k.free:
	default:
		d = chunk.NewDigester(k.key)
	}
	s := d.Sum(page[:pageDigest])
	select {
	case k.free <- d:
	default:
	}
	return uint64(s)
}

// seal completes a page whose records are in place.
func (k *pageKey) seal(page []byte, id tableID, n uint64) {
	copy(page[pageFileAt:], id[:])
	binary.LittleEndian.PutUint64(page[pageNumAt:], n)
	binary.LittleEndian.PutUint64(page[pageDigest:], k.sum(page))
}

// check reports what is wrong with a page, or "".
func (k *pageKey) check(page []byte, id tableID, n uint64) string {
	if got := tableID(page[pageFileAt:pageNumAt]); got != id {
		return fmt.Sprintf("page is of table %s, expected %s", got, id)
	}
	if got := binary.LittleEndian.Uint64(page[pageNumAt:]); got != n {
		return fmt.Sprintf("page is number %d, expected %d", got, n)
	}
	if got, want := binary.LittleEndian.Uint64(page[pageDigest:]), k.sum(page); got != want {
		return fmt.Sprintf("page digest is %016x, expected %016x", got, want)
	}
	return ""
}

// section is a run of pages that hold records of one size.
type section struct {
	first uint64 // page
	count uint64 // records
	size  int    // bytes of a record
}

func (s section) perPage() uint64 { return uint64(pageRoom / s.size) }

func (s section) pages() uint64 { return (s.count + s.perPage() - 1) / s.perPage() }

func (s section) end() uint64 { return s.first + s.pages() }

// inPage returns how many records page p of the section holds.
func (s section) inPage(p uint64) int {
	return int(min(s.perPage(), s.count-p*s.perPage()))
}

// layout is where the sections of a table lie.
type layout struct{ packs, names, entries section }

func newLayout(packs, names, entries uint64) (l layout) {
	l.packs = section{first: 1, count: packs, size: packRecordSize}
	l.names = section{first: l.packs.end(), count: names, size: nameSize}
	l.entries = section{first: l.names.end(), count: entries, size: entryRecordSize}
	return l
}

func (l *layout) bytes() int64 { return int64(l.entries.end()) * pageSize }

const (
	tableMagic   = "TDXT"
	tableVersion = 1
	maxRecords   = 1 << 45 // keeps every offset within an int64
)

func (l *layout) put(page []byte) {
	copy(page, tableMagic)
	page[4] = tableVersion
	binary.LittleEndian.PutUint64(page[8:], l.packs.count)
	binary.LittleEndian.PutUint64(page[16:], l.names.count)
	binary.LittleEndian.PutUint64(page[24:], l.entries.count)
}

func (l *layout) get(page []byte) error {
	if string(page[:4]) != tableMagic || page[4] != tableVersion {
		return fmt.Errorf("table begins with %x, expected %x%02x", page[:5], tableMagic, tableVersion)
	}
	p, n, e := binary.LittleEndian.Uint64(page[8:]), binary.LittleEndian.Uint64(page[16:]), binary.LittleEndian.Uint64(page[24:])
	if p > maxRecords || n > maxRecords || e > maxRecords {
		return fmt.Errorf("table counts %d packs, %d names, %d entries, expected at most %d", p, n, e, int64(maxRecords))
	}
	*l = newLayout(p, n, e)
	return nil
}
