// SPDX-License-Identifier: Apache-2.0

package chunk

// Piece is a stretch of a volume that a chunk's plaintext came from. A chunk's
// pieces, one after the other, are its plaintext.
type Piece struct{ Offset, Length int64 }

// End returns the offset behind the piece.
func (p Piece) End() int64 { return p.Offset + p.Length }

// DigestPieces calls fn for each digest piece of a chunk with the given
// origin, in order: every piece split at multiples of size in the volume.
// chunkOff is where the digest piece begins in the chunk, volumeOff where in
// the volume. A size of zero or less yields nothing; so does a piece of no
// length.
func DigestPieces(pieces []Piece, size int64, fn func(chunkOff, volumeOff, length int64)) {
	if size <= 0 {
		return
	}
	var at int64
	for _, p := range pieces {
		for off, left := p.Offset, p.Length; left > 0; {
			n := min(size-off%size, left)
			fn(at, off, n)
			at, off, left = at+n, off+n, left-n
		}
	}
}

// CountDigestPieces returns how often DigestPieces would call fn, without
// walking the pieces; a decoder checks a count with it before it allocates.
func CountDigestPieces(pieces []Piece, size int64) int64 {
	if size <= 0 {
		return 0
	}
	var n int64
	for _, p := range pieces {
		if p.Length > 0 {
			n += (p.End()-1)/size - p.Offset/size + 1
		}
	}
	return n
}
