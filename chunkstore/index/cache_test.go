// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// cacheModel is a Cache, possibly opened twice on one directory, and what it
// must hold.
type cacheModel struct {
	dir    string
	caches []*Cache
	names  map[string]map[Location]bool
	hidden map[PackID]bool
	next   int
}

func (m *cacheModel) open(t *rapid.T) *Cache {
	c, err := OpenCache(m.dir, testKey)
	if err != nil {
		t.Fatal(err)
	}
	c.most = 3 // merges often
	c.Exclude(func(p PackID) bool { return m.hidden[p] })
	return c
}

func (m *cacheModel) add(t *rapid.T) {
	m.next++
	name := fmt.Sprintf("index/%d", m.next)
	locs := testLocations(rapid.Uint64().Draw(t, "seed"), 200)
	b, err := EncodeSegment(locs)
	if err != nil {
		t.Fatal(err)
	}
	m.addTo(t, name, b)
	m.names[name] = map[Location]bool{}
	for _, l := range locs {
		m.names[name][l] = true
	}
}

// again adds a name that is there; its other content must be ignored.
func (m *cacheModel) again(t *rapid.T) {
	if m.next == 0 {
		t.Skip("nothing added")
	}
	b, err := EncodeSegment([]Location{testLocation(1<<20, 1)})
	if err != nil {
		t.Fatal(err)
	}
	m.addTo(t, fmt.Sprintf("index/%d", rapid.IntRange(1, m.next).Draw(t, "name")), b)
}

// addTo adds through one handle, and to the others, for which it must be
// known by then.
func (m *cacheModel) addTo(t *rapid.T, name string, segment []byte) {
	first := rapid.IntRange(0, len(m.caches)-1).Draw(t, "handle")
	for i := range m.caches {
		c := m.caches[(first+i)%len(m.caches)]
		if err := c.Add(context.Background(), name, segment); err != nil {
			t.Fatal(err)
		}
		if !c.Has(name) {
			t.Fatalf("%s was added and is not there", name)
		}
	}
}

func (m *cacheModel) reopen(t *rapid.T) {
	i := rapid.IntRange(0, len(m.caches)-1).Draw(t, "handle")
	m.caches[i].Close()
	m.caches[i] = m.open(t)
}

func (m *cacheModel) hide(t *rapid.T) {
	m.hidden = map[PackID]bool{}
	for _, p := range rapid.SliceOfN(rapid.IntRange(0, 19), 0, 15).Draw(t, "packs") {
		m.hidden[testPack(p)] = true
	}
}

func (m *cacheModel) want() []Location {
	locs := []Location{}
	for _, s := range m.names {
		for l := range s {
			if !m.hidden[l.Pack] {
				locs = append(locs, l)
			}
		}
	}
	return sorted(locs)
}

func (m *cacheModel) check(t *rapid.T) {
	c := m.caches[rapid.IntRange(0, len(m.caches)-1).Draw(t, "handle")]
	want := m.want()
	got, err := all(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(want, got) {
		t.Fatalf("Each: %s", cmp.Diff(want, got))
	}
	byID := map[chunk.ID][]Location{}
	packs := map[PackID]bool{}
	for _, l := range want {
		byID[l.ID] = append(byID[l.ID], l)
		packs[l.Pack] = true
	}
	for n := rapid.IntRange(0, 200).Draw(t, "from"); n < 600; n += 50 + n%40 {
		m.checkID(t, c, testID(n), byID[testID(n)])
	}
	for i := range min(5, len(want)) {
		id := want[i*len(want)/5].ID
		m.checkID(t, c, id, byID[id])
	}
	m.checkPacks(t, c, packs)
	s, err := c.set.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	if len(s.tables) > c.most {
		t.Fatalf("%d tables, at most %d", len(s.tables), c.most)
	}
	if len(m.hidden) == 0 && c.Chunks() < int64(len(want)) {
		t.Fatalf("Chunks() = %d, holds %d", c.Chunks(), len(want))
	}
}

func (m *cacheModel) checkID(t *rapid.T, c *Cache, id chunk.ID, want []Location) {
	l, found, err := c.Lookup(id)
	if err != nil || found != (len(want) > 0) || found && !slices.Contains(want, l) {
		t.Fatalf("Lookup(%s) = %v, %v, %v; want one of %v", id, l, found, err, want)
	}
	got, err := c.LookupAll(id)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("LookupAll(%s): %v, %s", id, err, cmp.Diff(want, got))
	}
}

