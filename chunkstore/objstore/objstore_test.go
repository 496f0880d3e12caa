// SPDX-License-Identifier: Apache-2.0

package objstore_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/fault"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// A body reads like its pieces joined, wherever it is begun anew.
func TestBodyReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := objstore.Body(rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 20), 0, 10).Draw(t, "body"))
		whole := body.Bytes()
		if body.Len() != int64(len(whole)) {
			t.Fatalf("Len is %d of %d", body.Len(), len(whole))
		}
		r := body.NewReader()
		for range 5 {
			at := rapid.IntRange(0, len(whole)).Draw(t, "at")
			if n, err := r.Seek(int64(at), io.SeekStart); err != nil || n != int64(at) {
				t.Fatalf("seek to %d: %d, %v", at, n, err)
			}
			n := rapid.IntRange(0, len(whole)-at).Draw(t, "n")
			p := make([]byte, n)
			if _, err := io.ReadFull(r, p); err != nil || !bytes.Equal(p, whole[at:at+n]) {
				t.Fatalf("read %d at %d: %x, %v", n, at, p, err)
			}
			if pos, err := r.Seek(0, io.SeekCurrent); err != nil || pos != int64(at+n) {
				t.Fatalf("position %d, %v, want %d", pos, err, at+n)
			}
		}
		if end, err := r.Seek(0, io.SeekEnd); err != nil || end != int64(len(whole)) {
			t.Fatalf("end at %d, %v", end, err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("read at the end: %d, %v", n, err)
		}
		for _, bad := range []int64{-1, int64(len(whole)) + 1} {
			if _, err := r.Seek(bad, io.SeekStart); err == nil {
				t.Fatalf("seek to %d of %d", bad, len(whole))
			}
		}
		if _, err := r.Seek(0, 7); err == nil {
			t.Fatal("unknown whence")
		}
	})
	body := objstore.Body{[]byte("abc"), nil, []byte("de")}
	if err := iotest.TestReader(body.NewReader(), []byte("abcde")); err != nil {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	sentinels := []error{objstore.ErrNotExist, objstore.ErrExists, objstore.ErrFull, objstore.ErrDenied, objstore.ErrUnreachable}
	none := errors.New("matches no sentinel")
	tests := []struct {
		err  error
		text string
		is   error // the one sentinel, if any
	}{
		{&objstore.Error{Op: "get", Name: "a", Class: objstore.NotExist}, "get a: object does not exist", objstore.ErrNotExist},
		{&objstore.Error{Op: "put", Name: "a", Class: objstore.Exists}, "put a: object exists already", objstore.ErrExists},
		{&objstore.Error{Op: "open", Class: objstore.Full, Err: errors.New("no room")}, "open: no room", objstore.ErrFull},
		{&objstore.Error{Op: "get", Name: "a", Class: objstore.Denied}, "get a: access denied", objstore.ErrDenied},
		{&objstore.Error{Op: "get", Name: "a", Class: objstore.Unreachable}, "get a: store is unreachable", objstore.ErrUnreachable},
		{&objstore.Error{Op: "get", Name: "a", Class: objstore.Retryable}, "get a: retryable error", nil},
		{&objstore.Error{Op: "get", Name: "a", Err: io.ErrClosedPipe}, "get a: io: read/write on closed pipe", nil},
	}
	for _, tt := range tests {
		wrapped := fmt.Errorf("read index: %w", tt.err)
		if tt.err.Error() != tt.text {
			t.Errorf("%q, want %q", tt.err, tt.text)
		}
		for _, s := range sentinels {
			if errors.Is(wrapped, s) != errors.Is(cmp.Or(tt.is, none), s) {
				t.Errorf("%v matches %v: %v", tt.err, s, errors.Is(wrapped, s))
			}
		}
		var e *objstore.Error
		if errors.As(tt.err, &e); objstore.ClassOf(wrapped) != e.Class {
			t.Errorf("%v is of class %s", tt.err, objstore.ClassOf(wrapped))
		}
	}
	for err, want := range map[error]objstore.Class{
		context.Canceled: objstore.Canceled, context.DeadlineExceeded: objstore.Canceled, io.EOF: objstore.Permanent,
	} {
		if got := objstore.ClassOf(err); got != want {
			t.Errorf("%v is of class %s", err, got)
		}
	}
	if s := objstore.Class(99).String(); s != "class 99" {
		t.Errorf("unknown class: %s", s)
	}
}

