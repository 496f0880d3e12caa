// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// Cache is the searchable local copy of a repository's index segments. It is
// for concurrent use, and several processes may have one directory open.
// Errors that are ErrCacheDamaged mean that the directory must be rebuilt;
// they never come as an absent chunk.
type Cache struct {
	dir  string
	key  *pageKey
	most int // tables before they are merged

	set    tableSet
	hidden atomic.Pointer[func(PackID) bool]
	turn   chan struct{} // one Add per process, so that flock is polled by one

	nameMu sync.Mutex
	namer  *chunk.Namer

	step func(string) // told where a change or an opening stands; for tests
}

// OpenCache opens the cache in dir, creating it where there is none. key is
// what pages are checked with; it belongs to the repository, so that one
// repository's cache is damage to another.
func OpenCache(dir string, key [32]byte) (*Cache, error) {
	c := newCache(dir, key)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open local index: %w", err)
	}
	if err := c.open(); err != nil {
		c.set.close()
		return nil, err
	}
	return c, nil
}

func newCache(dir string, key [32]byte) *Cache {
	return &Cache{
		dir: dir, key: newPageKey(key), most: maxTables,
		turn: make(chan struct{}, 1), namer: chunk.NewNamer(key), step: func(string) {},
	}
}

func (c *Cache) open() error {
	// Left-overs are removed when nobody is changing the directory; whoever is
	// has just done so.
	lock, err := tryLock(c.dir)
	if err == nil {
		defer lock.Close()
		ids, err := c.readManifest()
		if err != nil {
			return err
		}
		if err := sweep(c.dir, ids); err != nil {
			return err
		}
		return c.load(ids)
	}
	if !errors.Is(err, errLocked) {
		return err
	}
	return c.loadUnlocked()
}

// loadUnlocked reads beside somebody who may be merging: a table that vanishes
// means that there is a newer manifest.
func (c *Cache) loadUnlocked() error {
	var before []tableID
	for {
		ids, err := c.readManifest()
		if err != nil {
			return err
		}
		c.step("manifest read")
		err = c.load(ids)
		if !errors.Is(err, fs.ErrNotExist) || slices.Equal(ids, before) {
			return err
		}
		before = ids
	}
}

// load puts the tables of a manifest in force, opening those that are new.
func (c *Cache) load(ids []tableID) error {
	old, err := c.set.acquire()
	if err != nil {
		return err
	}
	defer old.release()
	var tables, opened []*table
	for _, id := range ids {
		i := slices.IndexFunc(old.tables, func(t *table) bool { return t.id == id })
		if i >= 0 {
			tables = append(tables, old.tables[i])
			continue
		}
		t, err := c.openTable(id)
		if err != nil {
			closeTables(opened)
			return err
		}
		tables, opened = append(tables, t), append(opened, t)
	}
	if len(opened) == 0 && len(tables) == len(old.tables) {
		return nil
	}
	return c.set.replace(tables)
}

func (c *Cache) openTable(id tableID) (*table, error) {
	path := tablePath(c.dir, id)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, &DamageError{Path: path, Detail: "the manifest names a table that does not exist"})
	}
	if err != nil {
		return nil, fmt.Errorf("open index table: %w", err)
	}
	return openTable(c.key, id, f)
}

// Close gives up the mappings once nobody uses them. It changes nothing on
// disk.
func (c *Cache) Close() error {
	c.set.close()
	return nil
}

// Exclude hides all chunks in packs for which condemned is true: they are
// absent, in this Cache only and from now on. condemned is called per lookup
// and concurrently; nil ends the hiding.
func (c *Cache) Exclude(condemned func(PackID) bool) {
	if condemned == nil {
		c.hidden.Store(nil)
		return
	}
	c.hidden.Store(&condemned)
}

// veil is what Exclude set when a call began.
type veil struct{ hidden *func(PackID) bool }

func (c *Cache) veil() veil { return veil{c.hidden.Load()} }

func (v veil) shows(p *PackID) bool { return v.hidden == nil || !(*v.hidden)(*p) }

// Lookup returns one place of a chunk, or false if no visible pack holds it.
func (c *Cache) Lookup(id chunk.ID) (loc Location, found bool, err error) {
	s, err := c.set.acquire()
	if err != nil {
		return loc, false, err
	}
	defer s.release()
	veil := c.veil()
	for _, t := range s.tables {
		err := t.find(&id, func(l Location) bool {
			if veil.shows(&l.Pack) {
				loc, found = l, true
			}
			return !found
		})
		if err != nil || found {
			return loc, found, err
		}
	}
	return loc, false, nil
}

// LookupAll returns every place of a chunk in a visible pack, ascending.
func (c *Cache) LookupAll(id chunk.ID) ([]Location, error) {
	s, err := c.set.acquire()
	if err != nil {
		return nil, err
	}
	defer s.release()
	veil := c.veil()
	var all []Location
	for _, t := range s.tables {
		err := t.find(&id, func(l Location) bool {
			if veil.shows(&l.Pack) {
				all = append(all, l)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b Location) int { return a.compare(&b) })
	return slices.Compact(all), nil
}

// Chunks returns how many entries are held: a chunk counts once for each pack
// that holds it, hidden ones too, and once more for each table that repeats it.
func (c *Cache) Chunks() int64 {
	s, err := c.set.acquire()
	if err != nil {
		return 0
	}
	defer s.release()
	var n uint64
	for _, t := range s.tables {
		n += t.entries.count
	}
	return int64(n)
}

// Packs calls fn for every visible pack, ascending, each once.
func (c *Cache) Packs(ctx context.Context, fn func(PackID) error) error {
	s, err := c.set.acquire()
	if err != nil {
		return err
	}
	defer s.release()
	veil := c.veil()
	return kway(ctx, sources(s.tables, packSource), (*PackID).compare, distinct(func(p *PackID) error {
		if !veil.shows(p) {
			return nil
		}
		return fn(*p)
	}))
}

// Each calls fn for every entry in a visible pack, ascending by chunk and
// pack, each once. Other calls, changes included, may go on meanwhile; Each
// sees the state of its beginning.
func (c *Cache) Each(ctx context.Context, fn func(Location) error) error {
	s, err := c.set.acquire()
	if err != nil {
		return err
	}
	defer s.release()
	veil := c.veil()
	return kway(ctx, sources(s.tables, locationSource), (*Location).compare, distinct(func(l *Location) error {
		if !veil.shows(&l.Pack) {
			return nil
		}
		return fn(*l)
	}))
}

// Verify checks every page there is.
func (c *Cache) Verify(ctx context.Context) error {
	s, err := c.set.acquire()
	if err != nil {
		return err
	}
	defer s.release()
	buf := make([]byte, streamPages*pageSize)
	for _, t := range s.tables {
		for n, end := uint64(0), t.entries.end(); n < end; n += streamPages {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := t.read(buf[:min(streamPages, end-n)*pageSize], n); err != nil {
				return err
			}
		}
	}
	return nil
}
