// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// tableWriter writes one table in the order packs, names, entries; the header
// comes last, because merging finds duplicates and so the counts only then.
type tableWriter struct {
	key  *pageKey
	id   tableID
	f    *os.File
	w    *bufio.Writer
	page [pageSize]byte
	used int // bytes of page
	next uint64
	at   int // section being written

	counts [3]uint64

	lastPack  PackID
	lastName  chunk.ID
	lastEntry entry
}

var recordSizes = [3]int{packRecordSize, nameSize, entryRecordSize}

func newTableWriter(key *pageKey, id tableID, f *os.File) (*tableWriter, error) {
	w := &tableWriter{key: key, id: id, f: f, w: bufio.NewWriterSize(f, 64*pageSize)}
	return w, w.flush() // keeps the header's place
}

// The add methods refuse what does not ascend: a table out of order would
// answer "absent" for what it holds.

func (w *tableWriter) addPack(p *PackID) error {
	if w.counts[0] > 0 && w.lastPack.compare(p) >= 0 {
		return w.disorder("pack")
	}
	r, err := w.room(0)
	if err == nil {
		p.put(r)
		w.lastPack = *p
	}
	return err
}

func (w *tableWriter) addName(name *chunk.ID) error {
	if w.counts[1] > 0 && compareIDs(&w.lastName, name) >= 0 {
		return w.disorder("name")
	}
	r, err := w.room(1)
	if err == nil {
		copy(r, name[:])
		w.lastName = *name
	}
	return err
}

func (w *tableWriter) addEntry(e *entry) error {
	if w.counts[2] > 0 && w.lastEntry.compare(e) >= 0 {
		return w.disorder("entry")
	}
	r, err := w.room(2)
	if err == nil {
		e.put(r)
		w.lastEntry = *e
	}
	return err
}

func (w *tableWriter) disorder(what string) error {
	return fmt.Errorf("write index table %s: a %s after %v packs, names, entries does not ascend", w.f.Name(), what, w.counts)
}

// room returns where the next record of a section goes.
func (w *tableWriter) room(section int) ([]byte, error) {
	size := recordSizes[section]
	if section < w.at {
		return nil, fmt.Errorf("write index table %s: section %d after %d", w.f.Name(), section, w.at)
	}
	if w.used > 0 && (section > w.at || w.used+size > pageRoom) {
		if err := w.flush(); err != nil {
			return nil, err
		}
	}
	w.at = section
	r := w.page[w.used:][:size]
	w.used += size
	w.counts[section]++
	return r, nil
}

func (w *tableWriter) flush() error {
	w.key.seal(w.page[:], w.id, w.next)
	if _, err := w.w.Write(w.page[:]); err != nil {
		return fmt.Errorf("write index table: %w", err)
	}
	clear(w.page[:])
	w.next++
	w.used = 0
	return nil
}

// finish writes what is left and the header; the file is not synced.
func (w *tableWriter) finish() error {
	if w.used > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("write index table: %w", err)
	}
	l := newLayout(w.counts[0], w.counts[1], w.counts[2])
	l.put(w.page[:])
	w.key.seal(w.page[:], w.id, 0)
	if _, err := w.f.WriteAt(w.page[:], 0); err != nil {
		return fmt.Errorf("write index table: %w", err)
	}
	return nil
}

// writeSegment fills a table with one segment.
func writeSegment(ctx context.Context, w *tableWriter, name *chunk.ID, s *Segment) error {
	for i := range s.packs {
		if err := w.addPack(&s.packs[i]); err != nil {
			return err
		}
	}
	if err := w.addName(name); err != nil {
		return err
	}
	for i := range s.Len() {
		if i%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := s.entry(i)
		if err := w.addEntry(&e); err != nil {
			return err
		}
	}
	return nil
}
