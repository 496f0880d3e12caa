// SPDX-License-Identifier: Apache-2.0

package retry

import (
	"context"
	"errors"
	"io"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// Store repeats what fails for a while. It is safe for concurrent use.
type Store struct {
	inner objstore.Store
	loop  loop
}

// Wrap returns a store around s that tries again as the policy says.
func Wrap(s objstore.Store, p Policy) *Store {
	return &Store{inner: s, loop: loop{policy: p.withDefaults()}}
}

// Unwrap returns the store within.
func (s *Store) Unwrap() objstore.Store { return s.inner }

// Put implements objstore.Store; see T2.
func (s *Store) Put(ctx context.Context, name string, body objstore.Body) error {
	unknown := false
	return s.loop.do(ctx, func() error {
		if unknown {
			if done, err := s.settled(ctx, name, body); done {
				return err
			}
		}
		err := s.inner.Put(ctx, name, body)
		if unknown && errors.Is(err, objstore.ErrExists) {
			return s.compare(ctx, name, body, err)
		}
		unknown = unknown || objstore.ClassOf(err) == objstore.Retryable && err != nil
		return err
	})
}

// settled looks whether an earlier attempt has succeeded after all, or another
// writer has. If that can't be seen, sending the body again will tell.
func (s *Store) settled(ctx context.Context, name string, body objstore.Body) (bool, error) {
	_, err := s.inner.Stat(ctx, name)
	if err != nil {
		return objstore.ClassOf(err) == objstore.Canceled, err
	}
	return true, s.compare(ctx, name, body, &objstore.Error{Op: "put", Name: name, Class: objstore.Exists})
}

// compare turns "exists" into success where the object is the body. An error
// on the way is returned, so that the loop tries again if it may pass.
func (s *Store) compare(ctx context.Context, name string, body objstore.Body, exists error) error {
	same, err := objstore.Same(ctx, s.inner, name, body)
	switch {
	case err != nil:
		return err
	case same:
		return nil
	}
	return exists
}

// Get implements objstore.Store; see T3.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	body, err := s.open(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, store: s, name: name, off: off, left: n, body: body}, nil
}

func (s *Store) open(ctx context.Context, name string, off, n int64) (body io.ReadCloser, err error) {
	err = s.loop.do(ctx, func() error {
		body, err = s.inner.Get(ctx, name, off, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, name string) (info objstore.Info, err error) {
	err = s.loop.do(ctx, func() error {
		info, err = s.inner.Stat(ctx, name)
		return err
	})
	return info, err
}

// List implements objstore.Store; see T4.
func (s *Store) List(ctx context.Context, prefix string, fn func(objstore.Info) error) error {
	var final error // not to be repeated, whatever its class
	err := s.loop.do(ctx, func() error {
		shown := false
		err := s.inner.List(ctx, prefix, func(i objstore.Info) error {
			shown = true
			return fn(i)
		})
		if shown {
			final = err
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return final
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	return s.loop.do(ctx, func() error { return s.inner.Delete(ctx, name) })
}

// String implements objstore.Store.
func (s *Store) String() string { return s.inner.String() }

// Close implements objstore.Store.
func (s *Store) Close() error { return s.inner.Close() }
