// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
)

const (
	blockSize = 4 << 10 // the unit of zeros
	pageSize  = 8 << 10 // the unit of change: a database's page
)

// volume is the image that every case starts from. It is never written to.
type volume struct {
	path  string
	kind  string // how it was made
	pages []int64
	data  int64 // bytes in blocks that are not zero
}

// makeVolume finds the image of an earlier run in the same directory, or makes one: a PostgreSQL volume, or where that
// is not wanted or cannot be, a synthetic one.
func makeVolume(ctx context.Context, b *bench) (*volume, error) {
	if !b.synth {
		v, err := oneVolume(ctx, b, kindDatabase, func(path string) error { return fillDatabase(ctx, b.dir, path, b.size) })
		if err == nil || ctx.Err() != nil {
			return v, err
		}
		b.say("no PostgreSQL volume, a synthetic one instead: %v", err)
	}
	return oneVolume(ctx, b, kindSynthetic, func(path string) error { return fillSynthetic(path, b.size) })
}

// oneVolume has its image filled under another name until it is whole.
func oneVolume(ctx context.Context, b *bench, kind string, fill func(path string) error) (*volume, error) {
	v := &volume{path: filepath.Join(b.dir, imageName(kind, b.size)), kind: kind}
	if st, err := os.Stat(v.path); err == nil && st.Size() == b.size {
		return v, v.survey(ctx)
	}
	b.say("making a volume of %s: %s", byteSize(b.size), kind)
	half := filepath.Join(b.dir, "making.img")
	if err := os.RemoveAll(half); err != nil {
		return nil, err
	}
	if err := fill(half); err != nil {
		return nil, errors.Join(err, os.RemoveAll(half))
	}
	if err := errors.Join(settle(half), os.Rename(half, v.path)); err != nil {
		return nil, err
	}
	return v, v.survey(ctx)
}

func imageName(kind string, size int64) string {
	if kind == kindDatabase {
		return fmt.Sprintf("database-%d.img", size)
	}
	return fmt.Sprintf("synthetic-%d.img", size)
}

// survey finds the pages that hold data.
func (v *volume) survey(ctx context.Context) (err error) {
	v.pages, v.data, err = dataPages(ctx, v.path)
	return err
}

// dataPages lists the pages of an image that are not zero, and counts the bytes of its blocks that are not.
func dataPages(ctx context.Context, path string) (pages []int64, data int64, err error) {
	last := int64(-1)
	err = eachDataRun(ctx, path, func(off int64, p []byte) error {
		data += int64(len(p))
		for at := off / pageSize; at <= (off+int64(len(p))-1)/pageSize; at++ {
			if at > last {
				pages, last = append(pages, at*pageSize), at
			}
		}
		return nil
	})
	return pages, data, err
}

// eachDataRun calls fn for all runs of blocks that are not zero, ascending, in pieces of a few MiB. The bytes are fn's
// until it returns.
func eachDataRun(ctx context.Context, path string, fn func(off int64, p []byte) error) (err error) {
	src, err := blockio.OpenSource(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	ranges, err := dataRanges(src)
	if err != nil {
		return err
	}
	arena, err := blockio.NewArena(4<<20, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, arena.Close()) }()
	buf, err := arena.Get(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, buf.Release()) }()
	for _, r := range ranges {
		for r.Length > 0 {
			p := buf.Bytes()[:min(r.Length, int64(len(buf.Bytes())))]
			if err := src.ReadAt(ctx, p, r.Offset); err != nil {
				return err
			}
			blockio.DataRuns(p, blockSize, func(off, n int) {
				if err == nil {
					err = fn(r.Offset+int64(off), p[off:off+n])
				}
			})
			if err != nil {
				return err
			}
			r.Offset, r.Length = r.Offset+int64(len(p)), r.Length-int64(len(p))
		}
	}
	return nil
}

// dataRanges is what a source has allocated, in whole blocks.
func dataRanges(src *blockio.Source) (blockdiff.Ranges, error) {
	whole := blockdiff.Ranges{{Offset: 0, Length: src.Size()}}
	if src.IsDevice() {
		return whole, nil
	}
	ranges, err := blockdiff.Allocated(src.File(), src.Size())
	if errors.Is(err, blockdiff.ErrNoHoles) {
		return whole, nil
	}
	return ranges.AlignOut(blockSize, src.Size()), err
}

// copyTo makes a copy that a case may change. Holes stay holes.
func (v *volume) copyTo(ctx context.Context, path string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	st, err := os.Stat(v.path)
	if err != nil {
		return err
	}
	if err := out.Truncate(st.Size()); err != nil {
		return err
	}
	err = eachDataRun(ctx, v.path, func(off int64, p []byte) error {
		_, err := out.WriteAt(p, off)
		return err
	})
	if err != nil {
		return err
	}
	return settle(path)
}

// settle brings a file to the disk and out of the page cache, so that whoever reads it next reads it from there.
func settle(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
