// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFlusherChoosesCells: full cells go to the disk at once, as one range
// where they join; others wait for what is missing, until too much waits.
func TestFlusherChoosesCells(t *testing.T) {
	w := &flusher{cells: map[int64]int64{3: flushCell, 4: flushCell, 5: 4096, 9: flushCell}, held: 3*flushCell + 4096}
	want := []Range{{3 * flushCell, 2 * flushCell}, {9 * flushCell, flushCell}}
	if diff := cmp.Diff(want, w.take()); diff != "" {
		t.Error(diff)
	}
	if w.held != 4096 || len(w.cells) != 1 {
		t.Errorf("%d bytes wait in %d cells, want 4096 in one", w.held, len(w.cells))
	}

	half := int64(flushCell / 2)
	w = &flusher{cells: map[int64]int64{}}
	for c := range int64(2*flushHeld/flushCell + 4) {
		w.cells[10+c] = half
		w.held += half
	}
	want = []Range{{10 * flushCell, 4 * flushCell}} // the lowest, until no more than flushHeld waits
	if diff := cmp.Diff(want, w.take()); diff != "" || w.held != flushHeld {
		t.Errorf("%d bytes wait: %s", w.held, diff)
	}

	w = &flusher{cells: map[int64]int64{}}
	for c := range int64(flushCells) {
		w.cells[2*c] = 512
		w.held += 512
	}
	if n := len(w.take()); n != flushCells/2 || len(w.cells) != flushCells/2 {
		t.Errorf("%d cells were handed over and %d wait, of %d", n, len(w.cells), flushCells)
	}
}
