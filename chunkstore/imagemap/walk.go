// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"errors"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// ErrSkip, returned by the function given to [Walk], spares the nodes below.
var ErrSkip = errors.New("skip the nodes below")

// Walk calls fn for every node of every tree of m, parents first, each once.
// Leaves are not read. A function that remembers what it saw and returns
// [ErrSkip] for it walks many points at the cost of what they do not share.
func Walk(ctx context.Context, src Source, m Map, fn func(id chunk.ID) error) error {
	for _, ref := range m.layers() {
		if err := walk(ctx, src, ref.node(), fn); err != nil {
			return err
		}
	}
	return nil
}

func walk(ctx context.Context, src Source, n node, fn func(id chunk.ID) error) error {
	if err := fn(n.id); errors.Is(err, ErrSkip) {
		return nil
	} else if err != nil || n.height == 0 {
		return err
	}
	r, err := openInner(ctx, src, n)
	if err != nil {
		return err
	}
	var c node
	for r.left > 0 {
		if err := r.next(&c); err != nil {
			return err
		}
		if err := walk(ctx, src, c, fn); err != nil {
			return err
		}
	}
	return nil
}

func openInner(ctx context.Context, src Source, n node) (*innerReader, error) {
	b, err := readNode(ctx, src, &n)
	if err != nil {
		return nil, err
	}
	r := new(innerReader)
	return r, r.open(n, b)
}
