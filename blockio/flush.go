// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	flushWindow = 16 << 20 // bytes written before their write-back is started
	flushRanges = 4096     // or so many scattered ranges
	flushGap    = 1 << 20  // ranges nearer than this are flushed as one
)

// flusher keeps the dirty and the cached part of a target small (I3). Written ranges gather in a window; a
// full window is handed to the disk, and when the next one is, its pages are waited for and dropped. So the
// disk always has a window to work on, and a writer that is faster than the disk waits for it here instead of
// filling the node's memory.
type flusher struct {
	f    *os.File
	path string

	mu    sync.Mutex
	open  []Range // written since the last window
	bytes int64

	turn   sync.Mutex // one window at a time
	flying []Range    // handed to the disk
	spare  []Range

	err atomic.Pointer[error] // first write-back failure (I5)
}

func newFlusher(f *os.File, path string) *flusher {
	list := func() []Range { return make([]Range, 0, flushRanges) }
	return &flusher{f: f, path: path, open: list(), spare: list(), flying: list()}
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

// wrote accounts for n bytes written at off and flushes a window when one is full.
func (w *flusher) wrote(off, n int64) error {
	w.mu.Lock()
	if last := len(w.open) - 1; last >= 0 && w.open[last].End() == off {
		w.open[last].Length += n
	} else {
		w.open = append(w.open, Range{off, n})
	}
	w.bytes += n
	full := w.bytes >= flushWindow || len(w.open) >= flushRanges
	w.mu.Unlock()
	if !full {
		return nil
	}
	return w.next()
}

// next starts the open window and ends the one before.
func (w *flusher) next() error {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	if w.bytes < flushWindow && len(w.open) < flushRanges { // somebody else was first
		w.mu.Unlock()
		return w.failed()
	}
	window := w.open
	w.open, w.bytes, w.spare = w.spare[:0], 0, nil
	w.mu.Unlock()

	window = merge(window)
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
	w.spare, w.flying = w.flying[:0], window
	return w.failed()
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
	w.open, w.bytes = w.open[:0], 0
	w.mu.Unlock()
	if err := w.f.Sync(); err != nil {
		return w.fail(err)
	}
	dropCached(w.f, 0, 0)
	w.flying = w.flying[:0]
	return nil
}

// merge sorts ranges and joins those with small gaps between, in place.
func merge(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.Offset, b.Offset) })
	out := ranges[:0]
	for _, r := range ranges {
		if last := len(out) - 1; last >= 0 && r.Offset-out[last].End() <= flushGap {
			out[last].Length = max(out[last].End(), r.End()) - out[last].Offset
			continue
		}
		out = append(out, r)
	}
	return out
}
