// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// Node is a node of a tree, as what refers to it describes it.
type Node struct{ n node }

// ID is the name of the node's chunk.
func (n Node) ID() chunk.ID { return n.n.id }

// Leaf tells a node of extents from one of nodes.
func (n Node) Leaf() bool { return n.n.height == 0 }

// Span is the range of the volume that the node's extents lie in; of a root it
// is not known before it is read, and then as large as can be.
func (n Node) Span() (off, length int64) { return n.n.first, n.n.end - n.n.first }

// Roots lists the roots of a map's trees, newest first.
func (m Map) Roots() []Node {
	var out []Node
	for _, ref := range m.layers() {
		out = append(out, Node{ref.node()})
	}
	return out
}

// Visit reads one node, checks it, and calls child for each node below it, or
// extent for each of its extents if it is a leaf. So a caller can walk the trees
// of many maps in its own order, each node once, and go on after one that can't
// be read.
func Visit(ctx context.Context, src Source, n Node, child func(Node) error, extent func(Extent) error) error {
	b, err := readNode(ctx, src, &n.n)
	if err != nil {
		return err
	}
	if n.n.height > 0 {
		return visitInner(n.n, b, child)
	}
	var l leafReader
	if err := l.open(n.n, b); err != nil {
		return err
	}
	var e Extent
	for l.left > 0 {
		if err := l.next(&e); err != nil {
			return err
		}
		if err := extent(e); err != nil {
			return err
		}
	}
	return nil
}

func visitInner(n node, b []byte, child func(Node) error) error {
	var r innerReader
	if err := r.open(n, b); err != nil {
		return err
	}
	for r.left > 0 {
		var c Node
		if err := r.next(&c.n); err != nil {
			return err
		}
		if err := child(c); err != nil {
			return err
		}
	}
	return nil
}
