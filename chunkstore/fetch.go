// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"fmt"
	"io"

	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// FetchInto fills p with stored bytes of a pack from offset off. A pack that is
// missing, or shorter than the index says, is a *seal.CorruptError: packs are
// immutable, so nothing else can explain it.
func (r *packs) FetchInto(ctx context.Context, id index.PackID, off int64, p []byte) error {
	name := id.Name()
	body, err := r.store.Get(ctx, name, off, int64(len(p)))
	if err != nil {
		return lost(name, off, err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, p); err != nil {
		return lost(name, off, err)
	}
	return nil
}

// KnownCipher gives what opens a pack's frames, if that was learnt before.
func (r *packs) KnownCipher(id index.PackID) (*seal.PackCipher, bool) {
	c, ok := r.meta.get(metaKey{kind: metaCipher, id: id.Hash})
	if !ok {
		return nil, false
	}
	return c.(*seal.PackCipher), true
}

// LearnCipher derives it from the first pack.HeaderSize bytes of the pack.
func (r *packs) LearnCipher(id index.PackID, head []byte) (*seal.PackCipher, error) {
	return r.learnCipher(id, head)
}

// Open is Decode for a caller that holds the pack's cipher and name already: it
// allocates nothing where dst has room.
func (rd *Reader) Open(cipher *seal.PackCipher, object string, e *pack.Entry, stored, dst []byte) ([]byte, error) {
	plain, err := rd.dec.Chunk(cipher, object, *e, stored, dst)
	if err != nil {
		return nil, err
	}
	if got := rd.namer.Name(plain[len(dst):]); got != e.ID {
		return nil, &seal.CorruptError{
			Object: object, Offset: int64(e.Offset),
			Detail: fmt.Sprintf("chunk %s decodes to bytes named %s", e.ID.Short(), got.Short()),
		}
	}
	return plain, nil
}
