// SPDX-License-Identifier: Apache-2.0

package objstore

import (
	"errors"
	"io"
)

// Body is an object's bytes, in memory and in pieces: at most a pack, so that
// a failed Put can send it again and nobody has to join the pieces.
type Body [][]byte

// Len returns the number of bytes.
func (b Body) Len() int64 {
	var n int64
	for _, p := range b {
		n += int64(len(p))
	}
	return n
}

// NewReader returns a reader at the beginning of the body. It hides the
// pieces' addresses: no method gives out the body's own memory.
func (b Body) NewReader() io.ReadSeeker { return &bodyReader{body: b, size: b.Len()} }

// Bytes returns a copy of the body in one piece.
func (b Body) Bytes() []byte {
	joined := make([]byte, 0, b.Len())
	for _, p := range b {
		joined = append(joined, p...)
	}
	return joined
}

// bodyReader reads a Body; piece and off say where in it pos lies.
type bodyReader struct {
	body  Body
	size  int64
	pos   int64
	piece int
	off   int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n := 0
	for n < len(p) && r.piece < len(r.body) {
		c := copy(p[n:], r.body[r.piece][r.off:])
		n += c
		r.off += c
		if r.off == len(r.body[r.piece]) {
			r.piece, r.off = r.piece+1, 0
		}
	}
	r.pos += int64(n)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Seek implements io.Seeker. Seeking past the end is an error.
func (r *bodyReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	default:
		return 0, errors.New("seek in body: unknown whence")
	}
	if offset < 0 || offset > r.size {
		return 0, errors.New("seek in body: outside of it")
	}
	r.pos, r.piece, r.off = offset, 0, 0
	for rest := offset; rest > 0; r.piece++ {
		size := int64(len(r.body[r.piece]))
		if rest < size {
			r.off = int(rest)
			break
		}
		rest -= size
	}
	return offset, nil
}
