// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

const (
	kindDatabase  = "ext4 with PostgreSQL 15"
	kindSynthetic = "synthetic database pages"
	pgPrograms    = "/usr/lib/postgresql/15/bin"
	pgUser        = "postgres"
	// Of an image 85 % is filled; a server without tables and its log take 160 MiB, and pgbench 15.3 MB per unit.
	pgOverhead  = 160 << 20
	bytesAScale = 15_300_000
)

// server is a PostgreSQL that works in a directory.
type server struct {
	dir string
	uid int // whom it runs as; -1: as ourselves
}

// fillDatabase makes an ext4 image of the data directory of a PostgreSQL that has seen some traffic.
func fillDatabase(ctx context.Context, dir, image string, size int64) (err error) {
	s := &server{dir: filepath.Join(dir, "postgres"), uid: -1}
	if os.Getuid() == 0 { // it refuses root
		owner, err := user.Lookup(pgUser)
		if err != nil {
			return err
		}
		if s.uid, err = strconv.Atoi(owner.Uid); err != nil {
			return err
		}
	}
	if err := errors.Join(os.RemoveAll(s.dir), os.Mkdir(s.dir, 0o700), os.Chown(s.dir, s.uid, -1)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := s.run(ctx, "initdb", "-D", s.data(), "-A", "trust", "-N"); err != nil {
		return err
	}
	if err := s.traffic(ctx, int(max(1, (size/100*85-pgOverhead)/bytesAScale))); err != nil {
		return err
	}
	return command(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-m", "1", "-d", s.dir, image, strconv.FormatInt(size>>10, 10)+"k")
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

func (s *server) run(ctx context.Context, program string, args ...string) error {
	program = filepath.Join(pgPrograms, program)
	if s.uid < 0 {
		return command(ctx, program, args...)
	}
	return command(ctx, "runuser", append([]string{"-u", pgUser, "--", program}, args...)...)
}

// traffic fills the tables and changes rows at random.
func (s *server) traffic(ctx context.Context, scale int) (err error) {
	options := "-c listen_addresses='' -c fsync=off -c min_wal_size=32MB -c max_wal_size=64MB -c unix_socket_directories=" + s.dir
	if err := s.run(ctx, "pg_ctl", "-D", s.data(), "-w", "-l", filepath.Join(s.dir, "log"), "-o", options, "start"); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.run(context.WithoutCancel(ctx), "pg_ctl", "-D", s.data(), "-w", "-m", "fast", "stop"))
	}()
	if err := s.run(ctx, "pgbench", "-h", s.dir, "-q", "-i", "-s", strconv.Itoa(scale), "postgres"); err != nil {
		return err
	}
	return s.run(ctx, "pgbench", "-h", s.dir, "-c", "4", "-t", "2500", "postgres")
}

// fillSynthetic makes pages that LZ4 halves, in nine tenths of the image: a header with the page's number, and rows of
// a counter, text and noise.
func fillSynthetic(image string, size int64) (err error) {
	f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{'s'})
	batch := make([]byte, 128*pageSize)
	for off := int64(0); off+int64(len(batch)) <= size/10*9; off += int64(len(batch)) {
		fillPages(batch, off, noise)
		if _, err := f.WriteAt(batch, off); err != nil {
			return err
		}
	}
	return nil
}

// fillPages makes the pages that lie at off of a volume.
func fillPages(p []byte, off int64, noise *rand.ChaCha8) {
	for at := 0; at < len(p); at += pageSize {
		fillPage(p[at:at+pageSize], uint64(off)/pageSize+uint64(at/pageSize), noise)
	}
}

func fillPage(page []byte, number uint64, noise *rand.ChaCha8) {
	binary.LittleEndian.PutUint64(page, number)
	const row = 64
	for at := row; at < len(page); at += row {
		copy(page[at:], fmt.Sprintf("%8d account of branch, balance %4d", number*127+uint64(at/row), noise.Uint64()%10000))
		_, _ = noise.Read(page[at+row-24 : at+row])
	}
}
