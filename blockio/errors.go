// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"fmt"
	"strings"
)

// Range is a part of a volume: Length bytes from Offset.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// End is the offset of the first byte behind the range.
func (r Range) End() int64 { return r.Offset + r.Length }

var (
	// ErrArenaClosed is what Get returns once Close was called.
	ErrArenaClosed = errors.New("buffer arena is closed")
	// ErrDoubleRelease reports a Buf that was released more often than it was held.
	ErrDoubleRelease = errors.New("buffer released more often than it was held")
	// ErrOutOfRange reports a request that does not lie inside the volume.
	ErrOutOfRange = errors.New("outside of the volume")
)

// ReadError lists the parts of a request that the medium could not deliver, narrowed to pages of 4 KiB
// (clipped to the request). Everything else of the request is in the caller's buffer; the bytes of Ranges
// are zeroed there, so a caller who decides to go on has defined content.
type ReadError struct {
	Path   string
	Ranges []Range // ascending, disjoint, not adjacent
	Err    error   // what the kernel said about the first of them
}

func (e *ReadError) Error() string {
	var b strings.Builder
	var total int64
	for _, r := range e.Ranges {
		total += r.Length
	}
	fmt.Fprintf(&b, "read %s: %d bytes are unreadable (", e.Path, total)
	for i, r := range e.Ranges {
		if i == 4 {
			fmt.Fprintf(&b, ", and %d more ranges", len(e.Ranges)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d+%d", r.Offset, r.Length)
	}
	fmt.Fprintf(&b, "): %v", e.Err)
	return b.String()
}

func (e *ReadError) Unwrap() error { return e.Err }

// ChangedSizeError says that a source no longer has the size it was opened with.
type ChangedSizeError struct {
	Path     string
	Was, Now int64
}

func (e *ChangedSizeError) Error() string {
	return fmt.Sprintf("%s changed its size while it was read: it had %d bytes and has %d now", e.Path, e.Was, e.Now)
}

// TooSmallError says that a device can't hold the volume.
type TooSmallError struct {
	Path       string
	Need, Have int64
}

func (e *TooSmallError) Error() string {
	return fmt.Sprintf("%s is too small: it has %d bytes and %d are needed", e.Path, e.Have, e.Need)
}

// InUseError says that a target must not be overwritten because something uses it.
type InUseError struct {
	Path string
	By   string // "mounted at /data (ext4)", "in use as swap", …
}

func (e *InUseError) Error() string { return fmt.Sprintf("%s is in use: %s", e.Path, e.By) }

// KindError says that a path is no file or device that can be read or written as a volume.
type KindError struct {
	Path string
	Kind string // "a directory", …
}

func (e *KindError) Error() string {
	return fmt.Sprintf("%s is %s, not a block device or a regular file", e.Path, e.Kind)
}
