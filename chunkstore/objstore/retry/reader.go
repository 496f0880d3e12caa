// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"context"
	"io"
)

// reader goes on where a body broke (T3).
type reader struct {
	ctx   context.Context //nolint:containedctx // a reader is bound to the context it was opened with
	store *Store
	name  string
	off   int64         // of the next byte
	left  int64         // below 0: to the end
	body  io.ReadCloser // nil after it broke
	err   error         // final
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, first := r.attempt(p)
	if first == nil || first == io.EOF {
		r.err = first
		return n, first
	}
	ended := false
	r.err = r.store.loop.do(r.ctx, func() (err error) {
		if first != nil { // what brought us here counts as the first attempt
			err, first = first, nil
			return err
		}
		if n, err = r.attempt(p); err == io.EOF {
			ended, err = true, nil
		}
		return err
	})
	if ended {
		r.err = io.EOF
	}
	return n, r.err
}

// attempt reads once, from a new body if the last one broke. It returns bytes
// or an error, save for io.EOF, which may come with the last bytes.
func (r *reader) attempt(p []byte) (n int, err error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if r.body == nil {
		if r.body, err = r.store.inner.Get(r.ctx, r.name, r.off, r.left); err != nil {
			r.body = nil
			return 0, err
		}
	}
	n, err = r.body.Read(p)
	r.off += int64(n)
	if r.left > 0 {
		r.left -= int64(n)
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	_ = r.body.Close() // it has failed already
	r.body = nil
	if n > 0 {
		return n, nil // the next Read will see
	}
	return 0, err
}

func (r *reader) Close() error {
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}
