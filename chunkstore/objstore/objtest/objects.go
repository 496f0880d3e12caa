// SPDX-License-Identifier: Apache-2.0

package objtest

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// I2, I4: what was put is there, whole, and described.
func testCreate(t *testing.T, s objstore.Store) {
	data := Bytes(1, 100_000)
	before := time.Now().Add(-24 * time.Hour)
	mustPut(t, s, "packs/0000000001/000001-ab", data)
	mustRead(t, s, "packs/0000000001/000001-ab", data)
	info, err := s.Stat(t.Context(), "packs/0000000001/000001-ab")
	if err != nil {
		t.Fatal(err)
	}
	if info.Name != "packs/0000000001/000001-ab" || info.Size != int64(len(data)) {
		t.Errorf("stat: %+v, want %d bytes", info, len(data))
	}
	if info.Modified.Before(before) {
		t.Errorf("stat: modified %s, which is not now", info.Modified)
	}
	if s.String() == "" {
		t.Error("the store has no name")
	}
}

// I5: every range of an object, to the byte.
func testRanges(t *testing.T, s objstore.Store) {
	data := Bytes(2, 10_000)
	mustPut(t, s, "r", data)
	size := int64(len(data))
	for _, r := range [][2]int64{{0, 1}, {0, size}, {1, size - 1}, {size - 1, 1}, {4096, 4096}, {0, 0}, {size, 0}, {17, 0}, {0, -1}, {1, -1}, {size - 1, -1}, {size, -1}} {
		off, n := r[0], r[1]
		want := data[off:]
		if n >= 0 {
			want = want[:n]
		}
		got, err := read(t.Context(), s, "r", off, n)
		if err != nil {
			t.Errorf("get %d+%d: %v", off, n, err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("get %d+%d: %d bytes, not the %d expected", off, n, len(got), len(want))
		}
	}
}

// I5: a range past the end is an error, at Get or at Read, never short.
func testBeyond(t *testing.T, s objstore.Store) {
	mustPut(t, s, "short", Bytes(3, 1000))
	for _, r := range [][2]int64{{0, 1001}, {999, 2}, {1000, 1}, {1001, 0}, {1001, -1}, {5000, 10}} {
		_, err := read(t.Context(), s, "short", r[0], r[1])
		wantError(t, fmt.Sprintf("get %d+%d of 1000", r[0], r[1]), err, objstore.ErrShort, objstore.Permanent)
	}
	for _, r := range [][2]int64{{-1, 10}, {1 << 62, 1 << 62}} {
		_, err := read(t.Context(), s, "short", r[0], r[1])
		wantError(t, fmt.Sprintf("get %d+%d", r[0], r[1]), err, nil, objstore.Permanent)
	}
}

// I6: absence has one error; parts of names are no objects.
func testAbsent(t *testing.T, s objstore.Store) {
	mustPut(t, s, "a/b/c", []byte("x"))
	for _, name := range []string{"none", "a", "a/b", "a/b/d", "x/y/z", "a/b/c/d"} {
		_, err := s.Stat(t.Context(), name)
		wantError(t, "stat "+name, err, objstore.ErrNotExist, objstore.NotExist)
		for _, n := range []int64{-1, 0, 1} {
			_, err = read(t.Context(), s, name, 0, n)
			wantError(t, fmt.Sprintf("get %s, %d bytes", name, n), err, objstore.ErrNotExist, objstore.NotExist)
		}
	}
}

// I1: a second create changes nothing, also one of the same or of no bytes.
func testOverwrite(t *testing.T, s objstore.Store) {
	data := Bytes(4, 5000)
	mustPut(t, s, "once", data)
	for _, again := range [][]byte{Bytes(5, 5000), Bytes(5, 9000), data, nil} {
		err := s.Put(t.Context(), "once", objstore.Body{again})
		wantError(t, "second put", err, objstore.ErrExists, objstore.Exists)
		mustRead(t, s, "once", data)
	}
	wantList(t, s, "", "once")
}

// I1: of many racing creates exactly one wins, and it is the winner's bytes
// that are there, all of them.
func testRace(t *testing.T, s objstore.Store) {
	const writers = 32
	for round := range 3 {
		name := fmt.Sprintf("race/%d", round)
		var wins atomic.Int32
		var winner atomic.Uint64
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range uint64(writers) {
			wg.Go(func() {
				data := Bytes(100+i, 20_000+int(i))
				<-start
				err := s.Put(t.Context(), name, split(data))
				if err == nil {
					wins.Add(1)
					winner.Store(i)
					return
				}
				wantError(t, "racing put", err, objstore.ErrExists, objstore.Exists)
			})
		}
		close(start)
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%d of %d racing creates succeeded, want one", wins.Load(), writers)
		}
		i := winner.Load()
		mustRead(t, s, name, Bytes(100+i, 20_000+int(i)))
	}
}

// I2, I5 at the size of a pack.
func testLarge(t *testing.T, s objstore.Store) {
	data := Bytes(6, 40<<20+13)
	var body objstore.Body
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 64<<10+40)
		body, rest = append(body, rest[:n]), rest[n:]
	}
	if err := s.Put(t.Context(), "large", body); err != nil {
		t.Fatal(err)
	}
	mustRead(t, s, "large", data)
	got, err := objstore.ReadRange(t.Context(), s, "large", 33<<20+1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data[33<<20+1:][:1<<20]) {
		t.Error("a range of a large object differs from what was stored")
	}
	same, err := objstore.Same(t.Context(), s, "large", body)
	if err != nil || !same {
		t.Errorf("Same of what was stored: %v, %v", same, err)
	}
	data[20<<20] ^= 1 // the body's memory is ours again
	if same, err = objstore.Same(t.Context(), s, "large", body); err != nil || same {
		t.Errorf("Same of other bytes: %v, %v", same, err)
	}
}

func testZeroLength(t *testing.T, s objstore.Store) {
	for i, body := range []objstore.Body{nil, {}, {nil, {}}} {
		name := fmt.Sprintf("empty/%d", i)
		if err := s.Put(t.Context(), name, body); err != nil {
			t.Fatal(err)
		}
		mustRead(t, s, name, nil)
		if info, err := s.Stat(t.Context(), name); err != nil || info.Size != 0 {
			t.Errorf("stat: %+v, %v", info, err)
		}
		wantError(t, "second put", s.Put(t.Context(), name, objstore.Body{[]byte("x")}), objstore.ErrExists, objstore.Exists)
		_, err := read(t.Context(), s, name, 0, 1)
		wantError(t, "get a byte of nothing", err, objstore.ErrShort, objstore.Permanent)
	}
}
