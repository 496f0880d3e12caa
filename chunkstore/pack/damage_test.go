// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
	"github.com/zeebo/blake3"
)

// region is a stretch of a pack that is sealed together: damage anywhere in
// it is named by its start.
type region struct{ from, to int }

// regions returns the headers and payloads of all frames.
func regions(toc *TOC) []region {
	var out []region
	for i := range toc.Chunks {
		for j := range toc.Chunks[i].FrameStored {
			off, n := toc.Chunks[i].FrameRange(j)
			out = append(out, region{int(off), int(off) + frameHeader}, region{int(off) + frameHeader, int(off + n)})
		}
	}
	return out
}

func TestEveryFlipIsFound(t *testing.T) {
	k := testKeyring(t)
	name, whole := smallSpec(1, t).bytes(t, 1)
	toc, err := readTOC(k, name, whole)
	if err != nil {
		t.Fatal(err)
	}
	frames := regions(toc)
	framesEnd := frames[len(frames)-1].to
	for i := range whole {
		for _, mask := range []byte{1 << (i % 8), 0xff} {
			b := bytes.Clone(whole)
			b[i] ^= mask
			c := asCorrupt(t, Verify(k, name, b), name)
			for _, r := range frames {
				if i >= r.from && i < r.to && c.Offset != int64(r.from) {
					t.Fatalf("flip at %d, in what begins at %d, is named as %v", i, r.from, c)
				}
			}
			_, err := readTOC(k, name, b)
			if inFrames := i >= HeaderSize && i < framesEnd; inFrames != (err == nil) {
				t.Fatalf("flip at %d: ReadTOC returns %v", i, err)
			}
			wantReadError(t, name, i, b[8], err)
			checkFlippedChunks(t, k, toc, name, b, i)
		}
	}
}

// wantReadError: only a flip in the key id or the version is not called
// corrupt by a reader that doesn't know the hash.
func wantReadError(t *testing.T, name string, i int, v byte, err error) {
	t.Helper()
	switch {
	case err == nil:
	case i >= 16 && i < 24 && errors.Is(err, seal.ErrUnknownKey):
	case i == 8 && v > version && errors.Is(err, seal.ErrNewerVersion):
	default:
		asCorrupt(t, err, name)
	}
}

// checkFlippedChunks reads every chunk: those that the flip touches fail with
// the right offset, the others read.
func checkFlippedChunks(t *testing.T, k *seal.Keyring, toc *TOC, name string, b []byte, flip int) {
	t.Helper()
	cipher, err := toc.Cipher(k)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDecoder()
	for i := range toc.Chunks {
		c := &toc.Chunks[i]
		touched := flip >= int(c.Offset) && flip < int(c.Offset+c.Stored)
		if c.Plain > 1000 && !touched {
			continue // only for speed
		}
		_, err := d.Chunk(cipher, name, c.Entry, b[c.Offset:c.Offset+c.Stored], nil)
		if touched {
			e := asCorrupt(t, err, name)
			if e.Offset > int64(flip) || e.Offset < int64(c.Offset) {
				t.Fatalf("flip at %d named as %v", flip, e)
			}
		} else if err != nil {
			t.Fatalf("flip at %d: chunk %d at %d: %v", flip, i, c.Offset, err)
		}
		for j := range c.FrameStored {
			off, n := c.FrameRange(j)
			_, err := d.Frame(cipher, name, c, j, b[off:off+n], nil)
			if flip >= int(off) && flip < int(off+n) {
				asCorrupt(t, err, name)
			} else if err != nil {
				t.Fatalf("flip at %d: frame %d of chunk %d: %v", flip, j, i, err)
			}
		}
	}
}