func (m *cacheModel) checkPacks(t *rapid.T, c *Cache, want map[PackID]bool) {
	var prev *PackID
	err := c.Packs(context.Background(), func(p PackID) error {
		if !want[p] {
			return fmt.Errorf("pack %s is not wanted", p.Name())
		}
		if prev != nil && prev.Compare(p) >= 0 {
			return fmt.Errorf("pack %s does not ascend", p.Name())
		}
		delete(want, p)
		prev = &p
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Fatalf("Packs: %v, left %v", err, want)
	}
}

func TestCacheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &cacheModel{dir: fastDir(rt), names: map[string]map[Location]bool{}}
		for range rapid.IntRange(1, 2).Draw(rt, "handles") {
			m.caches = append(m.caches, m.open(rt))
		}
		defer func() {
			for _, c := range m.caches {
				c.Close()
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"add": m.add, "again": m.again, "reopen": m.reopen, "exclude": m.hide, "": m.check,
		})
	})
}

// TestPlanMerge adds segments of any sizes and looks at how many tables are
// left and how much was rewritten for it.
func TestPlanMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, maxTables).Draw(t, "most")
		var tables []*table
		var added, written uint64
		adds := rapid.SliceOfN(rapid.Uint64Range(1, 1<<20), rapid.SampledFrom([]int{1, 200}).Draw(t, "least"), 400).Draw(t, "sizes")
		for _, n := range adds {
			tables = append(tables, &table{layout: layout{entries: section{count: n}}})
			added += n
			slices.SortFunc(tables, func(a, b *table) int { return int(b.entries.count) - int(a.entries.count) })
			from, needed := planMerge(tables, most)
			if needed != (len(tables) > most) {
				t.Fatalf("merge of %d tables: %v", len(tables), needed)
			}
			if !needed {
				continue
			}
			var sum uint64
			for _, m := range tables[from:] {
				sum += m.entries.count
			}
			written += sum
			tables = append(tables[:from], &table{layout: layout{entries: section{count: sum}}})
			if len(tables) > most {
				t.Fatalf("%d tables after a merge, at most %d", len(tables), most)
			}
		}
		if most == maxTables && len(adds) >= 100 && written > 8*added {
			t.Fatalf("%d entries were rewritten for %d added", written, added)
		}
	})
}

func TestCacheWithoutAnything(t *testing.T) {
	c := mustOpen(t, filepath.Join(t.TempDir(), "a", "b"))
	if _, found, err := c.Lookup(testID(0)); found || err != nil {
		t.Errorf("Lookup: %v, %v", found, err)
	}
	if c.Has("x") || c.Chunks() != 0 {
		t.Error("an empty cache holds something")
	}
	if err := c.Add(t.Context(), "empty", mustSegment(t, nil)); err != nil {
		t.Fatal(err)
	}
	if !c.Has("empty") || c.Chunks() != 0 {
		t.Error("a segment of nothing was not noted")
	}
}

func TestCacheClosed(t *testing.T) {
	c := mustOpen(t, t.TempDir())
	if err := c.Add(t.Context(), "a", mustSegment(t, testLocations(1, 200))); err != nil {
		t.Fatal(err)
	}
	err := c.Each(t.Context(), func(Location) error { return c.Close() })
	if err != nil {
		t.Errorf("Close took the tables from under Each: %v", err)
	}
	if _, _, err := c.Lookup(testID(0)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Lookup: %v", err)
	}
	if err := c.Add(t.Context(), "b", mustSegment(t, nil)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Add: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestAddRefusesCorruptSegment(t *testing.T) {
	c := mustOpen(t, t.TempDir())
	if err := c.Add(t.Context(), "bad", []byte("TDIX")); err == nil || c.Has("bad") {
		t.Errorf("Add: %v, Has %v", err, c.Has("bad"))
	}
}

func TestAddWaitsForTheLockAsLongAsItMay(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir)
	lock, err := tryLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Add(ctx, "a", mustSegment(t, nil)); !errors.Is(err, stop) {
			t.Errorf("Add: %v", err)
		}
	})
	cancel(stop)
	wg.Wait()
	if err := RemoveCache(ctx, dir); !errors.Is(err, stop) {
		t.Errorf("RemoveCache: %v", err)
	}
}

