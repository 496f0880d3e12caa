// SPDX-License-Identifier: Apache-2.0

package cdc

import (
	"fmt"
	"slices"
)

// Stitcher turns the speculative cuts of consecutive blocks into the cuts of one sequential pass. Its calls are
// sequential. After an error it is of no more use.
type Stitcher struct {
	fresh cutter
	pass  cutter // the true pass; of no meaning while begun is false
	begun bool   // the chunk under way has bytes
	one   [1][]byte
}

// NewStitcher returns a Stitcher at the beginning of a stream. The parameters must be valid.
func NewStitcher(p *Params) *Stitcher {
	return &Stitcher{fresh: p.newCutter(), pass: p.newCutter()}
}

// Break ends the chunk under way without a cut: the stream's next byte begins one.
func (s *Stitcher) Break() { s.begun = false }

// Next takes the stream's next block with its speculative cuts and calls emit with every true chunk end in it,
// ascending, 1 … len(block). An end at len(block) belongs to this block. The block is not kept; the Cuts lose their state
// to the Stitcher and are to be scanned into again before their next use. Without cuts (nil) the block is cut
// here and now, which suits blocks too short to be worth a worker. An error of emit is returned as it is.
func (s *Stitcher) Next(block []byte, cuts *Cuts, emit func(end int) error) error {
	s.one[0] = block
	err := s.NextParts(s.one[:], cuts, emit)
	s.one[0] = nil
	return err
}

// NextParts is Next for a block that lies in several pieces; ends count as if they lay side by side.
func (s *Stitcher) NextParts(parts [][]byte, cuts *Cuts, emit func(end int) error) error {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if cuts != nil && (cuts.size != size || cuts.pass == nil) {
		return fmt.Errorf("stitch a block of %d bytes: the cuts given are not its own, or used before", size)
	}
	if size == 0 {
		return nil
	}
	if !s.begun {
		if cuts != nil {
			return s.join(cuts, 0, emit)
		}
		s.pass = s.fresh.begin(s.pass)
	}
	return s.walk(parts, size, cuts, emit)
}

// walk continues the true pass over the block until it is used up or meets the speculative one at a cut.
func (s *Stitcher) walk(parts [][]byte, size int, cuts *Cuts, emit func(end int) error) error {
	base, last := 0, 0
	for _, part := range parts {
		for pos := 0; pos < len(part); {
			n := s.pass.NextSplitPoint(part[pos:])
			if n < 0 {
				break
			}
			pos += n
			last = base + pos
			if err := emit(last); err != nil {
				return err
			}
			if cuts == nil {
				continue
			}
			if i, met := slices.BinarySearch(cuts.ends, last); met {
				return s.join(cuts, i+1, emit)
			}
		}
		base += len(part)
	}
	s.begun = last < size
	return nil
}

// join emits the speculative ends from index i on, which are true, and goes on from the speculative pass's state.
func (s *Stitcher) join(cuts *Cuts, i int, emit func(end int) error) error {
	for _, end := range cuts.ends[i:] {
		if err := emit(end); err != nil {
			return err
		}
	}
	s.pass, cuts.pass = cuts.pass, s.pass
	n := len(cuts.ends)
	s.begun = n == 0 || cuts.ends[n-1] < cuts.size
	cuts.size = -1 // no block's: used twice, they are refused
	return nil
}
