// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

const (
	// batchBytes are handed to the kernel in one call, then sent on to the disk.
	batchBytes = 4 << 20
	// batchPieces is the kernel's limit for one call (IOV_MAX).
	batchPieces = 1024
)

// writeBody writes the body's pieces from where they lie, syncs the file, and
// takes it out of the page cache (F2).
func writeBody(ctx context.Context, f *os.File, body objstore.Body) error {
	w := writer{fd: int(f.Fd())}
	for _, piece := range body {
		for len(piece) > 0 {
			part := piece[:min(len(piece), batchBytes-w.pending)]
			piece = piece[len(part):]
			if err := w.add(ctx, part); err != nil {
				return err
			}
		}
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	if err := bare(f.Sync()); err != nil {
		return err
	}
	dropCache(w.fd, 0, w.off)
	return nil
}

type writer struct {
	fd      int
	off     int64
	pieces  [][]byte
	pending int
}

func (w *writer) add(ctx context.Context, piece []byte) error {
	w.pieces = append(w.pieces, piece)
	w.pending += len(piece)
	if w.pending < batchBytes && len(w.pieces) < batchPieces {
		return nil
	}
	return w.flush(ctx)
}

// flush writes what is pending and starts, without waiting, its way to the
// disk, so that the sync at the end finds little left to do.
func (w *writer) flush(ctx context.Context) error {
	start := w.off
	for rest := w.pieces; w.pending > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Pwritev(w.fd, rest, w.off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		w.off += int64(n)
		w.pending -= n
		rest = consume(rest, n)
	}
	w.pieces = w.pieces[:0]
	if w.off > start {
		_ = unix.SyncFileRange(w.fd, start, w.off-start, unix.SYNC_FILE_RANGE_WRITE) // a hint
	}
	return nil
}

// consume takes n bytes off the front of pieces. It may change their headers,
// which are the writer's own.
func consume(pieces [][]byte, n int) [][]byte {
	for len(pieces) > 0 && n >= len(pieces[0]) {
		n -= len(pieces[0])
		pieces = pieces[1:]
	}
	if n > 0 {
		pieces[0] = pieces[0][n:]
	}
	return pieces
}

func dropCache(fd int, off, n int64) {
	_ = unix.Fadvise(fd, off, n, unix.FADV_DONTNEED) // a hint
}
