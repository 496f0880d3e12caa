// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Source is a volume opened for reading. It is safe for concurrent use; Close must come last.
type Source struct {
	path   string
	size   int64
	device bool
	id     Identity
	align  alignment

	buffered *os.File // always there: tails, unaligned requests, and everything after a fall-back
	direct   *os.File // nil when O_DIRECT was refused at open

	directOff atomic.Pointer[string] // why reads are buffered, nil while they are direct
	readBytes atomic.Int64
	cached    atomic.Bool // some read went through the page cache
}

// Identity tells whether an image file is still the one that was seen before. It is zero for devices, whose
// times say nothing about their content.
type Identity struct {
	Dev     uint64 `json:"dev,omitempty"`
	Ino     uint64 `json:"ino,omitempty"`
	Size    int64  `json:"size,omitempty"`
	MtimeNs int64  `json:"mtimeNs,omitempty"`
	CtimeNs int64  `json:"ctimeNs,omitempty"`
}

// IsZero reports whether nothing is known, as for a device.
func (id Identity) IsZero() bool { return id == Identity{} }

// OpenSource opens a block device or a regular file for reading. Anything else is a *KindError.
func OpenSource(path string) (*Source, error) { return openSource(path, true) }

func openSource(path string, tryDirect bool) (*Source, error) {
	st, err := os.Stat(path) // first: opening a pipe would wait for a writer
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	device, err := checkKind(path, st.Mode())
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	s := &Source{path: path, device: device, buffered: f}
	if err := s.learn(st); err != nil {
		return nil, errors.Join(fmt.Errorf("open source: %w", err), s.Close())
	}
	expectScatter(f)
	if !tryDirect {
		s.fallBack("direct reads are switched off")
		return s, nil
	}
	if err := s.openDirect(); err != nil {
		return nil, errors.Join(fmt.Errorf("open source: %w", err), s.Close())
	}
	return s, nil
}

// learn takes size and identity from the open file, which must be the one that was looked at.
func (s *Source) learn(seen os.FileInfo) error {
	st, err := s.buffered.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(st, seen) {
		return fmt.Errorf("%s was replaced while it was opened", s.path)
	}
	if s.size, err = sizeOf(s.buffered, s.device); err != nil {
		return err
	}
	if s.device {
		return nil
	}
	var raw unix.Stat_t
	if err := control(s.buffered, func(fd int) error { return unix.Fstat(fd, &raw) }); err != nil {
		return fmt.Errorf("stat %s: %w", s.path, err)
	}
	s.id = Identity{Dev: raw.Dev, Ino: raw.Ino, Size: raw.Size, MtimeNs: raw.Mtim.Nano(), CtimeNs: raw.Ctim.Nano()}
	return nil
}

// openDirect opens a second descriptor with O_DIRECT and records why when there is none.
func (s *Source) openDirect() error {
	align, ok := directAlignment(s.buffered, s.device)
	if !ok {
		s.fallBack("the file system has no direct reads for this file")
		return nil
	}
	s.align = align
	f, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		s.fallBack("opening with O_DIRECT was refused: " + err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	s.direct = f
	expectScatter(f) // some file systems (btrfs, compressed) serve these reads through the cache, and read ahead
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	other, err := s.buffered.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(mine, other) {
		return fmt.Errorf("%s was replaced while it was opened", s.path)
	}
	return nil
}

func (s *Source) fallBack(why string) { s.directOff.CompareAndSwap(nil, &why) }

// Path is the path that was opened.
func (s *Source) Path() string { return s.path }

// Size is the size in bytes at the time of opening.
func (s *Source) Size() int64 { return s.size }

// IsDevice tells a block device from a regular file.
func (s *Source) IsDevice() bool { return s.device }

// Identity is what was opened; zero for devices.
func (s *Source) Identity() Identity { return s.id }

// File is the descriptor for buffered reads, for questions such as SEEK_DATA. It belongs to the Source.
func (s *Source) File() *os.File { return s.buffered }

// Direct reports whether aligned reads bypass the page cache.
func (s *Source) Direct() bool { return s.directOff.Load() == nil }

// Fallback says why reads are buffered; it is empty while they are direct.
func (s *Source) Fallback() string {
	if why := s.directOff.Load(); why != nil {
		return *why
	}
	return ""
}

// BytesRead counts the bytes of the volume that were put into callers' buffers.
func (s *Source) BytesRead() int64 { return s.readBytes.Load() }

// CheckUnchanged returns a *ChangedSizeError when the volume no longer has the size it was opened with.
func (s *Source) CheckUnchanged() error {
	now, err := sizeOf(s.buffered, s.device)
	if err != nil {
		return err
	}
	if now != s.size {
		return &ChangedSizeError{Path: s.path, Was: s.size, Now: now}
	}
	return nil
}

// Close closes the source and lets go of what buffered reads may have left in the page cache.
func (s *Source) Close() error {
	if s.cached.Load() {
		dropCached(s.buffered, 0, 0)
	}
	err := s.buffered.Close()
	if s.direct != nil {
		err = errors.Join(err, s.direct.Close())
	}
	return err
}
