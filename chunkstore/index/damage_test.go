// SPDX-License-Identifier: Apache-2.0

package index

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// filled returns a directory with two tables of several pages of entries and
// packs each, and what is in them.
func filled(t *testing.T) (dir string, locs []Location) {
	t.Helper()
	dir = fastDir(t)
	c := mustOpen(t, dir)
	for i, name := range []string{"a", "b"} {
		part := []Location{}
		for n := range 300 {
			part = append(part, testLocation(n, 200*i+n%200))
		}
		if err := c.Add(t.Context(), name, mustSegment(t, part)); err != nil {
			t.Fatal(err)
		}
		locs = append(locs, part...)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, locs
}

func tableFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+tableSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// alter changes a file in place, for mappings of it to see.
func alter(t *testing.T, path string, change func([]byte)) (restore func()) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(b, 0)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	bad := slices.Clone(b)
	change(bad)
	write(bad)
	return func() { write(b) }
}

// checkNeverWrong looks at everything: all answers must be right or
// ErrCacheDamaged.
func checkNeverWrong(t *testing.T, c *Cache, locs []Location) {
	t.Helper()
	for _, l := range locs[:300] {
		got, found, err := c.Lookup(l.ID)
		if err != nil && !errors.Is(err, ErrCacheDamaged) {
			t.Fatalf("Lookup: %v", err)
		}
		if err == nil && (!found || !slices.Contains(locs, got)) {
			t.Fatalf("Lookup(%s) = %v, %v", l.ID, got, found)
		}
	}
	if _, err := c.LookupAll(testID(5)); err != nil && !errors.Is(err, ErrCacheDamaged) {
		t.Fatalf("LookupAll: %v", err)
	}
}

// TestDamageOfAnyPage alters one bit in every page of every table, at its
// first and last byte and somewhere between.
func TestDamageOfAnyPage(t *testing.T) {
	dir, locs := filled(t)
	if n := len(tableFiles(t, dir)); n != 2 {
		t.Fatalf("%d tables, expected 2", n)
	}
	for _, path := range tableFiles(t, dir) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for page := int64(0); page*pageSize < info.Size(); page++ {
			for _, at := range []int64{0, (page*997 + 1234) % pageSize, pageSize - 1} {
				restore := alter(t, path, func(b []byte) { b[page*pageSize+at] ^= 1 })
				checkDetected(t, dir, page, locs)
				restore()
			}
		}
	}
	if err := mustOpen(t, dir).Verify(t.Context()); err != nil {
		t.Errorf("undone: %v", err)
	}
}