func TestOpenBesideAHolderOfTheLock(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir)
	locs := testLocations(1, 200)
	if err := c.Add(t.Context(), "a", mustSegment(t, locs)); err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(dir, newTableID().String()+tableSuffix)
	if err := os.WriteFile(orphan, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := tryLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := all(t.Context(), mustOpen(t, dir))
	if err != nil || !slices.Equal(got, sorted(locs)) {
		t.Errorf("opened under another's lock: %d entries, %v", len(got), err)
	}
	if _, err := os.Stat(orphan); err != nil {
		t.Errorf("a file was swept without the lock: %v", err)
	}
	lock.Close()
	mustOpen(t, dir)
	if _, err := os.Stat(orphan); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a left-over was not swept: %v", err)
	}
}

// TestOpenWhileTablesAreMerged merges all tables away between the reading of
// the manifest and the opening of what it names, again and again.
func TestOpenWhileTablesAreMerged(t *testing.T) {
	dir := fastDir(t)
	writer := mustOpen(t, dir)
	writer.most = 1
	want := []Location{}
	add := func(i int) {
		locs := testLocations(uint64(i), 100)
		if err := writer.Add(t.Context(), fmt.Sprint(i), mustSegment(t, locs)); err != nil {
			t.Fatal(err)
		}
		want = append(want, locs...)
	}
	add(0)
	reader := newCache(dir, testKey)
	defer reader.Close()
	reads := 0
	reader.step = func(string) {
		if reads++; reads <= 3 {
			add(reads)
		}
	}
	if err := reader.loadUnlocked(); err != nil {
		t.Fatal(err)
	}
	if got, err := all(t.Context(), reader); err != nil || !slices.Equal(got, sorted(want)) || reads != 4 {
		t.Errorf("%d entries, expected %d, after %d readings: %v", len(got), len(sorted(want)), reads, err)
	}
}

func TestAddSweepsWhatOthersLeft(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir)
	orphan := filepath.Join(dir, newTableID().String()+tableSuffix)
	if err := os.WriteFile(orphan, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(t.Context(), "a", mustSegment(t, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(orphan); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a left-over was not swept: %v", err)
	}
}

func TestRemoveCache(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir)
	locs := testLocations(1, 200)
	if err := c.Add(t.Context(), "a", mustSegment(t, locs)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest-2"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RemoveCache(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if got, err := all(t.Context(), c); err != nil || !slices.Equal(got, sorted(locs)) {
		t.Errorf("a reader lost what it had: %d entries, %v", len(got), err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || strings.Join(files, " ") != filepath.Join(dir, "lock")+" "+filepath.Join(dir, "manifest-2") {
		t.Errorf("left: %v, %v", files, err)
	}
	if d := mustOpen(t, dir); d.Has("a") || d.Chunks() != 0 {
		t.Error("something survived")
	}
	if err := RemoveCache(t.Context(), filepath.Join(dir, "none")); err != nil {
		t.Errorf("no directory: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := mustOpen(t, fastDir(t))
	c.most = 2
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 8 {
				locs := testLocations(uint64(w*100+i), 200)
				if err := c.Add(t.Context(), fmt.Sprintf("%d/%d", w, i), mustSegment(t, locs)); err != nil {
					t.Error(err)
					return
				}
				for _, l := range locs {
					got, err := c.LookupAll(l.ID)
					if err != nil || !slices.Contains(got, l) {
						t.Errorf("LookupAll(%s): %v", l.ID, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if err := c.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	c := mustOpen(t, t.TempDir())
	locs := testLocations(3, 400)
	if err := c.Add(t.Context(), "a", mustSegment(t, locs)); err != nil {
		t.Fatal(err)
	}
	c.Exclude(func(p PackID) bool { return p.Session == 1 })
	i := 0
	n := testing.AllocsPerRun(200, func() {
		if _, _, err := c.Lookup(locs[i%len(locs)].ID); err != nil {
			t.Error(err)
		}
		i++
	})
	if n != 0 {
		t.Errorf("%v allocations per lookup", n)
	}
}
