// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// journaled is everything that a journal says.
type journaled struct {
	Header  *journalHeader
	Packs   []chunkstore.PackReport
	Extents []imagemap.Extent
	Marks   []int64
	Lost    blockdiff.Ranges
}

func drawID(t *rapid.T) (id chunk.ID) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), len(id), len(id)).Draw(t, "id"))
	return id
}

// writeJournal writes random records through the journal's own methods.
func writeJournal(t *rapid.T, j *journal) journaled {
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	w := journaled{Header: &journalHeader{
		Version: journalVersion, Repository: "repo", Session: rapid.Uint64().Draw(t, "session"), Nonce: "n",
		Volume: rapid.String().Draw(t, "volume"), Mode: modeClaim, Size: 1 << 40, Lie: &lyingClaimError{At: 1, Missed: 2, Sampled: 3},
	}}
	must(j.begin(w.Header))
	at := int64(0)
	for range rapid.IntRange(0, 6).Draw(t, "records") {
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			p := chunkstore.PackReport{Pack: index.PackID{Session: 7, Seq: rapid.Uint32().Draw(t, "seq"), Hash: drawID(t), Size: 1, Class: chunk.Base}}
			for range rapid.IntRange(0, 3).Draw(t, "entries") {
				e := pack.Entry{ID: drawID(t), Offset: rapid.Uint32().Draw(t, "offset"), Stored: 2, Frame: 3, Plain: 4}
				p.Entries = append(p.Entries, index.Location{Pack: p.Pack, Entry: e})
			}
			must(j.pack(p))
			w.Packs = append(w.Packs, p)
		case 1:
			var es []imagemap.Extent
			for range rapid.IntRange(0, 3).Draw(t, "extents") {
				e := imagemap.Extent{Off: at, Len: rapid.Int64Range(1, 1<<30).Draw(t, "len"), Birth: rapid.Uint64().Draw(t, "birth")}
				if e.Hole = rapid.Bool().Draw(t, "hole"); !e.Hole {
					e.Chunk, e.ChunkOff = drawID(t), rapid.Uint32().Draw(t, "chunkOff")
				}
				at = e.End()
				es = append(es, e)
			}
			must(j.extents(es, at))
			w.Extents, w.Marks = append(w.Extents, es...), append(w.Marks, at)
		case 2:
			r := blockdiff.Range{Offset: at, Length: rapid.Int64Range(1, 1<<20).Draw(t, "lost")}
			at = r.End() + 1
			must(j.lost([]blockdiff.Range{r}))
			w.Lost = append(w.Lost, r)
		}
	}
	must(j.sync())
	return w
}

// readJournal reads a journal the way a resumed backup does, with every chunk durable.
func readJournal(path string) (r journaled, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close()
	j := &journal{f: f, path: path}
	if r.Header, err = j.readHeader("repo"); err != nil {
		return r, err
	}
	err = j.packs(func(p chunkstore.PackReport) error {
		r.Packs = append(r.Packs, p)
		return nil
	})
	if err != nil {
		return r, err
	}
	mark, err := j.durablePrefix(func(chunk.ID) (bool, error) { return true, nil }, func(es []imagemap.Extent, mark int64) error {
		r.Extents, r.Marks = append(r.Extents, es...), append(r.Marks, mark)
		return nil
	})
	if err != nil {
		return r, err
	}
	if n := len(r.Marks); n > 0 && r.Marks[n-1] != mark {
		return r, errors.New("the last mark is not where to go on")
	}
	r.Lost, err = j.unreadable(1 << 62)
	return r, err
}

// prefix tells whether a says the beginning of what b says.
func (a journaled) prefix(b journaled) bool {
	same := func(x, y any) bool { return cmp.Equal(x, y, cmpopts.EquateEmpty()) }
	if a.Header != nil && !cmp.Equal(a.Header, b.Header) || a.Header == nil && len(a.Packs)+len(a.Marks)+len(a.Lost) > 0 {
		return false
	}
	return len(a.Packs) <= len(b.Packs) && same(a.Packs, b.Packs[:len(a.Packs)]) &&
		len(a.Extents) <= len(b.Extents) && same(a.Extents, b.Extents[:len(a.Extents)]) &&
		len(a.Marks) <= len(b.Marks) && same(a.Marks, b.Marks[:len(a.Marks)]) &&
		len(a.Lost) <= len(b.Lost) && same(a.Lost, b.Lost[:len(a.Lost)])
}

