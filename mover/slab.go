// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore/cdc"
)

// piece is a contiguous part of the volume on its way into chunks.
type piece struct {
	off, n int64
	birth  uint64 // 0: changed in this session; else moved unchanged, born in session birth-1
	data   []byte // patches only: where it lies in the slab
}

// block is a stretch of the stream that is cut by content: the parts lie in the
// slab, around holes, and count as if they lay side by side.
type block struct {
	parts  [][]byte
	pieces []piece // of the volume, one for each part
	cuts   cdc.Cuts
}

// slab is one task's data after reading, comparing and scanning.
type slab struct {
	task    task
	buf     *blockio.Buf
	blocks  []block
	patches []piece
	holes   []blockdiff.Range // zeros that the new run must say explicitly
	lost    []blockdiff.Range
	changed int64 // bytes
	moved   int64 // bytes
	done    chan struct{}
}

// slabWorker prepares slabs; one per reader goroutine.
type slabWorker struct {
	b       *backup
	scanner *cdc.Scanner
	compare *comparer // nil unless the backup compares
	runs    []placed
}

// placed is a part of the volume and where it lies in the slab's buffer.
type placed struct {
	off   int64
	data  []byte
	birth uint64 // 0: changed; else to be moved unchanged, born in session birth-1
}

func (p placed) part(r blockdiff.Range, birth uint64) placed {
	return placed{off: r.Offset, data: p.data[r.Offset-p.off : r.End()-p.off], birth: birth}
}

// work does everything that needs no other slab.
func (w *slabWorker) work(ctx context.Context, s *slab) error {
	w.runs = w.runs[:0]
	if err := w.read(ctx, s); err != nil {
		return err
	}
	switch w.b.mode {
	case modeCompare:
		if err := w.keepChanged(ctx, s); err != nil {
			return err
		}
	case modeClaim:
		if err := w.checkMoved(ctx); err != nil {
			return err
		}
		w.markMoves()
	case modeFull: // all of it is new
	}
	for _, r := range w.runs {
		if r.birth == 0 {
			s.changed += int64(len(r.data))
		} else {
			s.moved += int64(len(r.data))
		}
	}
	w.sort(s)
	for i := range s.blocks {
		w.scanner.ScanParts(s.blocks[i].parts, &s.blocks[i].cuts)
	}
	return nil
}

// read fills the slab and leaves what was read in w.runs.
func (w *slabWorker) read(ctx context.Context, s *slab) error {
	free := s.buf.Bytes()
	for _, r := range s.task.ranges {
		p := free[:r.Length]
		free = free[pageUp(r.Length):]
		err := w.b.source.ReadAt(ctx, p, r.Offset)
		var bad *blockio.ReadError
		if errors.As(err, &bad) && w.b.opt.SkipUnreadable {
			for _, l := range bad.Ranges { // zeroed by the source
				s.lost = append(s.lost, blockdiff.Range(l))
			}
			err = nil
		}
		if err != nil {
			return fmt.Errorf("read source: %w", err)
		}
		w.b.progress.read.Add(r.Length)
		w.runs = append(w.runs, placed{off: r.Offset, data: p})
	}
	if len(s.lost) > 0 && w.b.mode == modeClaim {
		w.leaveLost(s)
	}
	return nil
}

// leaveLost takes unreadable parts out of what was only to be moved: nothing
// is lost there, for the base has them.
func (w *slabWorker) leaveLost(s *slab) {
	var kept []placed
	var spared blockdiff.Ranges
	for _, r := range w.runs {
		whole := blockdiff.Range{Offset: r.off, Length: int64(len(r.data))}
		left := w.b.moves.within(whole.Offset, whole.Length).Intersect(blockdiff.Normalize(s.lost))
		for _, k := range (blockdiff.Ranges{whole}).Subtract(left) {
			kept = append(kept, r.part(k, 0))
		}
		spared = spared.Union(left)
	}
	w.runs, s.lost = kept, blockdiff.Normalize(s.lost).Subtract(spared)
}

// keepChanged replaces w.runs by what differs from the base, and by what is to
// be moved although it does not.
func (w *slabWorker) keepChanged(ctx context.Context, s *slab) error {
	var keep []placed
	for _, r := range w.runs {
		var diff blockdiff.Ranges
		err := w.compare.compare(ctx, r.off, r.data, func(off, n int64) { diff = append(diff, blockdiff.Range{Offset: off, Length: n}) })
		if err != nil {
			return err
		}
		whole := blockdiff.Range{Offset: r.off, Length: int64(len(r.data))}
		// A resumed run may begin inside a page, so what grows to whole pages is cut to what was read.
		diff = blockdiff.Normalize(diff).AlignOut(pageSize, w.b.size).Union(w.b.grown(whole)).Intersect(blockdiff.Ranges{whole})
		moved := w.b.moves.within(whole.Offset, whole.Length).Subtract(diff)
		for _, d := range diff {
			keep = append(keep, r.part(d, 0))
		}
		for _, m := range moved {
			w.b.moves.split(m.Offset, m.Length, func(off, n int64, birth uint64) {
				keep = append(keep, r.part(blockdiff.Range{Offset: off, Length: n}, birth))
			})
		}
	}
	slices.SortFunc(keep, func(a, b placed) int { return cmp.Compare(a.off, b.off) })
	w.runs = keep
	for _, h := range s.task.holes {
		zeroed := w.b.grown(h)
		err := w.compare.holes(ctx, h.Offset, h.Length, func(off, n int64) {
			zeroed = append(zeroed, blockdiff.Range{Offset: off, Length: n})
		})
		if err != nil {
			return err
		}
		zeroed = blockdiff.Normalize(zeroed)
		s.holes = append(s.holes, zeroed...)
		s.changed += zeroed.Total()
	}
	return nil
}

