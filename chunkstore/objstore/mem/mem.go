// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// Store is an object store in memory. It is safe for concurrent use.
type Store struct {
	clock func() time.Time

	mu      sync.RWMutex
	objects map[string]object
}

type object struct {
	data     []byte // never changed in place
	modified time.Time
}

// New returns an empty store that stamps objects with the system's time.
func New() *Store {
	return NewAt(time.Now) //nolint:forbidigo // the default of a clock that can be given
}

// NewAt returns an empty store with a clock of its own.
func NewAt(clock func() time.Time) *Store {
	return &Store{clock: clock, objects: map[string]object{}}
}

// Clone returns a copy of the store as it is now, as a crash would leave it.
func (s *Store) Clone() *Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &Store{clock: s.clock, objects: maps.Clone(s.objects)}
}

// Objects returns the names of all objects, sorted.
func (s *Store) Objects() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// Tamper replaces an object's bytes by what fn makes of a copy of them, as a
// lying or rotting store would; it reports whether there is such an object.
func (s *Store) Tamper(name string, fn func(data []byte) []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[name]
	if !ok {
		return false
	}
	o.data = fn(bytes.Clone(o.data))
	s.objects[name] = o
	return true
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, name string, body objstore.Body) error {
	if err := begin(ctx, "put", name); err != nil {
		return err
	}
	data := body.Bytes()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[name]; ok {
		return &objstore.Error{Op: "put", Name: name, Class: objstore.Exists}
	}
	s.objects[name] = object{data: data, modified: s.clock()}
	return nil
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	o, err := s.find(ctx, "get", name)
	if err != nil {
		return nil, err
	}
	if err := objstore.CheckRange(name, off, n); err != nil {
		return nil, err
	}
	n, err = objstore.ClampRange(name, off, n, int64(len(o.data)))
	if err != nil {
		return nil, err
	}
	return &reader{ctx: ctx, name: name, r: bytes.NewReader(o.data[off : off+n])}, nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, name string) (objstore.Info, error) {
	o, err := s.find(ctx, "stat", name)
	if err != nil {
		return objstore.Info{}, err
	}
	return objstore.Info{Name: name, Size: int64(len(o.data)), Modified: o.modified}, nil
}

// List implements objstore.Store. It shows one moment's objects in order.
func (s *Store) List(ctx context.Context, prefix string, fn func(objstore.Info) error) error {
	for _, name := range s.Objects() {
		if err := objstore.ContextError(ctx, "list", prefix); err != nil {
			return err
		}
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		info, err := s.Stat(ctx, name)
		if objstore.ClassOf(err) == objstore.NotExist {
			continue
		}
		if err != nil {
			return err
		}
		if err := fn(info); err != nil {
			return err
		}
	}
	return objstore.ContextError(ctx, "list", prefix)
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := begin(ctx, "delete", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, name)
	return nil
}

// String implements objstore.Store.
func (s *Store) String() string { return "memory" }

// Close implements objstore.Store; the objects stay.
func (s *Store) Close() error { return nil }

func (s *Store) find(ctx context.Context, op, name string) (object, error) {
	if err := begin(ctx, op, name); err != nil {
		return object{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[name]
	if !ok {
		return object{}, &objstore.Error{Op: op, Name: name, Class: objstore.NotExist}
	}
	return o, nil
}

func begin(ctx context.Context, op, name string) error {
	if err := objstore.ContextError(ctx, op, name); err != nil {
		return err
	}
	return objstore.CheckName(op, name)
}

type reader struct {
	ctx  context.Context //nolint:containedctx // a reader is bound to the context it was opened with
	name string
	r    *bytes.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := objstore.ContextError(r.ctx, "get", r.name); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func (r *reader) Close() error { return nil }
