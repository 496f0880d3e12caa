// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pierrec/lz4/v4"
	"github.com/restic/chunker"
	"github.com/zeebo/blake3"
)

// FrameSize is the unit of compression and sealing in bytes.
const FrameSize = 64 << 10

// Params are the parameters of cutting. The polynomial is one of the chunker's own tests: a repository's is secret,
// and the speed does not depend on it.
type Params struct {
	Bits, Min, Max int
}

const polynomial = chunker.Pol(0x3DA3358B4DC173)

// Keys of no importance; the speed does not depend on them.
var nameKey, sealKey = [32]byte{1}, [32]byte{2}

// Worker holds what one goroutine needs.
type Worker struct {
	fresh   chunker.BaseChunker // at the beginning of a stream
	chunker chunker.BaseChunker
	hasher  *blake3.Hasher
	name    [32]byte
	lz      lz4.Compressor
	aead    cipher.AEAD
	nonce   [12]byte
	aad     [60]byte
	frame   uint64
	block   [FrameSize - 1]byte // what LZ4 made, as long as it shrinks
	sealed  []byte
	opened  []byte
	plain   [FrameSize]byte
}

// NewWorker makes a worker.
func NewWorker(p Params) (*Worker, error) {
	hasher, err := blake3.NewKeyed(nameKey[:])
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sealKey[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	fresh := chunker.NewBase(polynomial, chunker.WithBaseBoundaries(uint(p.Min), uint(p.Max)), chunker.WithBaseAverageBits(p.Bits))
	return &Worker{
		fresh: *fresh, hasher: hasher, aead: aead,
		sealed: make([]byte, 0, FrameSize+aead.Overhead()), opened: make([]byte, 0, FrameSize),
	}, nil
}

// ErrDiffers says that a frame did not decode to what it was made from.
var ErrDiffers = errors.New("a frame decodes to other bytes than it was made from")

// Segment takes a stretch of the stream through all stages. Its first byte begins a chunk and its last one ends one.
func (w *Worker) Segment(data []byte) error {
	w.chunker = w.fresh
	for len(data) > 0 {
		n := w.cut(data)
		w.hash(data[:n])
		for f := range frames(data[:n]) {
			payload := w.compress(f)
			w.seal(payload)
			if err := w.open(); err != nil {
				return err
			}
			plain, err := w.decode(len(payload) == len(f), len(f))
			if err != nil {
				return err
			}
			if !bytes.Equal(plain, f) {
				return ErrDiffers
			}
		}
		data = data[n:]
	}
	return nil
}

// frames yields data in pieces of FrameSize, the last one shorter.
func frames(data []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			n := min(len(data), FrameSize)
			if !yield(data[:n]) {
				return
			}
			data = data[n:]
		}
	}
}

// cut returns the length of the chunk that data begins with.
func (w *Worker) cut(data []byte) int {
	if n := w.chunker.NextSplitPoint(data); n >= 0 {
		return n
	}
	return len(data)
}

func (w *Worker) hash(chunk []byte) {
	w.hasher.Reset()
	_, _ = w.hasher.Write(chunk)
	w.hasher.Sum(w.name[:0])
}

// compress returns the frame itself where LZ4 does not make it shorter.
func (w *Worker) compress(frame []byte) []byte {
	if n, err := w.lz.CompressBlock(frame, w.block[:len(frame)-1]); err == nil && n > 0 {
		return w.block[:n]
	}
	return frame
}

// number goes on to the next frame, whose number is its nonce.
func (w *Worker) number() {
	w.frame++
	binary.LittleEndian.PutUint64(w.nonce[4:], w.frame)
}

func (w *Worker) seal(payload []byte) {
	w.number()
	w.sealed = w.aead.Seal(w.sealed[:0], w.nonce[:], payload, w.aad[:])
}

func (w *Worker) open() (err error) {
	if w.opened, err = w.aead.Open(w.opened[:0], w.nonce[:], w.sealed, w.aad[:]); err != nil {
		return fmt.Errorf("open a frame: %w", err)
	}
	return nil
}

// decode returns the plaintext of what was opened.
func (w *Worker) decode(raw bool, n int) ([]byte, error) {
	if raw {
		return w.opened, nil
	}
	got, err := uncompress(w.opened, w.plain[:n])
	if err != nil {
		return nil, fmt.Errorf("decode a frame: %w", err)
	}
	return w.plain[:got], nil
}

func uncompress(block, out []byte) (int, error) { return lz4.UncompressBlock(block, out) }
