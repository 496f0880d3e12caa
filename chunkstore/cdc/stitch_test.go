// SPDX-License-Identifier: Apache-2.0

package cdc

import (
	"bytes"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/restic/chunker"
	"pgregory.net/rapid"
)

const testPol = chunker.Pol(0x3DA3358B4DC173)

// sequential is the truth: chunk ends of one pass over the stream, which begins anew after each break.
func sequential(p Params, data []byte, breaks []int) []int {
	var ends []int
	from := 0
	for _, to := range append(append([]int{}, breaks...), len(data)) {
		ends = append(ends, onePass(p, data[from:to], from)...)
		from = to
	}
	return ends
}

func onePass(p Params, data []byte, base int) []int {
	if p.Kind == Aligned {
		return onePassAligned(p, data, base)
	}
	c := chunker.NewBase(p.Polynomial, chunker.WithBaseBoundaries(uint(p.Min), uint(p.Max)), chunker.WithBaseAverageBits(p.Bits))
	var ends []int
	for pos := 0; pos < len(data); {
		n := c.NextSplitPoint(data[pos:])
		if n < 0 {
			break
		}
		pos += n
		ends = append(ends, base+pos)
	}
	return ends
}

// onePassAligned is the definition of the aligned kind, written down without any state but the last end.
func onePassAligned(p Params, data []byte, base int) []int {
	var ends []int
	last := 0
	for page := 0; page+PageSize <= len(data); page += PageSize {
		end := page + PageSize
		sum := crc32.Checksum(data[page:end], castagnoli)
		if passes := sum%(1<<(p.Bits-12)) == 0; end-last >= p.Min && passes || end-last == p.Max {
			ends = append(ends, base+end)
			last = end
		}
	}
	return ends
}

// stitched cuts the same stream in blocks of the given sizes; parts splits each block in pieces of at most that size.
// Cuts are reused from block to block, and a third of the blocks go without.
func stitched(p Params, data []byte, blocks []int, breaks []int, part int) ([]int, error) {
	var ends []int
	scanner, stitcher := p.NewScanner(), NewStitcher(&p)
	var pool [2]Cuts
	base := 0
	for i, size := range blocks {
		block := data[base : base+size]
		cuts := &pool[i%2]
		if i%3 == 2 {
			cuts = nil
		}
		emit := func(end int) error { ends = append(ends, base+end); return nil }
		pieces := split(block, part)
		if cuts != nil {
			scanner.ScanParts(pieces, cuts)
		}
		if err := stitcher.NextParts(pieces, cuts, emit); err != nil {
			return nil, err
		}
		base += size
		for _, b := range breaks {
			if b == base {
				stitcher.Break()
			}
		}
	}
	return ends, nil
}

func split(block []byte, part int) [][]byte {
	var pieces [][]byte
	for len(block) > part {
		pieces, block = append(pieces, block[:part], nil), block[part:]
	}
	return append(pieces, block)
}

func drawParams(t *rapid.T) Params {
	if rapid.Bool().Draw(t, "aligned") {
		smallest := rapid.IntRange(1, 6).Draw(t, "min pages")
		return Params{
			Kind: Aligned, Bits: rapid.IntRange(12, 16).Draw(t, "bits"), Min: smallest * PageSize,
			Max: (smallest + rapid.IntRange(0, 20).Draw(t, "more pages")) * PageSize,
		}
	}
	smallest := rapid.IntRange(64, 600).Draw(t, "min")
	return Params{
		Kind: Rabin, Polynomial: testPol, Bits: rapid.IntRange(6, 11).Draw(t, "bits"), Min: smallest,
		Max: smallest + rapid.IntRange(0, 3000).Draw(t, "more"),
	}
}

// drawData strings together random, constant and repeating stretches: content with cuts of its own, content with none
// and content whose passes never meet.
func drawData(t *rapid.T, unit int) []byte {
	var data []byte
	for range rapid.IntRange(1, 6).Draw(t, "stretches") {
		n := rapid.IntRange(0, 24*unit).Draw(t, "length")
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		stretch := make([]byte, n)
		switch rapid.SampledFrom([]string{"random", "constant", "repeating"}).Draw(t, "content") {
		case "random":
			fill(rnd, stretch)
		case "constant":
			copy(stretch, bytes.Repeat([]byte{byte(rnd.Uint32())}, n))
		case "repeating":
			period := make([]byte, 1+rnd.IntN(2*unit))
			fill(rnd, period)
			copy(stretch, bytes.Repeat(period, n/len(period)+1))
		}
		data = append(data, stretch...)
	}
	return data
}

func fill(rnd *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
}

// drawBlocks splits n bytes, mostly in blocks near the parameters' own sizes, and picks breaks among the seams.
func drawBlocks(t *rapid.T, n, unit int) (sizes, breaks []int) {
	widest := rapid.SampledFrom([]int{unit / 3, unit, 8 * unit, 40 * unit}).Draw(t, "widest block")
	seamless := rapid.Bool().Draw(t, "no breaks")
	rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "block seed"), 0))
	for base := 0; base < n; {
		size := min(rnd.IntN(widest+1), n-base)
		base += size
		sizes = append(sizes, size)
		if !seamless && size > 0 && base < n && rnd.IntN(8) == 0 {
			breaks = append(breaks, base)
		}
	}
	return sizes, breaks
}

