// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

type fileSystem string

const (
	ext4 fileSystem = "ext4"
	xfs  fileSystem = "xfs"
)

const imageSize = 2 << 30

// command runs a program to its end; its output is part of the error.
func command(ctx context.Context, name string, args ...string) error {
	var out bytes.Buffer
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = &out, &out
	c.Dir = "/"
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// withVolume makes a file system in a new image and calls fill with the directory at which it is mounted.
func withVolume(ctx context.Context, path string, kind fileSystem, fill func(mnt string) error) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(imageSize), f.Close())
	if err != nil {
		return err
	}
	if err := command(ctx, "mkfs."+string(kind), "-q", path); err != nil {
		return err
	}
	mnt := path + ".mnt"
	if err := os.Mkdir(mnt, 0o755); err != nil {
		return err
	}
	if err := command(ctx, "mount", "-t", string(kind), "-o", "loop,discard", path, mnt); err != nil {
		return err
	}
	defer func() {
		// Also after an interrupt: what is mounted cannot be removed.
		err = errors.Join(err, command(context.WithoutCancel(ctx), "umount", mnt), os.Remove(mnt))
	}()
	return fill(mnt)
}

// buildTree copies the regular files below roots, in the order of a walk or shuffled.
func buildTree(ctx context.Context, path string, kind fileSystem, roots []string, shuffled bool) error {
	var files []string
	for _, root := range roots {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files = append(files, name)
			}
			if strings.HasSuffix(name, "pkg/mod/cache") {
				return filepath.SkipDir // archives of the sources beside it
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if shuffled {
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	}
	return withVolume(ctx, path, kind, func(mnt string) error {
		for _, name := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := copyFile(name, filepath.Join(mnt, name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// cloneImage copies an image and rewrites one in a hundred of its 8 KiB pages that hold data. The image's size is a
// multiple of them.
func cloneImage(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	const page = 8 << 10
	rnd := rand.NewChaCha8([32]byte{1})
	choose := rand.New(rand.NewPCG(2, 2))
	buf, zero := make([]byte, page), make([]byte, page)
	for off := int64(0); off < info.Size(); off += page {
		if _, err := in.ReadAt(buf, off); err != nil {
			return errors.Join(err, out.Close())
		}
		if bytes.Equal(buf, zero) {
			continue
		}
		if choose.IntN(100) == 0 {
			_, _ = rnd.Read(buf) // never fails
		}
		if _, err := out.WriteAt(buf, off); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	return errors.Join(out.Truncate(info.Size()), out.Close())
}
