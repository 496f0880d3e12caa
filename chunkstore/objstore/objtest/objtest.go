// SPDX-License-Identifier: Apache-2.0

package objtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// Run checks a store. open returns a store that is empty as far as the test
// can see; it is called once per case, and the store closed by the suite.
func Run(t *testing.T, open func(t *testing.T) objstore.Store) {
	cases := []struct {
		name string
		run  func(*testing.T, objstore.Store)
	}{
		{"CreateAndReadBack", testCreate},
		{"Ranges", testRanges},
		{"BeyondTheEnd", testBeyond},
		{"Absent", testAbsent},
		{"OverwriteRefused", testOverwrite},
		{"RacingCreates", testRace},
		{"List", testList},
		{"ListStops", testListStops},
		{"Delete", testDelete},
		{"OddNames", testOddNames},
		{"BadNames", testBadNames},
		{"Large", testLarge},
		{"ZeroLength", testZeroLength},
		{"Canceled", testCanceled},
		{"CanceledReader", testCanceledReader},
		{"Probe", testProbe},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			c.run(t, s)
		})
	}
}

// Bytes returns n bytes that depend on the seed and don't compress.
func Bytes(seed uint64, n int) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p) // never fails
	return p
}

// split cuts data into a body of pieces of odd sizes, some empty.
func split(data []byte) objstore.Body {
	body := objstore.Body{nil}
	for n := 1; len(data) > 0; n = n*2 + 1 {
		n = min(n, len(data))
		body = append(body, data[:n], nil)
		data = data[n:]
	}
	return body
}

func mustPut(t *testing.T, s objstore.Store, name string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, split(data)); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

func mustRead(t *testing.T, s objstore.Store, name string, want []byte) {
	t.Helper()
	got, err := read(t.Context(), s, name, 0, -1)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("read %s: %d bytes that differ from the %d stored", name, len(got), len(want))
	}
}

func read(ctx context.Context, s objstore.Store, name string, off, n int64) ([]byte, error) {
	r, err := s.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// wantError checks the sentinel, the class and the type of an error (I7).
func wantError(t *testing.T, what string, err, sentinel error, class objstore.Class) {
	t.Helper()
	var e *objstore.Error
	switch {
	case err == nil:
		t.Errorf("%s: no error, want %v", what, sentinel)
	case !errors.As(err, &e):
		t.Errorf("%s: %v is no *objstore.Error", what, err)
	case sentinel != nil && !errors.Is(err, sentinel):
		t.Errorf("%s: %v does not match %q", what, err, sentinel)
	case objstore.ClassOf(err) != class:
		t.Errorf("%s: %v is of class %s, want %s", what, err, objstore.ClassOf(err), class)
	}
}

func list(t *testing.T, s objstore.Store, prefix string) []string {
	t.Helper()
	names := []string{}
	err := s.List(t.Context(), prefix, func(i objstore.Info) error {
		names = append(names, i.Name)
		return nil
	})
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	slices.Sort(names)
	return names
}

func wantList(t *testing.T, s objstore.Store, prefix string, want ...string) {
	t.Helper()
	want = append([]string{}, want...)
	slices.Sort(want)
	if d := cmp.Diff(want, list(t, s, prefix)); d != "" {
		t.Errorf("list %q (-want +got):\n%s", prefix, d)
	}
}
