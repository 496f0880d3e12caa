// SPDX-License-Identifier: Apache-2.0

package imagemap

import "context"

// cursor walks the extents of one tree forwards and skips what it need not read.
// It stands either on an extent (loaded) or before a node that it has not read
// yet; in both cases [start, end) is where that lies and start is exact: the
// first extent there begins at start. At the end both are maxOffset.
type cursor struct {
	src        Source
	root       Ref
	start, end int64
	loaded     bool
	ext        Extent

	exact bool   // always stand on an extent
	since uint64 // pass over extents of lower birth; only with exact

	begun  bool
	ahead  node // not read yet, if !loaded
	leaf   leafReader
	levels []innerReader // of heights 1…
	height int           // of the lowest inner node that is open
}

// advance moves to the first extent that ends behind pos, or to a node that
// begins behind pos. pos must not fall from call to call.
func (c *cursor) advance(ctx context.Context, pos int64) error {
	if !c.begun {
		c.begin()
	}
	for c.start != maxOffset {
		if c.loaded {
			if c.end > pos && c.ext.Birth >= c.since {
				return nil
			}
			if err := c.step(); err != nil {
				return err
			}
			continue
		}
		if c.end <= pos || !c.ahead.root && c.ahead.birth < c.since {
			if err := c.sibling(); err != nil {
				return err
			}
			continue
		}
		if c.start > pos && !c.exact {
			return nil
		}
		if err := c.enter(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cursor) begin() {
	c.begun = true
	if c.root.IsZero() {
		c.start, c.end = maxOffset, maxOffset
		return
	}
	c.ahead = c.root.node()
	c.height = int(c.ahead.height) + 1
	c.start, c.end = 0, maxOffset
	c.levels = make([]innerReader, min(c.ahead.height, MaxHeight))
}

// enter reads the node ahead and moves to its first extent or child.
func (c *cursor) enter(ctx context.Context) error {
	n := c.ahead
	b, err := readNode(ctx, c.src, &n)
	if err != nil {
		return err
	}
	c.height = int(n.height)
	if n.height > 0 {
		if err := c.levels[n.height-1].open(n, b); err != nil {
			return err
		}
		return c.sibling()
	}
	if err := c.leaf.open(n, b); err != nil {
		return err
	}
	c.loaded = true
	return c.step()
}

// step moves to the next extent of the leaf or out of it.
func (c *cursor) step() error {
	if c.leaf.left == 0 {
		c.loaded = false
		c.height = 1
		return c.sibling()
	}
	if err := c.leaf.next(&c.ext); err != nil {
		return err
	}
	c.start, c.end = c.ext.Off, c.ext.Off+c.ext.Len
	return nil
}

// sibling moves before the next child of the lowest open node that has one.
func (c *cursor) sibling() error {
	for ; c.height <= len(c.levels); c.height++ {
		level := &c.levels[c.height-1]
		if level.left == 0 {
			continue
		}
		if err := level.next(&c.ahead); err != nil {
			return err
		}
		c.start, c.end = c.ahead.first, c.ahead.end
		return nil
	}
	c.start, c.end = maxOffset, maxOffset
	return nil
}

// span is where the next extent that ends behind pos lies; the cursor is exact.
func (c *cursor) span(ctx context.Context, pos int64) (lo, hi int64, err error) {
	err = c.advance(ctx, pos)
	return c.start, c.end, err
}
