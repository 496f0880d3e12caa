// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	flushCell   = 1 << 20  // the target in cells of this size
	flushWindow = 16 << 20 // bytes written before some write-back is started
	flushHeld   = 64 << 20 // bytes in cells that wait for the rest of theirs
	flushCells  = 8192     // or so many cells
)

// flusher keeps the dirty and the cached part of a target small (I3). What is written is counted by cells of the
// target. After every window, the cells that are full are handed to the disk; those with gaps wait for their
// neighbours, the lowest ones least, because a restore goes upwards and scatters pages ahead of itself: so the disk
// gets long writes, not the pages one by one. When the next window is full, the pages of the one before are waited
// for and dropped. A writer that is faster than the disk waits for it here instead of filling the node's memory.
type flusher struct {
	f    *os.File
	path string

	mu    sync.Mutex
	cells map[int64]int64 // bytes written by cell, since it was handed to the disk
	held  int64           // sum of them
	fresh int64           // written since the last window

	turn   sync.Mutex // one window at a time
	flying []Range    // handed to the disk

	err atomic.Pointer[error] // first write-back failure (I5)
}

func newFlusher(f *os.File, path string) *flusher {
	return &flusher{f: f, path: path, cells: map[int64]int64{}}
}

func (w *flusher) failed() error {
	if e := w.err.Load(); e != nil {
		return *e
	}
	return nil
}

func (w *flusher) fail(err error) error {
	err = fmt.Errorf("write back %s: %w", w.path, pathless(err))
	w.err.CompareAndSwap(nil, &err)
	return w.failed()
}

// wrote accounts for n bytes written at off and flushes when a window is full.
func (w *flusher) wrote(off, n int64) error {
	w.mu.Lock()
	w.held, w.fresh = w.held+n, w.fresh+n
	for n > 0 {
		part := min(n, flushCell-off%flushCell)
		w.cells[off/flushCell] += part
		off, n = off+part, n-part
	}
	full := w.full()
	w.mu.Unlock()
	if !full {
		return nil
	}
	return w.next()
}

// full tells whether a window is due. w.mu is held.
func (w *flusher) full() bool { return w.fresh >= flushWindow || len(w.cells) >= flushCells }

// next starts a window and ends the one before.
func (w *flusher) next() error {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	if !w.full() { // somebody else was first
		w.mu.Unlock()
		return w.failed()
	}
	window := w.take()
	w.mu.Unlock()

	for _, r := range window {
		if err := w.syncRange(r, unix.SYNC_FILE_RANGE_WRITE); err != nil {
			return err
		}
	}
	for _, r := range w.flying {
		err := w.syncRange(r, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		if err != nil {
			return err
		}
		dropCached(w.f, r.Offset, r.Length)
	}
	w.flying = window
	return w.failed()
}

// take chooses what goes to the disk: full cells, and the lowest of the others
// while too much waits. w.mu is held.
func (w *flusher) take() []Range {
	w.fresh = 0
	cells := make([]int64, 0, len(w.cells))
	for c := range w.cells {
		cells = append(cells, c)
	}
	slices.Sort(cells)
	waiting := w.held
	for _, c := range cells {
		if w.cells[c] >= flushCell {
			waiting -= w.cells[c]
		}
	}
	var window []Range
	left := len(cells)
	for _, c := range cells {
		n := w.cells[c]
		if n < flushCell {
			if waiting <= flushHeld && left <= flushCells/2 {
				continue
			}
			waiting -= n
		}
		left--
		w.held -= n
		delete(w.cells, c)
		if last := len(window) - 1; last >= 0 && window[last].End() == c*flushCell {
			window[last].Length += flushCell
			continue
		}
		window = append(window, Range{c * flushCell, flushCell})
	}
	return window
}

func (w *flusher) syncRange(r Range, how int) error {
	err := unix.SyncFileRange(int(w.f.Fd()), r.Offset, r.Length, how)
	if err == nil || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINTR) {
		return nil // EINTR: fsync will do what is left
	}
	return w.fail(err)
}

// sync writes everything back and drops it.
func (w *flusher) sync() error {
	w.turn.Lock()
	defer w.turn.Unlock()
	if err := w.failed(); err != nil {
		return err
	}
	w.mu.Lock()
	clear(w.cells)
	w.held, w.fresh = 0, 0
	w.mu.Unlock()
	if err := w.f.Sync(); err != nil {
		return w.fail(err)
	}
	dropCached(w.f, 0, 0)
	w.flying = nil
	return nil
}
