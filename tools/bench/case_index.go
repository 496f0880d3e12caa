// SPDX-License-Identifier: Apache-2.0

package main

import "context"

// runIndex opens an index of ten million chunks: of 10 TiB in chunks of 1 MiB.
func runIndex(ctx context.Context, b *bench) error {
	n := 10_000_000
	if b.quick {
		n = 2_000_000
	}
	args := indexArgs{Dir: b.path("index"), Chunks: n}
	if _, _, err := call[struct{}](ctx, "index-fill", args); err != nil {
		return err
	}
	f, _, err := call[indexFacts](ctx, "index-open", args)
	if err != nil {
		return err
	}
	b.atMost("open", f.Open, 1, "s", "%d chunks; %.3g µs per lookup", f.Chunks, f.Hit)
	b.atMost("heap per chunk", f.HeapPerChunk, 2, "B", "on the heap once %d were looked up", lookups)
	return nil
}
