// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// database makes the PostgreSQL images: a data directory, and dumps taken while it runs.
type database struct {
	cfg config
}

const serverUser = "postgres"

// pg runs one of PostgreSQL's programs as its own user, for it refuses root.
func (d *database) pg(ctx context.Context, program string, args ...string) error {
	args = append([]string{"-u", serverUser, "--", filepath.Join(d.cfg.pgBin, program)}, args...)
	return command(ctx, "runuser", args...)
}

// build fills an image with a data directory of pgbench's tables after some traffic, and the dumps beside.
func (d *database) build(ctx context.Context, path string) error {
	owner, err := user.Lookup(serverUser)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		return err
	}
	work := d.workDir()
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	if err := os.Chown(work, uid, -1); err != nil {
		return err
	}
	return withVolume(ctx, path, ext4, func(mnt string) error {
		if err := os.Chown(mnt, uid, -1); err != nil {
			return err
		}
		data := filepath.Join(mnt, "data")
		if err := d.pg(ctx, "initdb", "-D", data, "-A", "trust"); err != nil {
			return err
		}
		return d.withServer(ctx, data, d.fill)
	})
}

// workDir holds the server's socket and log, and the dumps.
func (d *database) workDir() string { return filepath.Join(d.cfg.dir, "pg") }

func (d *database) dump(n string) string { return filepath.Join(d.workDir(), "dump-"+n+".sql") }

func (d *database) withServer(ctx context.Context, data string, use func(ctx context.Context) error) (err error) {
	work := d.workDir()
	options := "-c listen_addresses='' -c unix_socket_directories=" + work
	if err := d.pg(ctx, "pg_ctl", "-D", data, "-w", "-l", filepath.Join(work, "log"), "-o", options, "start"); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.pg(context.WithoutCancel(ctx), "pg_ctl", "-D", data, "-w", "-m", "fast", "stop"))
	}()
	return use(ctx)
}

func (d *database) fill(ctx context.Context) error {
	work := d.workDir()
	// Three hundred accounts whose balance gets longer: everything behind each moves by a few bytes in the dump.
	edit := "UPDATE pgbench_accounts SET abalance = 1234567 WHERE aid % (SELECT count(*) / 300 FROM pgbench_accounts) = 0"
	for _, step := range [][]string{
		{"pgbench", "-h", work, "-q", "-i", "-s", strconv.Itoa(d.cfg.scale), "postgres"},
		{"pgbench", "-h", work, "-c", "2", "-t", "5000", "postgres"},
		{"pg_dump", "-h", work, "-f", d.dump("1"), "postgres"},
		{"psql", "-h", work, "-q", "-c", edit, "postgres"},
		{"pg_dump", "-h", work, "-f", d.dump("2"), "postgres"},
	} {
		if err := d.pg(ctx, step[0], step[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// buildDumps copies the dumps of build to an image.
func (d *database) buildDumps(ctx context.Context, path string) error {
	return withVolume(ctx, path, ext4, func(mnt string) error {
		for _, n := range []string{"1", "2"} {
			if err := copyFile(d.dump(n), filepath.Join(mnt, "dump-"+n+".sql")); err != nil {
				return err
			}
		}
		return nil
	})
}
