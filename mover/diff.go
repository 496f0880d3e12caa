// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
)

// Diff calls emit, in ascending order, for the ranges of b that differ from a,
// or may. Between a point and a later one of its line, births tell exactly what
// was written since; between others maps are compared, and what is mapped
// alike is equal.
func Diff(ctx context.Context, repo *chunkstore.Repository, a, b *chunkstore.Point, emit func(off, n int64) error) error {
	if b.Descends(a) && b.Map.Birth <= a.Session {
		return imagemap.ChangedSince(ctx, repo, b.Map, a.Session, emit)
	}
	return imagemap.Diff(ctx, repo, a.Map, b.Map, emit)
}