func drawJournal(t *rapid.T, dir string) (string, journaled) {
	dir, err := os.MkdirTemp(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(dir, "key")
	if err != nil {
		t.Fatal(err)
	}
	w := writeJournal(t, j)
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "journals", "key"), w
}

func TestJournalSaysWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path, want := drawJournal(t, dir)
		got, err := readJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A journal cut off anywhere, or with any bit flipped, says a beginning of what
// was written and nothing else.
func TestDamagedJournal(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path, want := drawJournal(t, dir)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			at := rapid.IntRange(0, len(whole)-1).Draw(t, "at")
			damageJournal(t, path, whole, want, at, 1<<rapid.IntRange(0, 7).Draw(t, "bit"))
		}
	})
}

func TestJournalDamagedAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	seed := 0
	rapid.Check(t, func(t *rapid.T) {
		if seed++; seed > 2 { // two journals are enough
			return
		}
		path, want := drawJournal(t, dir)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := range whole {
			damageJournal(t, path, whole, want, at, 1<<(at%8))
		}
	})
}

func damageJournal(t *rapid.T, path string, whole []byte, want journaled, at int, bit byte) {
	flipped := bytes.Clone(whole)
	flipped[at] ^= bit
	for what, data := range map[string][]byte{
		"cut": whole[:at], "flipped": flipped, "continued by zeros": append(bytes.Clone(whole[:at]), make([]byte, 300)...),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readJournal(path)
		if err != nil {
			t.Fatalf("%s at byte %d: %v", what, at, err)
		}
		if !got.prefix(want) {
			t.Fatalf("%s at byte %d: read %+v, written was %+v", what, at, got, want)
		}
	}
}

func FuzzJournal(f *testing.F) {
	dir := f.TempDir()
	for _, gen := range []int{1, 2, 3} {
		w := rapid.Custom(func(t *rapid.T) string { path, _ := drawJournal(t, dir); return path }).Example(gen)
		data, err := os.ReadFile(w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = readJournal(path) // must not panic
		_, _ = decodePack(data)
		if len(data) >= extentBytes {
			e := decodeExtent(data)
			again := decodeExtent(appendExtent(nil, &e))
			if e != again {
				t.Fatalf("%+v became %+v", e, again)
			}
		}
	})
}

// Two processes never hold the journal at once, not even around its replacement.
func TestJournalLock(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir, "key")
	if err != nil {
		t.Fatal(err)
	}
	stale, err := os.OpenFile(j.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stale.Close()
	busy := func(when string) {
		if other, err := openJournal(dir, "key"); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: a second opening gives %v, %v", when, other, err)
		}
	}
	busy("at first")
	next, err := j.successor()
	if err != nil {
		t.Fatal(err)
	}
	if err := next.begin(&journalHeader{Version: journalVersion, Repository: "repo", Volume: "v"}); err != nil {
		t.Fatal(err)
	}
	// What becomes durable meanwhile must be in the new journal.
	if err := j.pack(chunkstore.PackReport{Pack: index.PackID{Seq: 5, Class: chunk.Map}}); err != nil {
		t.Fatal(err)
	}
	if err := j.install(); err != nil {
		t.Fatal(err)
	}
	busy("after the replacement")
	if ours, err := lockJournal(stale, j.path); err != nil || ours {
		t.Errorf("the file that was replaced counts as the journal: %v, %v", ours, err)
	}
	got, err := readJournal(j.path)
	if err != nil || got.Header == nil || len(got.Packs) != 1 || got.Packs[0].Pack.Seq != 5 {
		t.Errorf("the new journal says %+v, %v", got, err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
}

// A successor that was never installed goes: at close, and after a kill with the next opening.
func TestJournalSuccessorsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	count := func() int {
		entries, err := os.ReadDir(filepath.Join(dir, "journals"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	j, err := openJournal(dir, "key")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.successor(); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 1 {
		t.Errorf("%d files after close", n)
	}
	left := filepath.Join(dir, "journals", "key"+successorInfix+"123")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if j, err = openJournal(dir, "key"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.close() }()
	if n := count(); n != 1 {
		t.Errorf("%d files after opening", n)
	}
}