func TestEveryTruncationIsFound(t *testing.T) {
	k := testKeyring(t)
	name, whole := smallSpec(1, t).bytes(t, 1)
	toc, err := readTOC(k, name, whole)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		b := whole[:n]
		asCorrupt(t, Verify(k, name, b), name)
		_, err := readTOC(k, name, b)
		asCorrupt(t, err, name)
		scanned := 0
		err = Scan(k, name, b, func(Entry, []byte) error { scanned++; return nil })
		asCorrupt(t, err, name)
		complete := 0
		for _, c := range toc.Chunks {
			if int(c.Offset+c.Stored) <= n {
				complete++
			}
		}
		if scanned != complete {
			t.Fatalf("cut at %d: %d chunks scanned of %d", n, scanned, complete)
		}
	}
	longer := append(bytes.Clone(whole), 0)
	asCorrupt(t, Verify(k, name, longer), name)
	c := &toc.Chunks[0]
	cipher, err := toc.Cipher(k)
	if err != nil {
		t.Fatal(err)
	}
	stored := whole[c.Offset : c.Offset+c.Stored]
	for n := range stored {
		_, err := NewDecoder().Chunk(cipher, name, c.Entry, stored[:n], nil)
		asCorrupt(t, err, name)
		lying := c.Entry
		lying.Stored = uint32(n)
		_, err = NewDecoder().Chunk(cipher, name, lying, stored[:n], nil)
		asCorrupt(t, err, name)
	}
}

// TestEntriesThatLie: an index may be wrong in any field.
func TestEntriesThatLie(t *testing.T) {
	k := testKeyring(t)
	name, whole := smallSpec(1, t).bytes(t, 1)
	toc, err := readTOC(k, name, whole)
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := toc.Cipher(k)
	if err != nil {
		t.Fatal(err)
	}
	good := toc.Chunks[0].Entry
	for what, edit := range map[string]func(*Entry){
		"plain too short":  func(e *Entry) { e.Plain-- },
		"plain too long":   func(e *Entry) { e.Plain++ },
		"one frame fewer":  func(e *Entry) { e.Plain = chunk.FrameSize },
		"one frame more":   func(e *Entry) { e.Plain = 3 * chunk.FrameSize },
		"no plain":         func(e *Entry) { e.Plain = 0 },
		"huge plain":       func(e *Entry) { e.Plain = 1<<32 - 1 },
		"frame":            func(e *Entry) { e.Frame++ },
		"huge frame":       func(e *Entry) { e.Frame = 1<<32 - 1 },
		"stored too long":  func(e *Entry) { e.Stored += 90 },
		"stored too short": func(e *Entry) { e.Stored-- },
		"offset":           func(e *Entry) { e.Offset += 24 },
		"second frame":     func(e *Entry) { e.Offset += e.Stored / 2; e.Frame++ },
	} {
		e := good
		edit(&e)
		_, err := NewDecoder().Chunk(cipher, name, e, whole[e.Offset:e.Offset+e.Stored], nil)
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		asCorrupt(t, err, name)
	}
}

func TestSwapsAreRefused(t *testing.T) {
	k := testKeyring(t)
	// Two packs that are alike in every length.
	nameA, a := smallSpec(1, t).bytes(t, 1)
	_, b := smallSpec(2, t).bytes(t, 2)
	tocA, err := readTOC(k, nameA, a)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != len(b) {
		t.Fatalf("packs of %d and %d bytes", len(a), len(b))
	}
	mix := func(from, to int) []byte {
		m := bytes.Clone(a)
		copy(m[from:to], b[from:to])
		return m
	}
	tocOff := int(tocA.Chunks[2].Offset + tocA.Chunks[2].Stored)
	for what, m := range map[string][]byte{
		"pack":   b,
		"header": mix(0, HeaderSize),
		"frames": mix(HeaderSize, tocOff),
		"toc":    mix(tocOff, len(a)),
	} {
		t.Run(what, func(t *testing.T) {
			asCorrupt(t, Verify(k, nameA, m), nameA)
		})
	}
	for _, r := range regions(tocA) {
		asCorrupt(t, Verify(k, nameA, mix(r.from, r.to)), nameA)
	}
	for what, m := range map[string][]byte{"header": mix(0, HeaderSize), "toc": mix(tocOff, len(a))} {
		if _, err := readTOC(k, nameA, m); err == nil {
			t.Errorf("ReadTOC takes another pack's %s", what)
		}
	}
	// Within one pack: two chunks that are alike in every length.
	s := spec{header: testHeader, sources: []source{{plain: noise(1, 100)}, {plain: noise(2, 100)}}}
	s.name(t)
	name, c := s.bytes(t, 3)
	swapped := append(append(bytes.Clone(c[:56]), c[196:336]...), c[56:196]...)
	swapped = append(swapped, c[336:]...)
	if e := asCorrupt(t, Verify(k, name, swapped), name); e.Offset != HeaderSize {
		t.Errorf("swapped chunks: %v", e)
	}
}

