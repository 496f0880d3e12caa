// SPDX-License-Identifier: Apache-2.0

package cdc

import (
	"hash/crc32"

	"github.com/restic/chunker"
)

// cutter is one sequential pass in the middle of a chunk.
type cutter interface {
	// NextSplitPoint continues the pass over buf and returns where the chunk ends (1 … len(buf)), or -1 if buf is used
	// up before. After an end the cutter is as at the beginning of a stream (I1), at the byte after it.
	NextSplitPoint(buf []byte) int
	// begin returns a pass with the receiver's parameters and state, made in the memory of old where old is of its
	// kind. Called on a pass that stands at a beginning, which is how it is used, it begins a stream.
	begin(old cutter) cutter
}

// newCutter returns a pass at the beginning of a stream.
func (p *Params) newCutter() cutter {
	if p.Kind == Aligned {
		return &pageCutter{min: p.Min, max: p.Max, mask: 1<<(p.Bits-pageBits) - 1}
	}
	return &rabinCutter{*chunker.NewBase(p.Polynomial,
		chunker.WithBaseBoundaries(uint(p.Min), uint(p.Max)), chunker.WithBaseAverageBits(p.Bits))}
}

// rabinCutter holds the chunker's tables with its state, so copying one is 4 KiB: cheaper than what the chunker itself
// does at each cut, and without its allocation at each Reset.
type rabinCutter struct{ chunker.BaseChunker }

func (c *rabinCutter) begin(old cutter) cutter {
	pass, ok := old.(*rabinCutter)
	if !ok {
		pass = new(rabinCutter)
	}
	*pass = *c
	return pass
}

// pageCutter is the aligned kind. count is all it needs but for blocks that do not end with a page.
type pageCutter struct {
	min, max int
	mask     uint32
	count    int    // bytes since the last cut
	sum      uint32 // CRC32C of the bytes of the page begun, where it can end a chunk
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (c *pageCutter) begin(old cutter) cutter {
	pass, ok := old.(*pageCutter)
	if !ok {
		pass = new(pageCutter)
	}
	*pass = *c
	return pass
}

func (c *pageCutter) NextSplitPoint(buf []byte) int {
	pos := 0
	// Pages that end before Min cannot end a chunk, so they are not looked at.
	if skip := c.min - PageSize - c.count; skip > 0 {
		pos = min(skip, len(buf))
		c.count += pos
	}
	for pos < len(buf) {
		n := min(PageSize-c.count%PageSize, len(buf)-pos)
		c.sum = crc32.Update(c.sum, castagnoli, buf[pos:pos+n])
		pos += n
		c.count += n
		if c.count%PageSize != 0 {
			break // buf ends inside a page
		}
		if c.sum&c.mask == 0 || c.count == c.max {
			c.count, c.sum = 0, 0
			return pos
		}
		c.sum = 0
	}
	return -1
}
