// SPDX-License-Identifier: Apache-2.0

package objtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// List is a hint only, but a store at rest shows what it has.
func testList(t *testing.T, s objstore.Store) {
	wantList(t, s, "")
	wantList(t, s, "nothing/here/")
	names := []string{
		"config", "keys/a", "keys/b", "packs/0000000001/000000-00", "packs/0000000001/000001-11",
		"packs/0000000012/000000-22", "packs-other", "points/x/1",
	}
	for i, n := range names {
		mustPut(t, s, n, Bytes(uint64(i), i))
	}
	wantList(t, s, "", names...)
	wantList(t, s, "keys/", "keys/a", "keys/b")
	wantList(t, s, "keys/b", "keys/b")
	wantList(t, s, "packs/00000000", names[3:6]...)
	wantList(t, s, "packs/0000000001/", names[3:5]...)
	wantList(t, s, "packs", names[3:7]...)
	wantList(t, s, "packs/0000000001/000001-11/")
	wantList(t, s, "c", "config")
	sizes := map[string]int64{}
	err := s.List(t.Context(), "", func(i objstore.Info) error {
		sizes[i.Name] = i.Size
		if i.Modified.IsZero() {
			t.Errorf("list: %s has no time", i.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		if sizes[n] != int64(i) {
			t.Errorf("list: %s has %d bytes, want %d", n, sizes[n], i)
		}
	}
}

// An error of the callback ends the list and comes back as it is.
func testListStops(t *testing.T, s objstore.Store) {
	for i := range 5 {
		mustPut(t, s, fmt.Sprintf("l/%d", i), nil)
	}
	enough := errors.New("enough")
	calls := 0
	err := s.List(t.Context(), "l/", func(objstore.Info) error {
		if calls++; calls == 2 {
			return enough
		}
		return nil
	})
	if err != enough || calls != 2 { //nolint:errorlint // unwrapped is the point
		t.Errorf("list: %v after %d calls, want the callback's own error after 2", err, calls)
	}
}

func testDelete(t *testing.T, s objstore.Store) {
	mustPut(t, s, "d/1", []byte("one"))
	mustPut(t, s, "d/2", []byte("two"))
	for range 2 { // the second time it is absent, and that is no error
		if err := s.Delete(t.Context(), "d/1"); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	for _, name := range []string{"d", "none", "none/at/all", "d/2/x"} {
		if err := s.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	_, err := s.Stat(t.Context(), "d/1")
	wantError(t, "stat of a deleted object", err, objstore.ErrNotExist, objstore.NotExist)
	wantList(t, s, "", "d/2")
	mustRead(t, s, "d/2", []byte("two"))
	mustPut(t, s, "d/1", []byte("again"))
	mustRead(t, s, "d/1", []byte("again"))
}

func testOddNames(t *testing.T, s objstore.Store) {
	names := []string{
		"a b", "a+b", "a%20b", "%2e%2e", "a%2Fb", "ä/ö/ü", "日本/語", "a=b&c?d#e", "..a/b..", "...", "~", ".hidden", "-rf",
		"quote\"s'`", "<a>&amp;", "star*[x]?", "semi;colon:at@", "Case", "case", "tmpx/y", "x/tmp/y", "trailing.",
		strings.Repeat("n", 255), strings.Repeat("d/", 50) + "deep",
	}
	for i, n := range names {
		mustPut(t, s, n, Bytes(uint64(i), 10+i))
	}
	for i, n := range names {
		mustRead(t, s, n, Bytes(uint64(i), 10+i))
	}
	wantList(t, s, "", names...)
	for _, n := range names {
		wantList(t, s, n, n)
		if err := s.Delete(t.Context(), n); err != nil {
			t.Errorf("delete %q: %v", n, err)
		}
	}
	wantList(t, s, "")
}

// Names that could mean another object, or leave the store, are refused.
func testBadNames(t *testing.T, s objstore.Store) {
	for _, n := range []string{
		"", "/", "/abs", "a/", "a//b", ".", "..", "../up", "a/../b", "a/./b", "nul\x00", "new\nline", "del\x7f", "back\\slash",
		"\xff", "tmp", "tmp/x", strings.Repeat("n", 256), strings.Repeat("d/", 500) + "x",
	} {
		wantError(t, fmt.Sprintf("put %.20q", n), s.Put(t.Context(), n, nil), nil, objstore.Permanent)
		_, err := s.Get(t.Context(), n, 0, -1)
		wantError(t, fmt.Sprintf("get %.20q", n), err, nil, objstore.Permanent)
		_, err = s.Stat(t.Context(), n)
		wantError(t, fmt.Sprintf("stat %.20q", n), err, nil, objstore.Permanent)
		wantError(t, fmt.Sprintf("delete %.20q", n), s.Delete(t.Context(), n), nil, objstore.Permanent)
	}
	wantList(t, s, "")
	wantList(t, s, "../")
	wantList(t, s, "/")
}

// A call with an ended context does nothing and says so.
func testCanceled(t *testing.T, s objstore.Store) {
	mustPut(t, s, "there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check := func(what string, err error) {
		t.Helper()
		wantError(t, what, err, context.Canceled, objstore.Canceled)
	}
	check("put", s.Put(ctx, "new", objstore.Body{Bytes(1, 1<<20)}))
	check("delete", s.Delete(ctx, "there"))
	check("list", s.List(ctx, "", func(objstore.Info) error { return nil }))
	_, err := s.Stat(ctx, "there")
	check("stat", err)
	_, err = s.Get(ctx, "there", 0, -1)
	check("get", err)
	wantList(t, s, "", "there")
}

// A reader is bound to the context of its Get.
func testCanceledReader(t *testing.T, s objstore.Store) {
	mustPut(t, s, "big", Bytes(7, 16<<20))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := s.Get(ctx, "big", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.Copy(io.Discard, r)
	wantError(t, "read after cancel", err, context.Canceled, objstore.Canceled)
}

func testProbe(t *testing.T, s objstore.Store) {
	if err := objstore.Probe(t.Context(), s, "probe/"); err != nil {
		t.Errorf("probe: %v", err)
	}
	wantList(t, s, "")
}
