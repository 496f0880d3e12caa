// SPDX-License-Identifier: Apache-2.0

package index

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
)

// tableSet is the tables in force. It changes as a whole; who works with an
// older set keeps its tables mapped until done (X3).
type tableSet struct {
	mu     sync.Mutex
	now    *snapshot
	closed bool
}

// snapshot is one state of a tableSet, largest table first.
type snapshot struct {
	set    *tableSet
	tables []*table
	refs   int
}

// acquire returns the present state; the caller releases it.
func (s *tableSet) acquire() (*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("use local index: %w", os.ErrClosed)
	}
	if s.now == nil {
		s.now = &snapshot{set: s, refs: 1}
	}
	s.now.refs++
	return s.now, nil
}

// release lets go of a state and unmaps what nobody uses any more.
func (n *snapshot) release() {
	n.set.mu.Lock()
	dead := n.drop()
	n.set.mu.Unlock()
	closeTables(dead)
}

func (n *snapshot) drop() (dead []*table) {
	if n.refs--; n.refs > 0 {
		return nil
	}
	for _, t := range n.tables {
		if t.refs--; t.refs == 0 {
			dead = append(dead, t)
		}
	}
	return dead
}

// replace puts tables in force. After close it closes them instead.
func (s *tableSet) replace(tables []*table) error {
	slices.SortFunc(tables, func(a, b *table) int { return cmp.Compare(b.entries.count, a.entries.count) })
	next := &snapshot{set: s, tables: tables, refs: 1}
	s.mu.Lock()
	for _, t := range tables {
		t.refs++
	}
	var dead []*table
	if s.closed {
		dead = next.drop()
	} else {
		if s.now != nil {
			dead = s.now.drop()
		}
		s.now = next
	}
	closed := s.closed
	s.mu.Unlock()
	closeTables(dead)
	if closed {
		return fmt.Errorf("change local index: %w", os.ErrClosed)
	}
	return nil
}

func (s *tableSet) close() {
	s.mu.Lock()
	var dead []*table
	if s.now != nil && !s.closed {
		dead = s.now.drop()
	}
	s.closed, s.now = true, nil
	s.mu.Unlock()
	closeTables(dead)
}

// closeTables ignores errors: the tables were only read.
func closeTables(ts []*table) {
	for _, t := range ts {
		_ = t.close()
	}
}

func newTableID() (id tableID) {
	rand.Read(id[:]) // never fails: the runtime aborts instead
	return id
}

// randomKey is for tables that only this process reads.
func randomKey() (key [32]byte) {
	rand.Read(key[:])
	return key
}

// buildTable fills a table in f, which it takes over, and opens it.
func buildTable(key *pageKey, id tableID, f *os.File, fill func(*tableWriter) error) (*table, error) {
	w, err := newTableWriter(key, id, f)
	if err == nil {
		err = fill(w)
	}
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return openTable(key, id, f)
}
