// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// Causes of the errors that a script makes.
var (
	ErrInjected = errors.New("injected fault")
	ErrCrashed  = errors.New("injected crash")
)

// Store follows a script. It is safe for concurrent use; calls are counted in
// the order in which they come.
type Store struct {
	inner objstore.Store
	rules []rule

	mu      sync.Mutex
	random  *rand.Rand
	calls   int64
	seen    []int64 // per rule
	fired   []int64
	crashed bool
}

// Wrap returns a store around s that follows the script.
func Wrap(s objstore.Store, script string) (*Store, error) {
	rules, seed, err := parse(script)
	if err != nil {
		return nil, err
	}
	return &Store{
		inner: s, rules: rules, random: rand.New(rand.NewPCG(seed, 0)),
		seen: make([]int64, len(rules)), fired: make([]int64, len(rules)),
	}, nil
}

// Calls returns how many calls have come: to crash a second run at each of them.
func (s *Store) Calls() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Fired returns how often each rule fired: a test that injects faults should
// know that they happened.
func (s *Store) Fired() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.fired)
}

// Crashed tells whether a crash rule fired.
func (s *Store) Crashed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crashed
}

// Unwrap returns the store within, as it would be found after a crash.
func (s *Store) Unwrap() objstore.Store { return s.inner }

// choose counts a call and returns the rule that acts on it, if any.
func (s *Store) choose(op, name string) (rule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.crashed {
		return rule{}, &objstore.Error{Op: op, Name: name, Err: ErrCrashed}
	}
	var chosen rule
	found := false
	for i, r := range s.rules {
		if r.op != "any" && r.op != op || !matchGlob(r.glob, name) {
			continue
		}
		s.seen[i]++
		if found || !s.fires(i) {
			continue
		}
		found, chosen = true, r
		s.fired[i]++
		s.crashed = r.action == crash || r.action == crashAfter
	}
	return chosen, nil
}

func (s *Store) fires(i int) bool {
	r, n := s.rules[i], s.seen[i]
	return (r.nth == 0 || n == r.nth) && n >= r.from && (r.every == 0 || n%r.every == 0) &&
		(r.times == 0 || s.fired[i] < r.times) && (r.p < 0 || s.random.Float64() < r.p)
}

// before does what comes before a call; call is made unless it returns an error.
func (s *Store) before(ctx context.Context, op, name string) (rule, error) {
	r, err := s.choose(op, name)
	if err != nil {
		return r, err
	}
	if r.delay > 0 {
		timer := time.NewTimer(r.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return r, objstore.ContextError(ctx, op, name)
		}
	}
	if r.action == fail {
		return r, &objstore.Error{Op: op, Name: name, Class: r.class, Err: ErrInjected}
	}
	if r.action == crash {
		return r, &objstore.Error{Op: op, Name: name, Err: ErrCrashed}
	}
	return r, nil
}

// after returns what the caller hears of a call that was made.
func after(r rule, op, name string, err error) error {
	switch {
	case r.action == crashAfter:
		return &objstore.Error{Op: op, Name: name, Err: ErrCrashed}
	case err != nil:
		return err
	case r.action == lost:
		return &objstore.Error{Op: op, Name: name, Class: objstore.Retryable, Err: ErrInjected}
	case r.action == taken:
		return &objstore.Error{Op: op, Name: name, Class: objstore.Exists, Err: ErrInjected}
	}
	return nil
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, name string, body objstore.Body) error {
	r, err := s.before(ctx, "put", name)
	if err != nil {
		return err
	}
	if r.action == cut || r.action == flip {
		body = objstore.Body{damage(r, body.Bytes())}
	}
	return after(r, "put", name, s.inner.Put(ctx, name, body))
}

func damage(r rule, data []byte) []byte {
	switch {
	case r.at >= int64(len(data)):
	case r.action == cut:
		return data[:r.at]
	default:
		data[r.at] ^= 1
	}
	return data
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	r, err := s.before(ctx, "get", name)
	if err != nil {
		return nil, err
	}
	body, err := s.inner.Get(ctx, name, off, n)
	if err := after(r, "get", name, err); err != nil {
		if body != nil {
			_ = body.Close()
		}
		return nil, err
	}
	if r.action == cut || r.action == flip {
		return &reader{ReadCloser: body, name: name, rule: r}, nil
	}
	return body, nil
}

// reader breaks or falsifies a body.
type reader struct {
	io.ReadCloser
	name string
	rule rule
	pos  int64
}

func (b *reader) Read(p []byte) (int, error) {
	left := b.rule.at - b.pos
	if b.rule.action == cut {
		if left <= 0 {
			return 0, &objstore.Error{Op: "get", Name: b.name, Class: objstore.Retryable, Err: io.ErrUnexpectedEOF}
		}
		p = p[:min(int64(len(p)), left)]
	}
	n, err := b.ReadCloser.Read(p)
	if b.rule.action == flip && left >= 0 && left < int64(n) {
		p[left] ^= 1
	}
	b.pos += int64(n)
	return n, err
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, name string) (objstore.Info, error) {
	r, err := s.before(ctx, "stat", name)
	if err != nil {
		return objstore.Info{}, err
	}
	info, err := s.inner.Stat(ctx, name)
	if err := after(r, "stat", name, err); err != nil {
		return objstore.Info{}, err
	}
	return info, nil
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix string, fn func(objstore.Info) error) error {
	r, err := s.before(ctx, "list", prefix)
	if err != nil {
		return err
	}
	return after(r, "list", prefix, s.inner.List(ctx, prefix, fn))
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	r, err := s.before(ctx, "delete", name)
	if err != nil {
		return err
	}
	return after(r, "delete", name, s.inner.Delete(ctx, name))
}

// String implements objstore.Store.
func (s *Store) String() string { return s.inner.String() }

// Close implements objstore.Store.
func (s *Store) Close() error { return s.inner.Close() }
