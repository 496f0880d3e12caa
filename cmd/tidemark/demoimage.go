// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/tidemark-io/tidemark/blockdiff"
)

const (
	demoBlock = 4096
	demoPage  = 2 * demoBlock // of the database that is changed in place
)

// demoImage is an image with a file system and a database in it. It knows
// where the database's pages lie, so that changing them leaves the file system
// whole, and keeps a sum of each block as a change tracker of its own.
type demoImage struct {
	dir, path  string
	size       int64
	what       string // for people
	fileSystem string // "ext4", or "" for plain data
	data       int64
	tail       int64 // where free space begins, without a file system

	magic [16]byte // begins every block of the database
	pages []int64  // offsets of whole pages
	seed  maphash.Seed
	sums  []uint64
}

// newDemoImage makes the image in dir: ext4 with files of this machine where
// mke2fs is a program's path, else data of its own making.
func newDemoImage(ctx context.Context, dir string, data int64, mke2fs string) (*demoImage, error) {
	m := &demoImage{dir: dir, path: filepath.Join(dir, demoVolume), data: data, seed: maphash.MakeSeed()}
	binary.LittleEndian.PutUint64(m.magic[:], rand.Uint64())
	copy(m.magic[8:], "database")
	fill := m.synthetic
	if mke2fs != "" {
		fill = func(ctx context.Context) error { return m.ext4(ctx, mke2fs) }
	}
	if err := fill(ctx); err != nil {
		return nil, err
	}
	if err := m.remember(); err != nil {
		return nil, err
	}
	return m, m.findPages()
}

// systemTool finds a program, also where users have it not in their PATH.
func systemTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	return path, err
}

// block is a block of the database: a header, then rows that compress about
// as well as a database does.
func (m *demoImage) block(r *rand.Rand, number int) []byte {
	b := make([]byte, 0, demoBlock)
	b = append(b, m.magic[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(number))
	for row := 0; len(b) < demoBlock-96; row++ {
		b = fmt.Appendf(b, "%08d|customer-%06d|", row, r.IntN(1e6))
		for range 4 {
			b = binary.LittleEndian.AppendUint64(b, r.Uint64())
		}
		b = append(b, "|2026-11-22|open|"...)
	}
	return b[:demoBlock]
}

// writeDatabase writes blocks to the end of a stream.
func (m *demoImage) writeDatabase(w io.Writer, size int64) error {
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	for n := range int(size / demoBlock) {
		if _, err := w.Write(m.block(r, n)); err != nil {
			return err
		}
	}
	return nil
}

// blocks calls fn for each block of the image.
func (m *demoImage) blocks(fn func(off int64, block []byte)) error {
	f, err := os.Open(m.path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := io.ReadFull(f, buf)
		for at := 0; at < n; at += demoBlock {
			fn(off+int64(at), buf[at:min(at+demoBlock, n)])
		}
		off += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// findPages finds the pages that lie in one piece.
func (m *demoImage) findPages() error {
	last := int64(-1) // offset of an even block with no odd one yet
	err := m.blocks(func(off int64, b []byte) {
		if !bytes.HasPrefix(b, m.magic[:]) {
			return
		}
		odd := binary.LittleEndian.Uint64(b[len(m.magic):])%2 == 1
		if odd && last == off-demoBlock {
			m.pages = append(m.pages, last)
		}
		last = off
	})
	if err == nil && len(m.pages) == 0 {
		err = errors.New("its database is not found in the image")
	}
	return err
}

// remember takes the sums of now as those to compare with.
func (m *demoImage) remember() error {
	sums, err := m.sum()
	m.sums = sums
	m.size = int64(len(sums)) * demoBlock
	return err
}

func (m *demoImage) sum() ([]uint64, error) {
	var sums []uint64
	err := m.blocks(func(_ int64, b []byte) { sums = append(sums, maphash.Bytes(m.seed, b)) })
	return sums, err
}

// changed are the blocks that are not as remembered.
func (m *demoImage) changed() (blockdiff.Ranges, error) {
	sums, err := m.sum()
	if err != nil {
		return nil, err
	}
	var rs blockdiff.Ranges
	for i, s := range sums {
		if i >= len(m.sums) || s != m.sums[i] {
			rs = append(rs, blockdiff.Range{Offset: int64(i) * demoBlock, Length: demoBlock})
		}
	}
	return blockdiff.Normalize(rs), nil
}

// change rewrites scattered pages, 1 % of the data, where they are, and adds a
// new file.
func (m *demoImage) change(ctx context.Context, round uint64) error {
	f, err := os.OpenFile(m.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(rand.Uint64(), round))
	count := min(int(m.data/100/demoPage), len(m.pages))
	for _, i := range r.Perm(len(m.pages))[:count] {
		for half := range 2 {
			if _, err := f.WriteAt(m.block(r, half), m.pages[i]+int64(half)*demoBlock); err != nil {
				return errors.Join(err, f.Close())
			}
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	return m.addFile(ctx, fmt.Sprintf("new-%d", round), m.data/200)
}
