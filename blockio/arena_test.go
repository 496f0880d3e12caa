// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newArena(t *testing.T, size, count int) *Arena {
	t.Helper()
	a, err := NewArena(size, count)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestArenaBuffersAreAlignedAndApart(t *testing.T) {
	a := newArena(t, 5000, 4)
	var bufs []*Buf
	for i := range 4 {
		b, err := a.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p := b.Bytes()
		if len(p) != 5000 {
			t.Fatalf("buffer %d has %d bytes, want 5000", i, len(p))
		}
		if addr := uintptr(unsafe.Pointer(&p[0])); addr%PageSize != 0 {
			t.Fatalf("buffer %d begins at %#x, not at a page", i, addr)
		}
		p = p[:cap(p)]
		for j := range p {
			p[j] = byte(i + 1)
		}
		bufs = append(bufs, b)
	}
	for i, b := range bufs {
		for _, c := range b.Bytes() {
			if c != byte(i+1) {
				t.Fatalf("buffer %d shares memory: holds %d", i, c)
			}
		}
		if err := b.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestArenaRefusesSenselessSizes(t *testing.T) {
	const maxInt = int(^uint(0) >> 1)
	for _, c := range [][2]int{{0, 1}, {1, 0}, {-1, 1}, {4096, -1}, {maxInt, 1}, {1 << 40, 1 << 40}} {
		if a, err := NewArena(c[0], c[1]); err == nil {
			t.Errorf("NewArena(%d, %d) succeeded with %d bytes", c[0], c[1], a.Size())
		}
	}
}

func TestArenaGetWaits(t *testing.T) {
	a := newArena(t, PageSize, 1)
	first, err := a.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Get(cancelled); !errors.Is(err, context.Canceled) {
		t.Fatalf("Get with a cancelled context: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		b, err := a.Get(t.Context())
		if err == nil {
			err = b.Release()
		}
		got <- err
	}()
	if n := a.InUse(); n != 1 {
		t.Fatalf("%d buffers in use, want 1", n)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestArenaCloseWakesWaitersAndUnmapsLast(t *testing.T) {
	a := newArena(t, PageSize, 1)
	b, err := a.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := a.Get(t.Context())
		got <- err
	}()
	if err := a.Close(); err == nil {
		t.Fatal("Close did not report the buffer that is out")
	}
	if err := <-got; !errors.Is(err, ErrArenaClosed) {
		t.Fatalf("the waiter got %v", err)
	}
	b.Bytes()[0] = 1 // still mapped
	if a.mem == nil {
		t.Fatal("unmapped under a holder")
	}
	if err := b.Release(); err != nil {
		t.Fatal(err)
	}
	if a.mem != nil {
		t.Fatal("not unmapped by the last Release")
	}
	if err := a.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
}

func TestArenaDoubleRelease(t *testing.T) {
	a := newArena(t, PageSize, 1)
	stale, err := a.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stale.Release(); err != nil {
		t.Fatal(err)
	}
	if stale.Bytes() != nil {
		t.Error("a released Buf still shows its memory")
	}
	next, err := a.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stale.Release(); !errors.Is(err, ErrDoubleRelease) {
		t.Errorf("second Release: %v", err)
	}
	if err := stale.Retain(); !errors.Is(err, ErrDoubleRelease) {
		t.Errorf("Retain after Release: %v", err)
	}
	if n := a.InUse(); n != 1 || next.Bytes() == nil {
		t.Errorf("the stale handle took the buffer from its next holder (%d in use)", n)
	}
	if err := next.Release(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); !errors.Is(err, ErrDoubleRelease) || !errors.Is(a.Err(), ErrDoubleRelease) {
		t.Errorf("Close = %v, Err = %v: the breach is not remembered", err, a.Err())
	}
}

// Every holder stamps its buffer and finds the stamp again: no buffer is ever lent twice.
func TestArenaManyHolders(t *testing.T) {
	a := newArena(t, PageSize, 3)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for range 500 {
				b, err := a.Get(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				p := b.Bytes()
				for i := range p {
					p[i] = byte(w)
				}
				extra := r.IntN(3)
				var holders sync.WaitGroup
				for range extra {
					if err := b.Retain(); err != nil {
						t.Error(err)
					}
					holders.Go(func() {
						if q := b.Bytes(); q[0] != byte(w) || q[len(q)-1] != byte(w) {
							t.Errorf("holder %d sees the stamp of %d", w, q[0])
						}
						if err := b.Release(); err != nil {
							t.Error(err)
						}
					})
				}
				if err := b.Release(); err != nil {
					t.Error(err)
				}
				holders.Wait()
			}
		})
	}
	wg.Wait()
	if n := a.InUse(); n != 0 {
		t.Errorf("%d buffers did not come home", n)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
