// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zeroStep bounds one request to the kernel, so that a cancelled context is seen between two.
const zeroStep = 256 << 20

// zeros is what is written where nothing cheaper works.
var zeros [1 << 20]byte

// zeroing is how a target makes ranges read as zeros: the first way that the target has not refused.
type zeroing struct {
	unit int64 // the ways work on multiples of it; the ends are written
	ways []*zeroWay
	skip func(f *os.File, off, n int64) bool // reads as zeros already
}

type zeroWay struct {
	do      func(f *os.File, off, n int64) error
	refused atomic.Bool
}

func fileZeroing() zeroing {
	return zeroing{unit: 1, ways: []*zeroWay{{do: punchHole}}, skip: isHole}
}

// deviceZeroing prefers the way that also gives space back to a thin device; the kernel does either of them
// only with the promise that zeros are read afterwards.
func deviceZeroing(block int64) zeroing {
	return zeroing{unit: max(PageSize, block), ways: []*zeroWay{{do: punchHole}, {do: zeroOut}}}
}

func punchHole(f *os.File, off, n int64) error {
	return control(f, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

func zeroOut(f *os.File, off, n int64) error {
	span := [2]uint64{uint64(off), uint64(n)}
	return control(f, func(fd int) error { return ioctlPtr(fd, unix.BLKZEROOUT, unsafe.Pointer(&span)) })
}

// isHole reports whether no data lies in the range, as in all of a fresh file. The file position that the
// question moves is used by nobody.
func isHole(f *os.File, off, n int64) bool {
	hole := false
	_ = control(f, func(fd int) error {
		data, err := unix.Seek(fd, off, unix.SEEK_DATA)
		hole = errors.Is(err, unix.ENXIO) || err == nil && data >= off+n
		return nil
	})
	return hole
}

// Zero makes n bytes at off read as zeros: holes stay, file data becomes a hole, a device is asked to forget
// or to write the zeros itself, and only where all of that is refused are zeros written. Not durable before Sync.
func (t *Target) Zero(ctx context.Context, off, n int64) error {
	if err := t.check(ctx, "zero", off, n); err != nil {
		return err
	}
	end := off + n
	first, last := roundUp(off, t.zero.unit), roundDown(end, t.zero.unit)
	if first >= last {
		return t.writeZeros(ctx, off, n)
	}
	if err := t.writeZeros(ctx, off, first-off); err != nil {
		return err
	}
	for at := first; at < last; at += zeroStep {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.zeroAligned(ctx, at, min(zeroStep, last-at)); err != nil {
			return err
		}
	}
	return t.writeZeros(ctx, last, end-last)
}

func (t *Target) zeroAligned(ctx context.Context, off, n int64) error {
	if t.zero.skip != nil && t.zero.skip(t.f, off, n) {
		return nil
	}
	for _, way := range t.zero.ways {
		if way.refused.Load() {
			continue
		}
		err := way.do(t.f, off, n)
		if err == nil {
			return nil
		}
		if !refusal(err) {
			return fmt.Errorf("zero %s at %d: %w", t.path, off, err)
		}
		// A device that is busy refuses this time only.
		if !errors.Is(err, unix.EBUSY) {
			way.refused.Store(true)
		}
	}
	return t.writeZeros(ctx, off, n)
}

// refusal tells "not this way" from a failure of the medium.
func refusal(err error) bool {
	for _, errno := range []unix.Errno{
		unix.EOPNOTSUPP, unix.ENOSYS, unix.ENOTTY, unix.EINVAL, unix.EPERM, unix.EREMOTEIO, unix.EBUSY, unix.ENODEV,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (t *Target) writeZeros(ctx context.Context, off, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := t.write(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off, n = off+int64(done), n-int64(done)
	}
	return nil
}
