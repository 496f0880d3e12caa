// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// PageSize is the alignment of every buffer and the unit to which unreadable ranges are narrowed.
const PageSize = 4096

// Arena is a fixed number of equal buffers in one anonymous mapping outside the Go heap (I6). It is the
// memory ceiling of a pipeline: whoever wants to read waits in Get until somebody releases.
// All methods are safe for concurrent use.
type Arena struct {
	bufSize, stride int
	free            chan int // slots that are home
	closing         chan struct{}

	mu       sync.Mutex
	mem      []byte // nil once unmapped
	count    int
	home     int
	closed   bool
	misuse   error // first breach of the contract of Buf
	unmapErr error
}

// Buf is one holding of a buffer, begun by Get with one reference. A Buf is never reused: a stale handle
// can't touch the buffer's next holder.
type Buf struct {
	arena *Arena
	mem   []byte
	slot  int
	refs  atomic.Int32
}

// NewArena maps count buffers of bufSize bytes each. The content of a buffer that Get returns is arbitrary.
func NewArena(bufSize, count int) (*Arena, error) {
	if bufSize <= 0 || count <= 0 {
		return nil, fmt.Errorf("map %d buffers of %d bytes: both must be positive", count, bufSize)
	}
	const maxInt = int(^uint(0) >> 1)
	if bufSize > maxInt-PageSize {
		return nil, fmt.Errorf("map %d buffers of %d bytes: too large", count, bufSize)
	}
	stride := (bufSize + PageSize - 1) &^ (PageSize - 1)
	if stride > maxInt/count {
		return nil, fmt.Errorf("map %d buffers of %d bytes: too large", count, bufSize)
	}
	mem, err := unix.Mmap(-1, 0, stride*count, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d buffers of %d bytes: %w", count, bufSize, err)
	}
	// Volume content has no place in a core dump; an old kernel that can't exclude it is no reason to fail.
	_ = unix.Madvise(mem, unix.MADV_DONTDUMP)
	a := &Arena{
		bufSize: bufSize, stride: stride, free: make(chan int, count), closing: make(chan struct{}),
		mem: mem, count: count, home: count,
	}
	for i := range count {
		a.free <- i
	}
	return a, nil
}

// BufSize is the length of every buffer.
func (a *Arena) BufSize() int { return a.bufSize }

// Size is the number of bytes mapped.
func (a *Arena) Size() int64 { return int64(a.stride) * int64(a.count) }

// InUse is the number of buffers that are not home.
func (a *Arena) InUse() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count - a.home
}

// Get waits for a free buffer. It returns the context's error, or ErrArenaClosed after Close.
func (a *Arena) Get(ctx context.Context) (*Buf, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case slot := <-a.free:
		return a.lend(slot)
	case <-a.closing:
		return nil, ErrArenaClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a *Arena) lend(slot int) (*Buf, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed { // the select may have preferred the buffer; it stays home
		a.free <- slot
		return nil, ErrArenaClosed
	}
	a.home--
	start := slot * a.stride
	b := &Buf{arena: a, slot: slot, mem: a.mem[start : start+a.bufSize : start+a.stride]}
	b.refs.Store(1)
	return b, nil
}

// Close ends the lending. The memory is unmapped at once when every buffer is home, otherwise by the last
// Release; buffers still out are reported as an error, and so is any release too many.
func (a *Arena) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		close(a.closing)
	}
	if out := a.count - a.home; out > 0 {
		return errors.Join(a.misuse, fmt.Errorf("close buffer arena: %d buffers are still in use", out))
	}
	a.unmap()
	return errors.Join(a.misuse, a.unmapErr)
}

// Err is the first breach of the contract of Buf, nil as long as there was none.
func (a *Arena) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.misuse
}

// unmap gives the memory back; callers hold mu.
func (a *Arena) unmap() {
	if a.mem == nil {
		return
	}
	if err := unix.Munmap(a.mem); err != nil {
		a.unmapErr = fmt.Errorf("unmap buffers: %w", err)
	}
	a.mem = nil
}

func (a *Arena) takeHome(slot int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.home++
	if a.closed && a.home == a.count {
		a.unmap()
		return
	}
	a.free <- slot // never blocks: as many places as slots
}

func (a *Arena) blame(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.misuse == nil {
		a.misuse = err
	}
	return err
}

// Bytes is the buffer, BufSize long and page-aligned, or nil when the Buf is no longer held. The slice must
// not be used after the last Release: the memory belongs to somebody else then, or to nobody.
func (b *Buf) Bytes() []byte {
	if b.refs.Load() <= 0 {
		return nil
	}
	return b.mem
}

// Retain adds a holder: one more Release is needed. Only somebody who holds the Buf may retain it.
func (b *Buf) Retain() error {
	for {
		n := b.refs.Load()
		if n <= 0 {
			return b.arena.blame(fmt.Errorf("retain buffer %d: %w", b.slot, ErrDoubleRelease))
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// Release gives up one holding; the last one sends the buffer home. A release too many harms nobody: it is
// returned here and remembered for Arena.Err and Arena.Close.
func (b *Buf) Release() error {
	for {
		n := b.refs.Load()
		if n <= 0 {
			return b.arena.blame(fmt.Errorf("release buffer %d: %w", b.slot, ErrDoubleRelease))
		}
		if !b.refs.CompareAndSwap(n, n-1) {
			continue
		}
		if n == 1 {
			b.arena.takeHome(b.slot)
		}
		return nil
	}
}