// grown is the part of r beyond the base's end. It must be said explicitly,
// zeros too: the map's tail has no birth otherwise (imagemap I7).
func (b *backup) grown(r blockdiff.Range) blockdiff.Ranges {
	from := max(r.Offset, b.base.Size)
	if from >= r.End() {
		return nil
	}
	return blockdiff.Ranges{{Offset: from, Length: r.End() - from}}
}

// checkMoved compares what is to be moved with what the base has: it was
// claimed unchanged, so a difference convicts the claim.
func (w *slabWorker) checkMoved(ctx context.Context) error {
	for _, r := range w.runs {
		for _, m := range w.b.moves.within(r.off, int64(len(r.data))) {
			var missed int64
			data := r.data[m.Offset-r.off : m.End()-r.off]
			err := w.compare.compare(ctx, m.Offset, data, func(_, n int64) { missed += n })
			if err != nil {
				return err
			}
			if missed > 0 {
				return &lyingClaimError{Missed: missed, Sampled: m.Length, At: m.Offset}
			}
		}
	}
	return nil
}

// sort sends long runs to blocks, short ones to patches, zeros to holes.
func (w *slabWorker) sort(s *slab) {
	open := false // a block that the next long run may continue
	for _, r := range w.runs {
		if r.birth != 0 || w.b.mode != modeFull && len(r.data) < longRun {
			w.sortPatch(s, r)
			open = false
			continue
		}
		at := 0
		blockio.DataRuns(r.data, pageSize, func(off, n int) {
			w.hole(s, r.off+int64(at), int64(off-at))
			at = off + n
			s.extend(r.off+int64(off), r.data[off:off+n], open)
			open = true
		})
		w.hole(s, r.off+int64(at), int64(len(r.data)-at))
	}
	slices.SortFunc(s.holes, func(a, b blockdiff.Range) int { return cmp.Compare(a.Offset, b.Offset) })
}

// extend adds data to the slab's last block, or begins one after a hole of longRun.
func (s *slab) extend(vol int64, data []byte, open bool) {
	p := piece{off: vol, n: int64(len(data))}
	if open {
		b := &s.blocks[len(s.blocks)-1]
		last := b.pieces[len(b.pieces)-1]
		if vol-(last.off+last.n) < longRun {
			b.parts, b.pieces = append(b.parts, data), append(b.pieces, p)
			return
		}
	}
	s.blocks = append(s.blocks, block{parts: [][]byte{data}, pieces: []piece{p}})
}

func (w *slabWorker) sortPatch(s *slab, r placed) {
	if r.birth != 0 { // its zeros are no holes: those would be born now
		s.patches = append(s.patches, piece{off: r.off, n: int64(len(r.data)), birth: r.birth, data: r.data})
		return
	}
	at := 0
	blockio.DataRuns(r.data, pageSize, func(off, n int) {
		w.hole(s, r.off+int64(at), int64(off-at))
		at = off + n
		s.patches = append(s.patches, piece{off: r.off + int64(off), n: int64(n), birth: r.birth, data: r.data[off:at]})
	})
	w.hole(s, r.off+int64(at), int64(len(r.data)-at))
}

// markMoves splits runs where what is claimed meets what is only moved. What is
// neither was read because reads are of whole pages, and goes.
func (w *slabWorker) markMoves() {
	if len(w.b.moves) == 0 {
		return
	}
	var out []placed
	for _, r := range w.runs {
		w.b.moves.split(r.off, int64(len(r.data)), func(off, n int64, birth uint64) {
			if birth != 0 {
				out = append(out, r.part(blockdiff.Range{Offset: off, Length: n}, birth))
				return
			}
			for _, c := range clip(w.b.claimed, off, n) {
				out = append(out, r.part(c, 0))
			}
		})
	}
	w.runs = out
}

// hole records zeros. A full backup needs none: what no extent covers is zeros.
func (w *slabWorker) hole(s *slab, off, n int64) {
	if n > 0 && w.b.mode != modeFull {
		s.holes = append(s.holes, blockdiff.Range{Offset: off, Length: n})
	}
}

func appendPiece(ps []piece, p piece) []piece {
	if n := len(ps); n > 0 && ps[n-1].off+ps[n-1].n == p.off && ps[n-1].birth == p.birth && ps[n-1].data == nil && p.data == nil {
		ps[n-1].n += p.n
		return ps
	}
	return append(ps, p)
}