// TestStitcherIsExact is invariant I2.
func TestStitcherIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParams(t)
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		unit := 512
		if p.Kind == Aligned {
			unit = PageSize
		}
		data := drawData(t, unit)
		sizes, breaks := drawBlocks(t, len(data), unit)
		part := rapid.SampledFrom([]int{1 << 30, unit, unit / 2, 37}).Draw(t, "part")
		got, err := stitched(p, data, sizes, breaks, part)
		if err != nil {
			t.Fatal(err)
		}
		want := sequential(p, data, breaks)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("cuts of one pass (-) and stitched (+):\n%s", diff)
		}
	})
}

// TestDefaultsAreExact runs the real sizes over data of every kind, with blocks of the size the mover uses.
func TestDefaultsAreExact(t *testing.T) {
	data := make([]byte, 24<<20)
	rnd := rand.New(rand.NewPCG(7, 7))
	fill(rnd, data)
	clear(data[5<<20 : 9<<20])                  // only Max cuts
	copy(data[14<<20:], data[1<<20:3<<20])      // repeated content
	copy(data[18<<20+4096:], data[1<<20:3<<20]) // and shifted by a page
	for _, p := range []Params{Default(testPol), {Kind: Aligned, Bits: 18, Min: 256 << 10, Max: 1 << 20}} {
		want := sequential(p, data, nil)
		for _, block := range []int{4 << 20, 1 << 20, 300 << 10, 100_001} {
			var sizes []int
			for base := 0; base < len(data); base += block {
				sizes = append(sizes, min(block, len(data)-base))
			}
			got, err := stitched(p, data, sizes, nil, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s in blocks of %d: cuts of one pass (-) and stitched (+):\n%s", p.Kind, block, diff)
			}
		}
	}
}

// TestStitcherJoins is why the scanners run at all: what a block costs the Stitcher is the way to the first common
// cut, so the true pass has to end up as the scanner's own.
func TestStitcherJoins(t *testing.T) {
	p := Params{Kind: Rabin, Polynomial: testPol, Bits: 8, Min: 256, Max: 1024}
	data := make([]byte, 64<<10)
	fill(rand.New(rand.NewPCG(1, 2)), data)
	scanner, stitcher := p.NewScanner(), NewStitcher(&p)
	for base := 0; base < len(data); base += 16 << 10 {
		var cuts Cuts
		scanner.Scan(data[base:base+16<<10], &cuts)
		pass := cuts.pass
		if err := stitcher.Next(data[base:base+16<<10], &cuts, func(int) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if stitcher.pass != pass {
			t.Errorf("the block at %d was cut anew to its end", base)
		}
	}
}

func TestStitcherRefusesForeignCuts(t *testing.T) {
	p := Default(testPol)
	var cuts Cuts
	p.NewScanner().Scan(make([]byte, 4096), &cuts)
	none := func(int) error { return nil }
	stitcher := NewStitcher(&p)
	if err := stitcher.Next(make([]byte, 8192), &cuts, none); err == nil {
		t.Error("cuts of a shorter block were accepted")
	}
	if err := stitcher.Next(nil, &Cuts{}, none); err == nil {
		t.Error("cuts of no scan were accepted")
	}
	if err := stitcher.Next(make([]byte, 4096), &cuts, none); err != nil {
		t.Fatal(err)
	}
	if err := stitcher.Next(make([]byte, 4096), &cuts, none); err == nil {
		t.Error("cuts were accepted twice")
	}
}

func TestStitcherReturnsEmitsError(t *testing.T) {
	full := errors.New("full")
	p := Params{Kind: Aligned, Bits: 12, Min: PageSize, Max: PageSize}
	for _, warm := range []int{0, 100} { // cuts that are all true, and cuts found by walking
		stitcher := NewStitcher(&p)
		if err := stitcher.Next(make([]byte, warm), nil, nil); err != nil {
			t.Fatal(err)
		}
		var cuts Cuts
		block := make([]byte, 3*PageSize)
		p.NewScanner().Scan(block, &cuts)
		if err := stitcher.Next(block, &cuts, func(int) error { return full }); !errors.Is(err, full) {
			t.Errorf("after %d bytes: got %v", warm, err)
		}
	}
}

func TestNoAllocationPerBlock(t *testing.T) {
	data := make([]byte, 1<<20)
	fill(rand.New(rand.NewPCG(3, 4)), data)
	for _, p := range []Params{
		{Kind: Rabin, Polynomial: testPol, Bits: 14, Min: 16 << 10, Max: 64 << 10},
		{Kind: Aligned, Bits: 14, Min: 16 << 10, Max: 64 << 10},
	} {
		scanner, stitcher := p.NewScanner(), NewStitcher(&p)
		var cuts Cuts
		total := 0
		emit := func(end int) error { total += end; return nil }
		allocs := testing.AllocsPerRun(5, func() {
			scanner.Scan(data[:len(data)-12345], &cuts)
			if err := stitcher.Next(data[:len(data)-12345], &cuts, emit); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 || total == 0 {
			t.Errorf("%s: %v allocations per block, ends add up to %d", p.Kind, allocs, total)
		}
	}
}