func TestReadLimits(t *testing.T) {
	ctx := t.Context()
	s := mem.New()
	if err := s.Put(ctx, "x", objstore.Body{[]byte("0123456789")}); err != nil {
		t.Fatal(err)
	}
	if got, err := objstore.ReadAll(ctx, s, "x", 10); err != nil || string(got) != "0123456789" {
		t.Errorf("at the limit: %q, %v", got, err)
	}
	if _, err := objstore.ReadAll(ctx, s, "x", 9); err == nil || !strings.Contains(err.Error(), "larger than the 9 bytes") {
		t.Errorf("above the limit: %v", err)
	}
	if got, err := objstore.ReadRange(ctx, s, "x", 3, 4); err != nil || string(got) != "3456" {
		t.Errorf("range: %q, %v", got, err)
	}
	if _, err := objstore.ReadRange(ctx, s, "x", 3, -1); err == nil {
		t.Error("a negative length is accepted")
	}
	if _, err := objstore.ReadRange(ctx, s, "x", 3, 8); !errors.Is(err, objstore.ErrShort) {
		t.Errorf("past the end: %v", err)
	}
}

// I5 of a stream that is too short, too long, or breaks.
func TestExactReader(t *testing.T) {
	read := func(r io.Reader, n int64) (string, error) {
		got, err := io.ReadAll(objstore.ExactReader("x", io.NopCloser(r), n, func(err error) error {
			return &objstore.Error{Op: "get", Name: "x", Class: objstore.Unreachable, Err: err}
		}))
		return string(got), err
	}
	if got, err := read(strings.NewReader("0123456789"), 4); got != "0123" || err != nil {
		t.Errorf("longer: %q, %v", got, err)
	}
	got, err := read(iotest.DataErrReader(strings.NewReader("012")), 4)
	if got != "012" || objstore.ClassOf(err) != objstore.Retryable || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("shorter: %q, %v", got, err)
	}
	if got, err := read(iotest.DataErrReader(strings.NewReader("0123")), 4); got != "0123" || err != nil {
		t.Errorf("exact: %q, %v", got, err)
	}
	if _, err := read(iotest.ErrReader(io.ErrClosedPipe), 4); !errors.Is(err, objstore.ErrUnreachable) {
		t.Errorf("broken: %v", err)
	}
}

// overwriter is a store that breaks I1.
type overwriter struct {
	*mem.Store
	admit bool // says so
}

func (o overwriter) Put(ctx context.Context, name string, body objstore.Body) error {
	err := o.Store.Put(ctx, name, body)
	if errors.Is(err, objstore.ErrExists) {
		o.Tamper(name, func([]byte) []byte { return body.Bytes() })
		if !o.admit {
			return nil
		}
	}
	return err
}

// Probe finds out about stores that don't do what they say.
func TestProbe(t *testing.T) {
	faulty := func(script string) objstore.Store {
		s, err := fault.Wrap(mem.New(), script)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tests := []struct {
		store objstore.Store
		says  string
		class objstore.Class
	}{
		{overwriter{mem.New(), false}, "second create of one name succeed", objstore.Permanent},
		{overwriter{mem.New(), true}, "overwrites the object all the same", objstore.Permanent},
		{faulty("put * nth=1 flip=3"), "other bytes than were stored", objstore.Permanent},
		{faulty("get * nth=2 flip=1"), "ranged read", objstore.Permanent},
		{faulty("put * nth=1 error=denied"), "injected fault", objstore.Denied},
		{faulty("put * nth=2 error=unreachable"), "injected fault", objstore.Unreachable},
		{faulty("get * nth=1 error=full"), "injected fault", objstore.Full},
		{faulty("stat * error=retryable"), "injected fault", objstore.Retryable},
		{faulty("delete * error=full"), "injected fault", objstore.Full},
		{faulty("delete * error=denied"), "", 0},
	}
	for i, tt := range tests {
		err := objstore.Probe(t.Context(), tt.store, "p/")
		if tt.says == "" {
			if err != nil {
				t.Errorf("store %d: %v", i, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) || objstore.ClassOf(err) != tt.class {
			t.Errorf("store %d: %v, of class %s, want %q", i, err, objstore.ClassOf(err), tt.says)
		}
	}
}
