// SPDX-License-Identifier: Apache-2.0

package blockdiff

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoHoles says that a file cannot tell its holes from its data: it is a device, or its file system does not know.
// All of it is to be read.
var ErrNoHoles = errors.New("its holes cannot be told from its data")

// Allocated returns the ranges below size in which a regular file holds data; the others read as zeros. It moves the
// file's own offset, so nothing else may rely on that meanwhile (reads by ReadAt do not).
func Allocated(f *os.File, size int64) (Ranges, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look for holes: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("look for holes in %s: %w", f.Name(), ErrNoHoles)
	}
	var out Ranges
	for pos := int64(0); pos < size; {
		data, err := seek(f, pos, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return out, nil // no data from here to the end
		}
		if err != nil {
			return nil, err
		}
		if data >= size {
			break
		}
		hole, err := seek(f, data, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		if data < pos || hole <= data {
			return nil, fmt.Errorf("look for holes in %s: data at %d and a hole at %d were reported from offset %d", f.Name(), data, hole, pos)
		}
		out = out.appendRange(Range{data, min(hole, size) - data})
		out = out.bound()
		pos = hole
	}
	return out, nil
}

func seek(f *os.File, off int64, whence int) (int64, error) {
	for {
		n, err := unix.Seek(int(f.Fd()), off, whence)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return 0, fmt.Errorf("look for holes in %s: %w", f.Name(), ErrNoHoles)
		case err != nil:
			return 0, fmt.Errorf("look for holes in %s at offset %d: %w", f.Name(), off, err)
		}
		return n, nil
	}
}

// bound joins neighbours when a growing list has passed twice [MaxRanges] (I4): seldom enough that the cost per
// range stays constant.
func (rs Ranges) bound() Ranges {
	if len(rs) < 2*MaxRanges {
		return rs
	}
	return rs.Coalesce(MaxRanges)
}
