// SPDX-License-Identifier: Apache-2.0

package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// ErrTooLarge (of class Permanent) means that an object has more bytes than its
// reader allows.
var ErrTooLarge = errors.New("object is too large")

// ReadAll reads a whole object of at most limit bytes; a larger one is
// ErrTooLarge before it is in memory.
func ReadAll(ctx context.Context, s Store, name string, limit int64) ([]byte, error) {
	r, err := s.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	}
	if int64(buf.Len()) > limit {
		return nil, &Error{Op: "get", Name: name, Err: fmt.Errorf("%w: larger than the %d bytes allowed", ErrTooLarge, limit)}
	}
	return buf.Bytes(), nil
}

// ReadRange reads exactly n bytes at off.
func ReadRange(ctx context.Context, s Store, name string, off, n int64) ([]byte, error) {
	if err := CheckRange(name, off, n); err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, &Error{Op: "get", Name: name, Err: fmt.Errorf("length %d is negative", n)}
	}
	r, err := s.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return nil, asShort(name, err)
	}
	return p, nil
}

// asShort classes an end of file that a store let through against I5.
func asShort(name string, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return &Error{Op: "get", Name: name, Class: Retryable, Err: io.ErrUnexpectedEOF}
	}
	return err
}

// CheckRange refuses ranges that can't be meant: how every Get begins.
func CheckRange(name string, off, n int64) error {
	if off < 0 || n > 0 && off+n < off {
		return &Error{Op: "get", Name: name, Err: fmt.Errorf("range at %d of %d bytes is out of bounds", off, n)}
	}
	return nil
}

// ClampRange returns the number of bytes that a Get of (off, n) yields from an
// object of the given size, or ErrShort.
func ClampRange(name string, off, n, size int64) (int64, error) {
	if n < 0 {
		n = max(size-off, 0)
	}
	if off > size || n > size-off {
		return 0, &Error{Op: "get", Name: name, Err: fmt.Errorf("%w: %d bytes at %d of %d", ErrShort, n, off, size)}
	}
	return n, nil
}

// Same reports whether the object exists and holds exactly the bytes of body.
// It answers what became of a Put whose outcome is unknown.
func Same(ctx context.Context, s Store, name string, body Body) (bool, error) {
	info, err := s.Stat(ctx, name)
	if errors.Is(err, ErrNotExist) {
		return false, nil
	}
	if err != nil || info.Size != body.Len() {
		return false, err
	}
	r, err := s.Get(ctx, name, 0, -1)
	if err != nil {
		return false, err
	}
	defer r.Close()
	buf := make([]byte, 64<<10)
	for _, piece := range body {
		for len(piece) > 0 {
			p := buf[:min(len(buf), len(piece))]
			if _, err := io.ReadFull(r, p); err != nil {
				return false, asShort(name, err)
			}
			if !bytes.Equal(p, piece[:len(p)]) {
				return false, nil
			}
			piece = piece[len(p):]
		}
	}
	return true, nil
}
