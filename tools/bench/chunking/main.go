// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

type config struct {
	dir   string
	trees []string
	pgBin string
	scale int
}

func main() {
	var cfg config
	trees := flag.String("trees", defaultTrees(), "directories to copy as the tree, separated by commas")
	flag.StringVar(&cfg.dir, "dir", os.TempDir(), "where the images are made (7 GiB)")
	flag.StringVar(&cfg.pgBin, "pgbin", "/usr/lib/postgresql/15/bin", "directory of PostgreSQL's programs")
	flag.IntVar(&cfg.scale, "scale", 20, "scale factor of pgbench")
	flag.Parse()
	cfg.trees = strings.Split(*trees, ",")
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := measureAll(ctx, cfg)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chunking:", err)
		os.Exit(1)
	}
}

func defaultTrees() string {
	trees := "/usr/share"
	if home, err := os.UserHomeDir(); err == nil {
		trees += "," + filepath.Join(home, "go/pkg/mod")
	}
	return trees
}

func measureAll(ctx context.Context, cfg config) (err error) {
	dir, err := os.MkdirTemp(cfg.dir, "chunking-")
	if err != nil {
		return err
	}
	defer func() {
		if rmErr := os.RemoveAll(dir); err == nil {
			err = rmErr
		}
	}()
	// The database's own user has to get at its directory.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	cfg.dir = dir
	return runSets(ctx, cfg)
}

// image is one step of a set: its title in the table, and how it is made.
type image struct {
	title string
	build func(ctx context.Context, path string) error
}

func runSets(ctx context.Context, cfg config) error {
	db := &database{cfg: cfg}
	sets := [][]image{
		{
			{"tree, ext4", func(ctx context.Context, path string) error { return buildTree(ctx, path, ext4, cfg.trees, false) }},
			{"+ tree, XFS", func(ctx context.Context, path string) error { return buildTree(ctx, path, xfs, cfg.trees, true) }},
		},
		{
			{"database", db.build},
			{"+ clone", func(_ context.Context, path string) error { return cloneImage(imagePath(cfg, "database"), path) }},
		},
		{
			{"dumps", db.buildDumps},
		},
	}
	var steps []step
	for _, set := range sets {
		lanes := newLanes()
		for _, img := range set {
			path := imagePath(cfg, img.title)
			fmt.Fprintf(os.Stderr, "making %s\n", img.title)
			if err := img.build(ctx, path); err != nil {
				return fmt.Errorf("make %s: %w", img.title, err)
			}
			fmt.Fprintf(os.Stderr, "cutting %s\n", img.title)
			if err := measure(ctx, path, lanes); err != nil {
				return fmt.Errorf("measure %s: %w", img.title, err)
			}
			steps = append(steps, snapshot(img.title, lanes))
		}
		for _, img := range set {
			if err := os.Remove(imagePath(cfg, img.title)); err != nil {
				return err
			}
		}
	}
	printTable(os.Stdout, steps)
	return nil
}

func imagePath(cfg config, title string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(title))
	return filepath.Join(cfg.dir, name+".img")
}
