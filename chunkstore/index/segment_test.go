// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

func TestSegmentRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		locs := testLocations(rapid.Uint64().Draw(t, "seed"), 300)
		want := sorted(locs)
		b, err := EncodeSegment(locs)
		if err != nil {
			t.Fatal(err)
		}
		s, err := DecodeSegment("index/x", b)
		if err != nil {
			t.Fatal(err)
		}
		got := []Location{}
		packs := map[PackID]bool{}
		for i := range s.Len() {
			got = append(got, s.At(i))
			packs[s.At(i).Pack] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if len(packs) != len(s.Packs()) {
			t.Fatalf("%d packs in the table, %d named", len(s.Packs()), len(packs))
		}
	})
}

func TestEncodeSegmentRefuses(t *testing.T) {
	with := func(change func(*Location)) []Location {
		l := testLocation(1, 1)
		change(&l)
		return []Location{l}
	}
	for name, locs := range map[string][]Location{
		"one chunk twice in a pack": {testLocation(1, 1), testLocation(1, 1)},
		"pack of no class":          with(func(l *Location) { l.Pack.Class = 0 }),
		"pack of a new class":       with(func(l *Location) { l.Pack.Class = 4 }),
		"pack too large":            with(func(l *Location) { l.Pack.Size = maxPackSize + 1 }),
		"pack too small":            with(func(l *Location) { l.Pack.Size = 79 }),
		"in the header":             with(func(l *Location) { l.Offset = 55 }),
		"beyond the end":            with(func(l *Location) { l.Stored = l.Pack.Size - packTrailerSize - l.Offset + 1 }),
		"end overflows":             with(func(l *Location) { l.Stored = ^uint32(0) }),
		"nothing stored":            with(func(l *Location) { l.Stored = 0 }),
		"no plaintext":              with(func(l *Location) { l.Plain = 0 }),
		"too much plaintext":        with(func(l *Location) { l.Plain = maxPlain + 1 }),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := EncodeSegment(locs); err == nil {
				t.Error("encoded")
			}
		})
	}
	t.Run("too many", func(t *testing.T) {
		if _, err := EncodeSegment(make([]Location, MaxEntries+1)); err == nil || !strings.Contains(err.Error(), "at most 1048576") {
			t.Errorf("got %v", err)
		}
	})
}

func TestDecodeSegmentRefuses(t *testing.T) {
	good := mustSegment(t, []Location{testLocation(0, 1), testLocation(0, 2), testLocation(4, 1)})
	const packAt, entryAt = segmentHeaderSize, segmentHeaderSize + 2*packRecordSize
	for name, change := range map[string]func(b []byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"header cut":        func(b []byte) []byte { return b[:15] },
		"cut":               func(b []byte) []byte { return b[:len(b)-1] },
		"trailing byte":     func(b []byte) []byte { return append(b, 0) },
		"magic":             func(b []byte) []byte { b[0]++; return b },
		"version 0":         func(b []byte) []byte { b[4] = 0; return b },
		"reserved":          func(b []byte) []byte { b[7] = 1; return b },
		"more packs":        func(b []byte) []byte { b[8]++; return b },
		"packs of nothing":  func(b []byte) []byte { copy(b[12:], []byte{0, 0, 0, 0}); return b[:entryAt] },
		"huge counts":       func(b []byte) []byte { copy(b[8:], bytes.Repeat([]byte{0xff}, 8)); return b },
		"reserved of pack":  func(b []byte) []byte { b[packAt+20] = 1; return b },
		"packs descend":     func(b []byte) []byte { swap(b[packAt:], packRecordSize); return b },
		"entries descend":   func(b []byte) []byte { swap(b[entryAt:], entryRecordSize); return b },
		"equal entries":     func(b []byte) []byte { copy(b[entryAt:], b[entryAt+entryRecordSize:][:entryRecordSize]); return b },
		"pack out of range": func(b []byte) []byte { b[entryAt+32] = 2; return b },
		"pack unused":       func(b []byte) []byte { binary.LittleEndian.PutUint32(b[8:], 2); return unuse(b) },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeSegment("index/7", change(slices.Clone(good)))
			var corrupt *seal.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Object != "index/7" || corrupt.Offset > int64(len(good)+1) {
				t.Errorf("got %v, want a corruption of index/7", err)
			}
		})
	}
	newer := slices.Clone(good)
	newer[4] = 2
	if _, err := DecodeSegment("index/7", newer); !errors.Is(err, seal.ErrNewerVersion) {
		t.Errorf("version 2: got %v", err)
	}
}

// swap exchanges the first two records of n bytes.
func swap(b []byte, n int) {
	first := slices.Clone(b[:n])
	copy(b, b[n:2*n])
	copy(b[n:], first)
}

// unuse drops the second entry, the only one in the second pack.
func unuse(b []byte) []byte {
	const second = segmentHeaderSize + 2*packRecordSize + entryRecordSize
	for i := range 3 { // the two entries of one chunk are neighbours
		at := segmentHeaderSize + 2*packRecordSize + i*entryRecordSize
		if b[at+32] == 1 {
			b[12]--
			return slices.Delete(b, at, at+entryRecordSize)
		}
	}
	return b[:second]
}

func FuzzDecodeSegment(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(mustSegment(f, testLocations(seed, 5)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSegment("fuzz", b)
		if err != nil {
			return
		}
		locs := []Location{}
		for i := range s.Len() {
			locs = append(locs, s.At(i))
		}
		again, err := EncodeSegment(locs)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("decodes, but encodes to other bytes: %v", err)
		}
	})
}

func FuzzDecodeManifest(f *testing.F) {
	c := &Cache{key: newPageKey(testKey)}
	f.Add(encodeManifest(c.manifestNamer(), nil), true)
	f.Add(encodeManifest(c.manifestNamer(), []tableID{{1}, {2}}), false)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		namer := c.manifestNamer()
		if n := len(b) - 32; sign && n >= 0 {
			sum := manifestSum(namer, b[:n])
			b = append(slices.Clone(b[:n]), sum[:]...)
		}
		ids, err := decodeManifest(namer, "fuzz", b)
		if err != nil {
			if !errors.Is(err, ErrCacheDamaged) {
				t.Fatalf("not a damage: %v", err)
			}
			return
		}
		if !bytes.Equal(encodeManifest(namer, ids), b) {
			t.Fatal("decodes, but encodes to other bytes")
		}
	})
}
