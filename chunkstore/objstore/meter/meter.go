// SPDX-License-Identifier: Apache-2.0

package meter

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// Counts are running totals. Calls are counted when they return, failed ones
// too; bytes when they are known to have arrived.
type Counts struct {
	Puts, Gets, Stats, Lists, Deletes int64
	// Failed calls among these, and readers that broke.
	Failures int64
	// PutBytes are the bodies of Puts that succeeded.
	PutBytes int64
	// GetBytes were read from the readers of Gets.
	GetBytes int64
	// Listed objects.
	Listed int64
}

// Store counts the calls to another one. It is safe for concurrent use.
type Store struct {
	inner objstore.Store

	puts, gets, stats, lists, deletes   atomic.Int64
	failures, putBytes, getBytes, shown atomic.Int64
}

// Wrap returns a counting store around s.
func Wrap(s objstore.Store) *Store { return &Store{inner: s} }

// Counts returns the totals so far. Each is exact; while calls are under way
// they may be of slightly different moments.
func (s *Store) Counts() Counts {
	return Counts{
		Puts: s.puts.Load(), Gets: s.gets.Load(), Stats: s.stats.Load(), Lists: s.lists.Load(), Deletes: s.deletes.Load(),
		Failures: s.failures.Load(), PutBytes: s.putBytes.Load(), GetBytes: s.getBytes.Load(), Listed: s.shown.Load(),
	}
}

// Unwrap returns the store within.
func (s *Store) Unwrap() objstore.Store { return s.inner }

func (s *Store) count(calls *atomic.Int64, err error) {
	calls.Add(1)
	if err != nil {
		s.failures.Add(1)
	}
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, name string, body objstore.Body) error {
	err := s.inner.Put(ctx, name, body)
	if err == nil {
		s.putBytes.Add(body.Len())
	}
	s.count(&s.puts, err)
	return err
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	r, err := s.inner.Get(ctx, name, off, n)
	s.count(&s.gets, err)
	if err != nil {
		return nil, err
	}
	return &reader{ReadCloser: r, store: s}, nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, name string) (objstore.Info, error) {
	info, err := s.inner.Stat(ctx, name)
	s.count(&s.stats, err)
	return info, err
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix string, fn func(objstore.Info) error) error {
	err := s.inner.List(ctx, prefix, func(info objstore.Info) error {
		s.shown.Add(1)
		return fn(info)
	})
	s.count(&s.lists, err)
	return err
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	err := s.inner.Delete(ctx, name)
	s.count(&s.deletes, err)
	return err
}

// String implements objstore.Store.
func (s *Store) String() string { return s.inner.String() }

// Close implements objstore.Store.
func (s *Store) Close() error { return s.inner.Close() }

type reader struct {
	io.ReadCloser
	store  *Store
	broken bool
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.store.getBytes.Add(int64(n))
	if err != nil && err != io.EOF && !r.broken {
		r.broken = true
		r.store.failures.Add(1)
	}
	return n, err
}
