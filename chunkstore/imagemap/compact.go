// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// CompactStats says what [Compact] did.
type CompactStats struct {
	Merged  int   // runs that became part of another run
	Folded  int   // runs that went into the base
	Shared  int   // subtrees of the old base taken over as they are
	Written int64 // plaintext bytes of the nodes written
}

// Compact keeps runs few: it merges runs of one size tier, and folds all of them
// into the base once they are large beside it. The new map reads like the old
// one, holes and births included, up to its size. Nodes of the old one stay as they are; which
// of them are still needed is for those to say who know all points.
func Compact(ctx context.Context, src Source, sink Sink, m Map, p Policy) (Map, CompactStats, error) {
	return compact(ctx, src, sink, m, p, standard)
}

func compact(ctx context.Context, src Source, sink Sink, m Map, p Policy, geo geometry) (Map, CompactStats, error) {
	var stats CompactStats
	counted := &countingSink{Sink: sink}
	runs := Map{Runs: m.Runs}.layers()
	sizes := make([]int64, len(runs))
	for i, r := range runs {
		sizes[i] = r.Stored
	}
	out := m
	out.Runs = nil
	fold, segs := p.plan(m.Base.Stored, sizes)
	if fold {
		base, shared, err := foldRuns(ctx, src, counted, m, geo)
		if err != nil {
			return Map{}, stats, fmt.Errorf("fold %d runs into the base: %w", len(runs), err)
		}
		out.Base = base
		stats.Folded, stats.Shared = len(runs), shared
	}
	for _, s := range segs {
		r := runs[s.from]
		if n := s.to - s.from; n > 1 {
			var err error
			if r, err = mergeRuns(ctx, src, counted, runs[s.from:s.to], geo); err != nil {
				return Map{}, stats, fmt.Errorf("merge %d runs: %w", n, err)
			}
			stats.Merged += n
		}
		out.Runs = append(out.Runs, r)
	}
	stats.Written = counted.bytes
	return out, stats, nil
}

// mergeRuns writes adjacent runs, newest first, as one. Holes stay (I4), and so
// does what lies beyond the volume's present size (I7).
func mergeRuns(ctx context.Context, src Source, sink Sink, runs []Ref, geo geometry) (Ref, error) {
	w := newWriter(sink, false, geo)
	it := newOverlay(src, runs, 0, maxOffset, true)
	if err := copyExtents(ctx, it, w); err != nil {
		return Ref{}, err
	}
	return w.Close(ctx)
}

func copyExtents(ctx context.Context, it *Iterator, w *Writer) error {
	for {
		e, ok, err := it.Next(ctx)
		if !ok || err != nil {
			return err
		}
		if err := w.Add(ctx, e); err != nil {
			return err
		}
	}
}

// countingSink counts the plaintext bytes that pass.
type countingSink struct {
	Sink
	bytes int64
}

func (s *countingSink) WriteNode(ctx context.Context, plain []byte) (chunk.ID, error) {
	s.bytes += int64(len(plain))
	return s.Sink.WriteNode(ctx, plain)
}
