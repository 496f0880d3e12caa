// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// readPiece bounds one system call, so that a cancelled context is seen within it.
const readPiece = 8 << 20

// ReadAt fills p with the volume's bytes at off (I1). Page-aligned buffers, offsets and lengths are read
// directly; for others the unaligned ends, or all of it, go through the page cache and are dropped behind.
// Errors: ErrOutOfRange, *ReadError, *ChangedSizeError, the context's, or what the kernel said.
func (s *Source) ReadAt(ctx context.Context, p []byte, off int64) error {
	if off < 0 || int64(len(p)) > s.size-off {
		return fmt.Errorf("read %s: %d bytes at %d of %d: %w", s.path, len(p), off, s.size, ErrOutOfRange)
	}
	var lost *ReadError
	for len(p) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := p[:min(len(p), readPiece)]
		err := s.readFull(piece, off)
		if err != nil {
			if !mediumError(err) {
				return err
			}
			if lost == nil {
				lost = &ReadError{Path: s.path, Err: err}
			}
			if err := s.salvage(ctx, piece, off, lost); err != nil {
				return err
			}
		} else {
			s.readBytes.Add(int64(len(piece)))
		}
		p, off = p[len(piece):], off+int64(len(piece))
	}
	if lost != nil && len(lost.Ranges) > 0 { // nothing is lost when the second try succeeded
		return lost
	}
	return nil
}

// salvage reads everything of p that can be read, by halves down to pages of the volume, and adds the rest,
// zeroed, to lost. p is known to have failed as a whole.
func (s *Source) salvage(ctx context.Context, p []byte, off int64, lost *ReadError) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.CheckUnchanged(); err != nil { // a device cut short fails its reads too
		return err
	}
	unit := max(PageSize, s.align.offset)
	end := off + int64(len(p))
	first := roundDown(off, unit)
	pages := (roundUp(end, unit) - first) / unit
	if pages <= 1 {
		clear(p)
		lost.add(Range{Offset: off, Length: int64(len(p))})
		return nil
	}
	half := first + pages/2*unit - off
	for _, part := range []struct {
		p   []byte
		off int64
	}{{p[:half], off}, {p[half:], off + half}} {
		err := s.readFull(part.p, part.off)
		switch {
		case err == nil:
			s.readBytes.Add(int64(len(part.p)))
		case mediumError(err):
			if err := s.salvage(ctx, part.p, part.off, lost); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

// add appends r, which lies behind all ranges so far.
func (e *ReadError) add(r Range) {
	if last := len(e.Ranges) - 1; last >= 0 && e.Ranges[last].End() == r.Offset {
		e.Ranges[last].Length += r.Length
		return
	}
	e.Ranges = append(e.Ranges, r)
}

// readFull fills p, directly as far as alignment allows.
func (s *Source) readFull(p []byte, off int64) error {
	if !s.Direct() {
		return s.readBuffered(p, off)
	}
	head := roundUp(off, s.align.offset) - off
	if head >= int64(len(p)) || !s.align.aligned(p[head:]) {
		return s.readBuffered(p, off)
	}
	if head > 0 {
		if err := s.readBuffered(p[:head], off); err != nil {
			return err
		}
		p, off = p[head:], off+head
	}
	done, err := s.readDirect(p[:roundDown(int64(len(p)), s.align.offset)], off)
	if err != nil {
		return err
	}
	if done == len(p) {
		return nil
	}
	return s.readBuffered(p[done:], off+int64(done)) // the tail, or all of it after a fall-back
}

// readDirect returns how much of p it filled; the caller gets the rest in another way. A read that stops short
// at an odd place is the end of a file that shrank: the kernel then answers EINVAL to the next, unaligned one,
// which must not be mistaken for a file system without direct reads.
func (s *Source) readDirect(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.direct.ReadAt(p, off)
	if s.align.silent {
		dropCached(s.direct, off, int64(len(p)))
	}
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return n, nil
	case errors.Is(err, unix.EINVAL):
		if int64(n)%s.align.offset == 0 {
			s.fallBack(fmt.Sprintf("a direct read of %d bytes at %d was refused: %v", len(p), off, err))
		}
		return n, nil
	default:
		return n, wrapRead(s.path, off+int64(n), err)
	}
}

func (s *Source) readBuffered(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	s.cached.Store(true)
	n, err := s.buffered.ReadAt(p, off)
	dropCached(s.buffered, off, int64(len(p)))
	if err == nil {
		return nil
	}
	if !errors.Is(err, io.EOF) {
		return wrapRead(s.path, off+int64(n), err)
	}
	if err := s.CheckUnchanged(); err != nil {
		return err
	}
	return wrapRead(s.path, off+int64(n), io.ErrUnexpectedEOF)
}

func wrapRead(path string, off int64, err error) error {
	return fmt.Errorf("read %s at %d: %w", path, off, pathless(err))
}