func TestWrongKeys(t *testing.T) {
	name, b := smallSpec(1, t).bytes(t, 1)
	other, err := seal.NewKeyring()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readTOC(other, name, b); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("ReadTOC: %v", err)
	}
	if err := Verify(other, name, b); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("Verify: %v", err)
	}
	if err := Scan(other, name, b, nil); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("Scan: %v", err)
	}
	if _, err := Cipher(other, b); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("Cipher: %v", err)
	}
	// The header claims a key that we hold, but that did not seal the pack.
	id := other.Current().ID()
	copy(b[16:], id[:])
	name = Name(1, 2, blake3.Sum256(b))
	_, err = readTOC(other, name, b)
	asCorrupt(t, err, name)
	asCorrupt(t, Verify(other, name, b), name)
	asCorrupt(t, Scan(other, name, b, nil), name)
}

// TestLiesOfTheWriter: whole packs whose contents are not what they say.
func TestLiesOfTheWriter(t *testing.T) {
	k := testKeyring(t)
	s := smallSpec(1, t)
	s.sources[1].info.ID[0]++
	name, b := s.bytes(t, 1)
	if e := asCorrupt(t, Verify(k, name, b), name); e.Offset == 0 {
		t.Errorf("wrong name: %v", e)
	}
	s = smallSpec(1, t)
	bld, err := newBuilder(k.Current(), s.header, MaxPack, [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	ticket, _ := bld.Reserve(len(s.sources[0].plain))
	enc, err := NewEncoder([32]byte{1}).Encode(ticket, s.sources[0].plain, s.sources[0].info)
	if err != nil {
		t.Fatal(err)
	}
	if err := bld.Add(ticket, enc); err != nil {
		t.Fatal(err)
	}
	f, err := bld.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if e := asCorrupt(t, Verify(k, f.Name(), bytes.Join(f.Body, nil)), f.Name()); e.Offset != HeaderSize {
		t.Errorf("wrong digests: %v", e)
	}
	if err := Verify(k, "index/1", b); err == nil {
		t.Error("an object that is no pack by its name verifies")
	}
}

func TestScanStopsWhereItIsTold(t *testing.T) {
	name, b := smallSpec(1, t).bytes(t, 1)
	stop := errors.New("stop")
	calls := 0
	if err := Scan(testKeyring(t), name, b, func(Entry, []byte) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// TestScanWithoutTrailer finds all chunks and says where it stopped.
func TestScanWithoutTrailer(t *testing.T) {
	k := testKeyring(t)
	name, b := smallSpec(1, t).bytes(t, 1)
	toc, err := readTOC(k, name, b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[len(b)-trailerSize:])
	calls := 0
	e := asCorrupt(t, Scan(k, name, b, func(Entry, []byte) error { calls++; return nil }), name)
	last := toc.Chunks[2]
	if calls != 3 || e.Offset != int64(last.Offset+last.Stored) {
		t.Errorf("%d chunks, then %v", calls, e)
	}
}

func TestReadErrorsPass(t *testing.T) {
	k := testKeyring(t)
	name, b := smallSpec(1, t).bytes(t, 1)
	broken := errors.New("connection lost")
	_, err := ReadTOC(context.Background(), k, name, int64(len(b)), func(context.Context, int64, int64) ([]byte, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	_, err = ReadTOC(context.Background(), k, name, int64(len(b)), func(_ context.Context, off, n int64) ([]byte, error) { return b[off : off+n-1], nil })
	asCorrupt(t, err, name)
}
