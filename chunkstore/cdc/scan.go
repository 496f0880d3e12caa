// SPDX-License-Identifier: Apache-2.0

package cdc

// Cuts is what a [Scanner] found in one block: where chunks end if one began at the block's first byte, and the state of
// that pass at the block's end. The zero value is ready for use; using one again keeps its buffers. It may go from
// the Scanner's goroutine to the Stitcher's and back, and belongs to one of them at a time.
type Cuts struct {
	ends []int
	size int
	pass cutter
}

// Ends returns the speculative chunk ends, ascending. They are true where a chunk really began at the block's first byte.
// The slice is valid until the next Scan into these Cuts.
func (c *Cuts) Ends() []int { return c.ends }

// Scanner finds speculative cuts. One belongs to one worker; it holds no state between blocks.
type Scanner struct {
	fresh cutter
	one   [1][]byte
}

// NewScanner returns a Scanner. The parameters must be valid.
func (p *Params) NewScanner() *Scanner { return &Scanner{fresh: p.newCutter()} }

// Scan replaces the content of into by the cuts of block. It does not keep the block.
func (s *Scanner) Scan(block []byte, into *Cuts) {
	s.one[0] = block
	s.ScanParts(s.one[:], into)
	s.one[0] = nil
}

// ScanParts is Scan for a block that lies in several pieces (the data around holes, say), which count as one.
func (s *Scanner) ScanParts(parts [][]byte, into *Cuts) {
	into.ends, into.size = into.ends[:0], 0
	into.pass = s.fresh.begin(into.pass)
	for _, part := range parts {
		for pos := 0; pos < len(part); {
			n := into.pass.NextSplitPoint(part[pos:])
			if n < 0 {
				break
			}
			pos += n
			into.ends = append(into.ends, into.size+pos)
		}
		into.size += len(part)
	}
}