func checkDetected(t *testing.T, dir string, page int64, locs []Location) {
	t.Helper()
	c, err := OpenCache(dir, testKey)
	if page == 0 {
		if !errors.Is(err, ErrCacheDamaged) {
			t.Fatalf("header: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	checkNeverWrong(t, c, locs)
	var damage *DamageError
	if err := c.Verify(t.Context()); !errors.As(err, &damage) || damage.Offset != page*pageSize {
		t.Fatalf("page %d: Verify: %v", page, err)
	}
	_, each := all(t.Context(), c)
	packs := c.Packs(t.Context(), func(PackID) error { return nil })
	add := c.Add(t.Context(), "new", mustSegment(t, nil))
	if !errors.Is(errors.Join(each, packs, add), ErrCacheDamaged) {
		t.Fatalf("page %d: neither Each nor Packs nor Add noticed", page)
	}
}

func TestDamageUnderAMapping(t *testing.T) {
	dir, locs := filled(t)
	c := mustOpen(t, dir)
	checkNeverWrong(t, c, locs)
	for _, path := range tableFiles(t, dir) {
		alter(t, path, func(b []byte) {
			for i := pageSize; i < len(b); i += pageSize {
				b[i+7] ^= 0x80
			}
		})
	}
	checkNeverWrong(t, c, locs)
	if _, _, err := c.Lookup(locs[0].ID); !errors.Is(err, ErrCacheDamaged) {
		t.Errorf("a page that had been read before: %v", err)
	}
}

func TestTruncationUnderAMapping(t *testing.T) {
	dir, locs := filled(t)
	c := mustOpen(t, dir)
	for _, path := range tableFiles(t, dir) {
		if err := os.Truncate(path, pageSize); err != nil {
			t.Fatal(err)
		}
	}
	checkNeverWrong(t, c, locs)
	if _, _, err := c.Lookup(locs[0].ID); !errors.Is(err, ErrCacheDamaged) {
		t.Errorf("Lookup: %v", err)
	}
	if _, err := all(t.Context(), c); !errors.Is(err, ErrCacheDamaged) {
		t.Errorf("Each: %v", err)
	}
	if c.Has("a") {
		t.Error("Has believes what can't be read")
	}
	if err := c.Add(t.Context(), "new", mustSegment(t, nil)); !errors.Is(err, ErrCacheDamaged) {
		t.Errorf("Add: %v", err)
	}
	if _, err := OpenCache(dir, testKey); !errors.Is(err, ErrCacheDamaged) {
		t.Errorf("OpenCache: %v", err)
	}
}

// TestMisplacedPages puts whole pages, digests and all, where they do not
// belong.
func TestMisplacedPages(t *testing.T) {
	dir, locs := filled(t)
	files := tableFiles(t, dir)
	other, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	l := newLayout(200, 1, 300)
	at := int(l.entries.first) * pageSize
	for name, change := range map[string]func([]byte){
		"another page":  func(b []byte) { copy(b[at:at+pageSize], b[at+pageSize:]) },
		"another table": func(b []byte) { copy(b[at:at+pageSize], other[at:]) },
		"zeros":         func(b []byte) { clear(b[at : at+pageSize]) },
	} {
		restore := alter(t, files[0], change)
		c := mustOpen(t, dir)
		checkNeverWrong(t, c, locs)
		if _, err := all(t.Context(), c); !errors.Is(err, ErrCacheDamaged) {
			t.Errorf("%s: Each: %v", name, err)
		}
		restore()
	}
}

func TestDamagedManifest(t *testing.T) {
	dir, _ := filled(t)
	path := filepath.Join(dir, manifestFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		restore := alter(t, path, func(b []byte) { b[i] ^= 1 })
		if _, err := OpenCache(dir, testKey); !errors.Is(err, ErrCacheDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
		restore()
		if err := os.Truncate(path, int64(i)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCache(dir, testKey); !errors.Is(err, ErrCacheDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
		restore()
	}
	if _, err := OpenCache(dir, [32]byte{9}); !errors.Is(err, ErrCacheDamaged) {
		t.Errorf("another repository's key: %v", err)
	}
}

func TestVanishedTable(t *testing.T) {
	dir, _ := filled(t)
	if err := os.Remove(tableFiles(t, dir)[0]); err != nil {
		t.Fatal(err)
	}
	for _, locked := range []bool{false, true} {
		if locked {
			lock, err := tryLock(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
		}
		if _, err := OpenCache(dir, testKey); !errors.Is(err, ErrCacheDamaged) {
			t.Errorf("locked %v: %v", locked, err)
		}
	}
}

// TestHostileTables gives pages whose digests are right, as a process with
// the key but with a fault of its own would write them.
func TestHostileTables(t *testing.T) {
	key := newPageKey(testKey)
	id := newTableID()
	bad := entryOf(&Location{Entry: testLocation(1, 1).Entry}, 5)
	build := func(l *layout, fill func(*tableWriter) error) error {
		path := tablePath(fastDir(t), id)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		tab, err := buildTable(key, id, f, func(w *tableWriter) error {
			err := fill(w)
			if l != nil {
				w.counts = [3]uint64{l.packs.count, l.names.count, l.entries.count}
			}
			return err
		})
		if err != nil {
			return err
		}
		return errors.Join(tab.find(&bad.id, func(Location) bool { return true }), tab.close())
	}
	none := func(*tableWriter) error { return nil }
	for name, err := range map[string]error{
		"entry of a pack that is not": build(nil, func(w *tableWriter) error { return w.addEntry(&bad) }),
		"counts overflow":             build(&layout{entries: section{count: 1 << 63}}, none),
		"counts exceed the file":      build(&layout{entries: section{count: 1}}, none),
	} {
		if !errors.Is(err, ErrCacheDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTableWriterKeepsOrder(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := newTableWriter(newPageKey(testKey), newTableID(), f)
	if err != nil {
		t.Fatal(err)
	}
	p, name, e := testPack(1), testID(1), entryOf(&Location{Entry: testLocation(1, 1).Entry}, 0)
	if err := errors.Join(w.addPack(&p), w.addName(&name), w.addEntry(&e)); err != nil {
		t.Fatal(err)
	}
	name[0]++
	for what, err := range map[string]error{
		"equal pack": w.addPack(&p), "name after entries": w.addName(&name), "equal entry": w.addEntry(&e),
	} {
		if err == nil {
			t.Errorf("%s was written", what)
		}
	}
}

func TestDamageErrorSaysWhere(t *testing.T) {
	dir, _ := filled(t)
	path := tableFiles(t, dir)[0]
	alter(t, path, func(b []byte) { b[2*pageSize] ^= 1 })
	err := mustOpen(t, dir).Verify(t.Context())
	if err == nil || !strings.Contains(err.Error(), path+" at offset 8192: page digest is") || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
