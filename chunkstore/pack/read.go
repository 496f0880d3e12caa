// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// tailGuess is how much of a pack's end is read at first: more than the table
// of contents of nearly every pack, and no more than a round trip is worth.
const tailGuess = 64 << 10

// ReadAtFunc reads n bytes of an object from offset off, all of them or an
// error.
type ReadAtFunc func(ctx context.Context, off, n int64) ([]byte, error)

// ReadTOC reads the table of contents of a pack of the given size: the tail,
// again if the table is longer than the first guess, and the header where the
// tail does not reach it. The object is only a name for errors, which are
// *seal.CorruptError, seal.ErrUnknownKey, seal.ErrNewerVersion, or what read
// returned.
func ReadTOC(ctx context.Context, keyring *seal.Keyring, object string, size int64, read ReadAtFunc) (*TOC, error) {
	if size < HeaderSize+trailerSize || size > MaxPack {
		return nil, corrupt(object, size, "has %d bytes, want %d to %d", size, HeaderSize+trailerSize, MaxPack)
	}
	r := reader{ctx: ctx, object: object, size: size, read: read}
	if err := r.tail(min(size, tailGuess)); err != nil {
		return nil, err
	}
	end, err := parseTrailer(object, r.last, size)
	if err != nil {
		return nil, err
	}
	tocOff := size - trailerSize - int64(end.toc)
	if size-tocOff > int64(len(r.last)) {
		if err := r.tail(size - tocOff); err != nil {
			return nil, err
		}
	}
	head := r.last
	if int64(len(r.last)) < size {
		if head, err = r.at(0, HeaderSize); err != nil {
			return nil, err
		}
	}
	return openTOC(keyring, object, head[:HeaderSize], r.last[int64(len(r.last))-(size-tocOff):], tocOff)
}

type reader struct {
	ctx    context.Context
	object string
	size   int64
	read   ReadAtFunc
	last   []byte // the object's last bytes
}

func (r *reader) tail(n int64) (err error) {
	r.last, err = r.at(r.size-n, n)
	return err
}

func (r *reader) at(off, n int64) ([]byte, error) {
	b, err := r.read(r.ctx, off, n)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.object, err)
	}
	if int64(len(b)) != n {
		return nil, corrupt(r.object, off+int64(len(b)), "%d bytes at %d, want %d", len(b), off, n)
	}
	return b, nil
}

// openTOC opens a table of contents, given the pack's header and everything
// from tocOff on.
func openTOC(keyring *seal.Keyring, object string, head, tail []byte, tocOff int64) (*TOC, error) {
	end, err := parseTrailer(object, tail, tocOff+int64(len(tail)))
	if err != nil {
		return nil, err
	}
	class, key, salt, err := parseHeader(object, head)
	if err != nil {
		return nil, err
	}
	keys, err := keyring.Find(key)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", object, err)
	}
	cipher, err := keys.PackCipher(salt)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", object, err)
	}
	sealed, trailing := tail[:end.toc], tail[end.toc:]
	plain, err := cipher.Open(nil, sealed, append(bytes.Clone(head), trailing...), seal.FrameTOC, 0)
	if err != nil {
		return nil, corrupt(object, tocOff, "table of contents: %v", err)
	}
	toc, err := decodeTOC(object, tocOff, plain, class, end.frames)
	if err != nil {
		return nil, err
	}
	toc.KeyID, toc.Salt = key, salt
	return toc, nil
}
