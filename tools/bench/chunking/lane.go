// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/restic/chunker"
	"github.com/tidemark-io/tidemark/chunkstore/cdc"
	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

const (
	pageSize  = 4 << 10
	readSize  = 4 << 20
	breakHole = 1 << 20
)

// A polynomial of the chunker's own tests; a repository has a secret one, of which the figures do not depend.
const polynomial = chunker.Pol(0x3DA3358B4DC173)

// lane is one way of cutting, and what came of it in a set of images.
type lane struct {
	name     string
	stitcher *cdc.Stitcher // nil: fixed blocks
	fixed    int64

	hash      *blake3.Hasher
	length    int64 // of the chunk under way
	ends      []int
	seen      map[[16]byte]struct{}
	data      int64
	unique    int64
	chunks    int64
	cut       time.Duration
	cutBytes  int64
	nextFixed int64 // volume offset at which the fixed block under way ends
}

func newLanes() []*lane {
	var lanes []*lane
	add := func(l *lane) {
		l.hash, l.seen = blake3.New(), map[[16]byte]struct{}{}
		lanes = append(lanes, l)
	}
	const k, m = 1 << 10, 1 << 20
	for _, p := range []cdc.Params{
		{Kind: cdc.Rabin, Bits: 18, Min: 256 * k, Max: m},
		{Kind: cdc.Rabin, Bits: 18, Min: 64 * k, Max: m},
		{Kind: cdc.Rabin, Bits: 16, Min: 64 * k, Max: 256 * k},
		{Kind: cdc.Rabin, Bits: 16, Min: 16 * k, Max: 256 * k},
		{Kind: cdc.Rabin, Bits: 20, Min: 512 * k, Max: 8 * m},
		{Kind: cdc.Rabin, Bits: 20, Min: m, Max: 4 * m},
		{Kind: cdc.Aligned, Bits: 18, Min: 256 * k, Max: m},
		{Kind: cdc.Aligned, Bits: 16, Min: 64 * k, Max: 256 * k},
		{Kind: cdc.Aligned, Bits: 16, Min: 16 * k, Max: 256 * k},
	} {
		p.Polynomial = polynomial
		add(&lane{name: fmt.Sprintf("%s %d/%s/%s", p.Kind, p.Bits, size(p.Min), size(p.Max)), stitcher: cdc.NewStitcher(&p)})
	}
	for _, n := range []int{256 * k, 64 * k} {
		add(&lane{name: "fixed " + size(n), fixed: int64(n)})
	}
	return lanes
}

func size(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%dM", n>>20)
	}
	return fmt.Sprintf("%dK", n>>10)
}

// run is data without zero pages, and where it lies in its volume.
type run struct {
	off  int64
	data []byte
}

// measure cuts the image's data by every lane. It keeps to one thread, for CPU time is counted by thread.
func measure(ctx context.Context, path string, lanes []*lane) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, readSize)
	dataEnd := int64(0)
	for off := int64(0); ; off += readSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for _, stretch := range stretches(dataRuns(buf[:n], off), &dataEnd) {
			for _, l := range lanes {
				if err := l.take(stretch); err != nil {
					return err
				}
			}
		}
		if n < readSize {
			break
		}
	}
	for _, l := range lanes {
		l.end()
	}
	return nil
}

var zeroPage [pageSize]byte

// dataRuns drops the zero pages.
func dataRuns(b []byte, off int64) []run {
	var runs []run
	for pos := 0; pos < len(b); pos += pageSize {
		page := b[pos:min(pos+pageSize, len(b))]
		if bytes.Equal(page, zeroPage[:len(page)]) {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].off+int64(len(runs[n-1].data)) == off+int64(pos) {
			last := &runs[n-1]
			last.data = b[last.off-off : pos+len(page)]
			continue
		}
		runs = append(runs, run{off + int64(pos), page})
	}
	return runs
}

// stretch is runs of which the first may come after a hole that ends a chunk.
type stretch struct {
	breaks bool
	runs   []run
}

// stretches groups the runs. dataEnd is where the volume's data so far ended.
func stretches(runs []run, dataEnd *int64) []stretch {
	var out []stretch
	for _, r := range runs {
		breaks := r.off-*dataEnd >= breakHole
		if breaks || len(out) == 0 {
			out = append(out, stretch{breaks: breaks})
		}
		last := &out[len(out)-1]
		last.runs = append(last.runs, r)
		*dataEnd = r.off + int64(len(r.data))
	}
	return out
}

func (l *lane) take(s stretch) error {
	if s.breaks {
		l.end()
	}
	if l.stitcher == nil {
		l.takeFixed(s.runs)
		return nil
	}
	parts := make([][]byte, len(s.runs))
	for i, r := range s.runs {
		parts[i] = r.data
	}
	l.ends = l.ends[:0]
	began, err := threadTime()
	if err != nil {
		return err
	}
	err = l.stitcher.NextParts(parts, nil, func(end int) error {
		l.ends = append(l.ends, end)
		return nil
	})
	if err != nil {
		return err
	}
	ended, err := threadTime()
	if err != nil {
		return err
	}
	l.cut += ended - began
	l.hashParts(parts)
	return nil
}

// hashParts names the chunks that l.ends made of the parts.
func (l *lane) hashParts(parts [][]byte) {
	pos, ends := 0, l.ends
	for _, part := range parts {
		l.cutBytes += int64(len(part))
		for len(part) > 0 {
			n := len(part)
			if len(ends) > 0 {
				n = min(n, ends[0]-pos)
			}
			l.add(part[:n])
			pos, part = pos+n, part[n:]
			if len(ends) > 0 && pos == ends[0] {
				l.finish()
				ends = ends[1:]
			}
		}
	}
}

func (l *lane) takeFixed(runs []run) {
	for _, r := range runs {
		for len(r.data) > 0 {
			if r.off >= l.nextFixed {
				l.finish()
				l.nextFixed = (r.off/l.fixed + 1) * l.fixed
			}
			n := min(int64(len(r.data)), l.nextFixed-r.off)
			l.add(r.data[:n])
			r = run{r.off + n, r.data[n:]}
		}
	}
}

func (l *lane) add(b []byte) {
	_, _ = l.hash.Write(b) // a hash takes everything
	l.length += int64(len(b))
}

// finish counts the chunk under way.
func (l *lane) finish() {
	if l.length == 0 {
		return
	}
	var id [16]byte
	var sum [32]byte
	copy(id[:], l.hash.Sum(sum[:0]))
	if _, known := l.seen[id]; !known {
		l.seen[id] = struct{}{}
		l.unique += l.length
	}
	l.data += l.length
	l.chunks++
	l.length = 0
	l.hash.Reset()
}

// end is the end of a chunk that is not of its content's doing.
func (l *lane) end() {
	l.finish()
	l.nextFixed = 0
	if l.stitcher != nil {
		l.stitcher.Break()
	}
}

func threadTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("read the thread's clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}
