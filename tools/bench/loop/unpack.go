// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"fmt"

	"github.com/zeebo/blake3"
)

// Packed is a chunk that was taken through the loop as far as sealing.
type Packed struct {
	Name   [32]byte
	Plain  int
	Stored int
	first  uint64 // number of its first frame
	frames []packedFrame
}

type packedFrame struct {
	stored int
	raw    bool
}

// Chunks cuts data into chunks, the last of which ends with it, and calls fn for each.
func (w *Worker) Chunks(data []byte, fn func(chunk []byte) error) error {
	w.chunker = w.fresh
	for len(data) > 0 {
		n := w.cut(data)
		if err := fn(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// Pack names, compresses and seals a chunk and appends what is to be stored to dst.
func (w *Worker) Pack(chunk, dst []byte) ([]byte, Packed) {
	w.hash(chunk)
	p := Packed{Name: w.name, Plain: len(chunk), first: w.frame + 1}
	for f := range frames(chunk) {
		payload := w.compress(f)
		w.seal(payload)
		p.frames = append(p.frames, packedFrame{len(w.sealed), len(payload) == len(f)})
		p.Stored += len(w.sealed)
		dst = append(dst, w.sealed...)
	}
	return dst, p
}

// Unpack is the loop of a restore: open, decode, hash and compare with the name. The plaintext goes to dst, which has
// room for it.
func (w *Worker) Unpack(p *Packed, stored, dst []byte) error {
	w.frame = p.first - 1
	plain := dst[:p.Plain]
	for _, f := range p.frames {
		out := plain[:min(len(plain), FrameSize)]
		sealed := stored[:f.stored]
		stored, plain = stored[f.stored:], plain[len(out):]
		if err := w.unpackFrame(sealed, f.raw, out); err != nil {
			return err
		}
	}
	if w.hash(dst[:p.Plain]); w.name != p.Name {
		return fmt.Errorf("%w: a chunk's name is %x, want %x", ErrDiffers, w.name[:4], p.Name[:4])
	}
	return nil
}

func (w *Worker) unpackFrame(sealed []byte, raw bool, out []byte) error {
	w.number()
	into := w.opened[:0]
	if raw {
		into = out[:0]
	}
	opened, err := w.aead.Open(into, w.nonce[:], sealed, w.aad[:])
	if err != nil {
		return fmt.Errorf("open a frame: %w", err)
	}
	if raw {
		return nil
	}
	n, err := uncompress(opened, out)
	if err != nil || n != len(out) {
		return fmt.Errorf("decode a frame: %d of %d bytes: %w", n, len(out), err)
	}
	return nil
}

// Hasher is what digests are made with, for yardsticks that only hash.
func Hasher() (*blake3.Hasher, error) { return blake3.NewKeyed(nameKey[:]) }
