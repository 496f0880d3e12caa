// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// demoSources are folders with files that most machines have.
var demoSources = []string{"/usr/share", "/usr/local/go/src", "/usr/lib/go", "/usr/include", "/usr/lib/python3", "/usr/bin"}

const maxDemoFile = 4 << 20

// errEnough ends the walk.
var errEnough = errors.New("enough")

// ext4 makes a file system with files of this machine, two thirds, and a
// database, one third.
func (m *demoImage) ext4(ctx context.Context, mke2fs string) error {
	stage := filepath.Join(m.dir, "files")
	if err := os.Mkdir(stage, 0o700); err != nil {
		return err
	}
	s := stager{dir: stage, left: m.data - m.data/3}
	if err := s.fill(ctx); err != nil {
		return err
	}
	if err := m.stageDatabase(filepath.Join(stage, "database"), m.data/3); err != nil {
		return err
	}
	size := (m.data+m.data/4)>>20 + 24 // MiB
	args := []string{
		"-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-N", fmt.Sprint(s.files + s.files/4 + 256),
		"-E", fmt.Sprintf("root_owner=%d:%d", os.Getuid(), os.Getgid()), "-d", stage, m.path, fmt.Sprintf("%dM", size),
	}
	if err := runTool(ctx, m.dir, mke2fs, args...); err != nil {
		return err
	}
	m.fileSystem = "ext4"
	m.what = fmt.Sprintf("ext4 with %s of this machine and a database of %s", counted(int64(s.files), "file"), formatBytes(m.data/3))
	return os.RemoveAll(stage)
}

// runTool runs a program in a folder and puts what it says into the error.
func runTool(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (m *demoImage) stageDatabase(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(m.writeDatabase(f, size), f.Close())
}

// stager copies files of this machine until there are enough bytes.
type stager struct {
	dir   string
	left  int64
	files int
}

func (s *stager) fill(ctx context.Context) error {
	for _, src := range demoSources {
		err := filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return s.visit(path, entry, err)
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil // a small machine: what there is will do
}

// visit copies a regular file. What cannot be read is left out: any files will do.
func (s *stager) visit(path string, entry fs.DirEntry, err error) error {
	if s.left <= 0 {
		return errEnough
	}
	if err != nil || !entry.Type().IsRegular() {
		return nil
	}
	in, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || info.Size() > maxDemoFile || info.Size() > s.left {
		return nil
	}
	to := filepath.Join(s.dir, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, in)
	s.left -= n
	s.files++
	return errors.Join(err, out.Close())
}

// synthetic makes plain data: text, a database, and free space behind them.
func (m *demoImage) synthetic(ctx context.Context) error {
	f, err := os.Create(m.path)
	if err != nil {
		return err
	}
	text := m.data - m.data/3
	err = errors.Join(writeText(ctx, f, text&^(demoPage-1)), m.writeDatabase(f, m.data/3&^(demoPage-1)))
	if err == nil {
		m.tail, err = f.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		err = f.Truncate(m.tail + m.data/4&^(demoPage-1))
	}
	m.what = "made-up data, for mke2fs is not installed, with a database of " + formatBytes(m.data/3)
	return errors.Join(err, f.Close())
}

// writeText writes lines that compress like a log.
func writeText(ctx context.Context, w io.Writer, size int64) error {
	line, buf := uint64(0), make([]byte, 0, 1<<20+256)
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		for buf = buf[:0]; len(buf) < 1<<20; line++ {
			buf = fmt.Appendf(buf, "2026-11-22 host-%d service[%d]: request %016x served\n", line%97, line%1013, line*0x9e3779b97f4a7c15)
		}
		n, err := w.Write(buf[:min(int64(len(buf)), size)])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// addFile puts a new file into the image, without mounting it.
func (m *demoImage) addFile(ctx context.Context, name string, size int64) error {
	size &^= demoPage - 1
	if m.fileSystem == "" {
		f, err := os.OpenFile(m.path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		err = writeText(ctx, io.NewOffsetWriter(f, m.tail), size)
		m.tail += size
		return errors.Join(err, f.Close())
	}
	debugfs, err := systemTool("debugfs")
	if err != nil {
		return nil //nolint:nilerr // the pages changed are enough
	}
	f, err := os.Create(filepath.Join(m.dir, name))
	if err != nil {
		return err
	}
	if err := errors.Join(writeText(ctx, f, size), f.Close()); err != nil {
		return err
	}
	return runTool(ctx, m.dir, debugfs, "-w", "-R", "write "+name+" "+name, m.path)
}

// fsck checks a restored file system without writing to it. It returns
// "clean", or why there was nothing to check.
func (m *demoImage) fsck(ctx context.Context, path string) (string, error) {
	if m.fileSystem == "" {
		return "no file system", nil
	}
	e2fsck, err := systemTool("e2fsck")
	if err != nil {
		return "e2fsck is not installed", nil //nolint:nilerr // it says so
	}
	return "clean", runTool(ctx, m.dir, e2fsck, "-fn", path)
}
