// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"context"
	"errors"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
	"github.com/zeebo/blake3"
)

// Scan walks the frames of a pack by their headers, without its table of
// contents, and calls fn for every whole chunk, in order: entry without ID,
// and its stored bytes for Decoder.Chunk. Payloads are not opened. Where the
// trailer can be read Scan knows where frames end; where it can't, it goes on
// until something is no frame and then returns a *seal.CorruptError for that
// place. An error of fn ends the walk and is returned.
func Scan(keyring *seal.Keyring, object string, b []byte, fn func(e Entry, stored []byte) error) error {
	_, key, salt, err := parseHeader(object, b)
	if err != nil {
		return err
	}
	keys, err := keyring.Find(key)
	if err != nil {
		return err
	}
	cipher, err := keys.PackCipher(salt)
	if err != nil {
		return err
	}
	end, frames := len(b), int64(-1)
	if len(b) >= HeaderSize+trailerSize {
		if t, err := parseTrailer(object, b, int64(len(b))); err == nil {
			end, frames = len(b)-trailerSize-int(t.toc), int64(t.frames)
		}
	}
	n, err := scanFrames(cipher, object, b[:end], fn)
	if err == nil && n != frames {
		err = corrupt(object, int64(end), "%d frames, the trailer says %d", n, frames)
	}
	return err
}

func scanFrames(cipher *seal.PackCipher, object string, b []byte, fn func(e Entry, stored []byte) error) (n int64, err error) {
	d := NewDecoder()
	at := HeaderSize
	inside := false
	var e Entry
	for at < len(b) {
		f, err := d.header(cipher, b[at:], uint64(n))
		if err != nil {
			return n, corrupt(object, int64(at), "frame %d: header %v", n, err)
		}
		if f.first == inside {
			return n, corrupt(object, int64(at), "frame %d: is %v, inside a chunk: %v", n, f, inside)
		}
		if f.first {
			e = Entry{Offset: uint32(at), Frame: uint32(n)}
		}
		size := frameHeader + int(f.stored.Payload())
		if size > len(b)-at {
			return n, corrupt(object, int64(len(b)), "ends in frame %d, which has %d bytes from %d", n, size, at)
		}
		e.Stored += uint32(size)
		e.Plain += uint32(f.plain)
		if e.Plain > MaxPlain {
			return n, corrupt(object, int64(at), "frame %d: a chunk of more than %d bytes", n, MaxPlain)
		}
		at, n, inside = at+size, n+1, !f.last
		if f.last {
			if err := fn(e, b[e.Offset:at]); err != nil {
				return n, err
			}
		}
	}
	if inside {
		return n, corrupt(object, int64(len(b)), "ends inside the chunk that begins at %d", e.Offset)
	}
	return n, nil
}

// Verify checks everything there is to check in a whole pack: the stored bytes
// against the hash in its name, the table of contents, every frame, and each
// chunk against its name and its digests. The error is a *seal.CorruptError
// that names the first thing that is wrong; where the bytes match the name, it
// may be seal.ErrUnknownKey or seal.ErrNewerVersion instead.
func Verify(keyring *seal.Keyring, object string, b []byte) error {
	_, _, want, err := ParseName(object)
	if err != nil {
		return err
	}
	got := blake3.Sum256(b)
	err = verifyInside(keyring, object, b)
	if got == want {
		return err
	}
	if _, ok := errors.AsType[*seal.CorruptError](err); ok {
		return err
	}
	detail := "the bytes are whole in themselves"
	if err != nil {
		detail = err.Error()
	}
	return corrupt(object, 0, "BLAKE3 of the stored bytes is %x, the name says %x: %s", got, want, detail)
}

func verifyInside(keyring *seal.Keyring, object string, b []byte) error {
	toc, err := ReadTOC(context.Background(), keyring, object, int64(len(b)), func(_ context.Context, off, n int64) ([]byte, error) {
		return b[off : off+n], nil
	})
	if err != nil {
		return err
	}
	keys, err := keyring.Find(toc.KeyID)
	if err != nil {
		return err
	}
	cipher, err := toc.Cipher(keyring)
	if err != nil {
		return err
	}
	v := verifier{
		cipher:   cipher,
		object:   object,
		decoder:  NewDecoder(),
		namer:    chunk.NewNamer(keys.NameKey(toc.Domain)),
		digester: chunk.NewDigester(keys.DigestKey(toc.Domain)),
	}
	for i := range toc.Chunks {
		if err := v.chunk(&toc.Chunks[i], b); err != nil {
			return err
		}
	}
	return nil
}

type verifier struct {
	cipher   *seal.PackCipher
	object   string
	decoder  *Decoder
	namer    *chunk.Namer
	digester *chunk.Digester
	plain    []byte
}

func (v *verifier) chunk(c *TOCChunk, pack []byte) (err error) {
	v.plain = v.plain[:0]
	for i := range c.FrameStored {
		off, n := c.FrameRange(i)
		if v.plain, err = v.decoder.Frame(v.cipher, v.object, c, i, pack[off:off+n], v.plain); err != nil {
			return err
		}
	}
	if id := v.namer.Name(v.plain); id != c.ID {
		return corrupt(v.object, int64(c.Offset), "chunk is named %s, the table of contents says %s", id, c.ID)
	}
	i := 0
	chunk.DigestPieces(c.Pieces, int64(c.DigestSize), func(off, _, n int64) {
		if got := v.digester.Sum(v.plain[off : off+n]); got != c.Digests[i] && err == nil {
			err = corrupt(v.object, int64(c.Offset), "digest of %d bytes from %d of chunk %s is %#x, the table of contents says %#x", n, off, c.ID, uint64(got), uint64(c.Digests[i]))
		}
		i++
	})
	return err
}
