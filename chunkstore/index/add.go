// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// Has reports whether a segment was added, by this process or, as far as this
// one has noticed, another. Damage makes it false; Add will tell.
func (c *Cache) Has(name string) bool {
	digest := c.nameDigest(name)
	found, err := c.hasName(&digest)
	return err == nil && found
}

func (c *Cache) nameDigest(name string) chunk.ID {
	c.nameMu.Lock()
	defer c.nameMu.Unlock()
	return c.namer.Name(append([]byte("segment\x00"), name...))
}

func (c *Cache) hasName(name *chunk.ID) (bool, error) {
	s, err := c.set.acquire()
	if err != nil {
		return false, err
	}
	defer s.release()
	for _, t := range s.tables {
		if found, err := t.hasName(name); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// Add makes the entries of a segment searchable, durably. A name that was
// added before is nothing to do. Add waits for other processes' changes as
// long as ctx allows. After an error the segment may or may not be in: Has
// knows.
func (c *Cache) Add(ctx context.Context, name string, segment []byte) error {
	digest := c.nameDigest(name)
	if found, err := c.hasName(&digest); err != nil || found {
		return err
	}
	seg, err := DecodeSegment(name, segment)
	if err != nil {
		return err
	}
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	lock, err := lockDir(ctx, c.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := c.refresh(); err != nil {
		return err
	}
	if found, err := c.hasName(&digest); err != nil || found {
		return err
	}
	err = c.change(func(tables []*table) ([]*table, error) {
		t, err := c.create(func(w *tableWriter) error { return writeSegment(ctx, w, &digest, seg) })
		return append(tables, t), err
	})
	if err != nil {
		return fmt.Errorf("add index segment %s: %w", name, err)
	}
	if err := c.merge(ctx); err != nil {
		return fmt.Errorf("merge local index: %w", err)
	}
	return nil
}

// refresh brings in what other processes did and removes what killed ones left.
func (c *Cache) refresh() error {
	ids, err := c.readManifest()
	if err != nil {
		return err
	}
	if err := sweep(c.dir, ids); err != nil {
		return err
	}
	return c.load(ids)
}

func (c *Cache) merge(ctx context.Context) error {
	return c.change(func(tables []*table) ([]*table, error) {
		from, needed := planMerge(tables, c.most)
		if !needed {
			return nil, nil
		}
		t, err := c.create(func(w *tableWriter) error { return mergeTables(ctx, w, tables[from:]) })
		return append(tables[:from], t), err
	})
}

// create writes and syncs a table that the manifest does not name yet.
func (c *Cache) create(fill func(*tableWriter) error) (*table, error) {
	id := newTableID()
	f, err := os.OpenFile(tablePath(c.dir, id), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create index table: %w", err)
	}
	c.step("table created")
	t, err := buildTable(c.key, id, f, fill)
	if err != nil {
		return nil, errors.Join(err, os.Remove(tablePath(c.dir, id)))
	}
	c.step("table written")
	if err := t.f.Sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("sync index table: %w", err), t.close(), os.Remove(t.path))
	}
	return t, nil
}

// change replaces the tables in force by what fn makes of a copy of them: some
// taken away and one appended, or nil for no change. Callers hold the lock.
func (c *Cache) change(fn func([]*table) ([]*table, error)) error {
	s, err := c.set.acquire()
	if err != nil {
		return err
	}
	defer s.release()
	tables, err := fn(append([]*table(nil), s.tables...))
	if err != nil || tables == nil {
		return err
	}
	ids := make([]tableID, len(tables))
	keep := make(map[tableID]bool, len(tables))
	for i, t := range tables {
		ids[i] = t.id
		keep[t.id] = true
	}
	c.step("manifest")
	if err := c.writeManifest(ids); err != nil {
		// Whether the new manifest is in force is unknown; the next change reads
		// it again and sweeps, so nothing is removed here.
		return errors.Join(err, tables[len(tables)-1].close())
	}
	if err := c.set.replace(tables); err != nil {
		return err
	}
	c.step("old tables")
	for _, t := range s.tables {
		if !keep[t.id] {
			if err := os.Remove(t.path); err != nil {
				return fmt.Errorf("remove merged index table: %w", err)
			}
		}
	}
	return nil
}
