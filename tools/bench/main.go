// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// benchCase is a group of rows that share their preparation.
type benchCase struct {
	name  string
	about string
	run   func(ctx context.Context, b *bench) error
}

var cases = []benchCase{
	{"loop", "the loop itself: each stage against its library alone", runStages},
	{"full", "full backup against loop and write rate", runFull},
	{"incremental", "empty incremental; 1 % random pages by claim", runIncremental},
	{"restore", "restore against a loop of one; restore of a difference", runRestore},
	{"fingerprint", "incrementals without a claim, for each size of digests", runFingerprint},
	{"series", "200 incrementals of 1 %, all points kept", runSeries},
	{"cleaning", "200 incrementals of 1 %, the last 7 points kept; restore of the newest", runCleaning},
	{"scaling", "as much data without holes, 64 times by reflinks, and strewn over 10 TiB", runScaling},
	{"memory", "backups and a restore inside memory cgroups", runMemory},
	{"index", "an index of ten million chunks", runIndex},
}

type config struct {
	dir   string
	size  byteSize
	run   string
	quick bool
	json  bool
	check bool
	list  bool
	synth bool
	loop  string
	prof  string
	op    string
}

func main() {
	cfg := config{size: 4 << 30}
	flag.StringVar(&cfg.dir, "dir", "", "where to work; a volume found there is used again (default: a new directory in $TMPDIR, removed at the end)")
	flag.Var(&cfg.size, "size", "size of the volume")
	flag.StringVar(&cfg.run, "run", "", "cases to run, separated by commas (default: all)")
	flag.BoolVar(&cfg.quick, "quick", false, "a volume of 512 MiB, shorter series")
	flag.BoolVar(&cfg.synth, "synthetic", false, "make pages that LZ4 halves instead of a PostgreSQL volume")
	flag.BoolVar(&cfg.json, "json", false, "print one JSON object instead of a table")
	flag.BoolVar(&cfg.check, "check", false, "exit with status 1 if a bound is missed")
	flag.BoolVar(&cfg.list, "list", false, "list the cases")
	flag.StringVar(&cfg.loop, "loop", "", "run only the loop, over this image")
	flag.StringVar(&cfg.prof, "profile", "", "leave CPU profiles of all processes in this directory")
	flag.StringVar(&cfg.op, "op", "", "be the process of one measured operation (used by the program itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := dispatch(ctx, cfg)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, cfg config) error {
	switch {
	case cfg.op != "":
		return serve(ctx, cfg.op, os.Stdin, os.Stdout)
	case cfg.list:
		for _, c := range cases {
			fmt.Printf("%-12s %s\n", c.name, c.about)
		}
		return nil
	case cfg.loop != "":
		return printLoop(ctx, cfg.loop)
	}
	return runCases(ctx, cfg)
}

// errMissed makes the exit status with -check.
var errMissed = errors.New("a bound is missed")

func runCases(ctx context.Context, cfg config) (err error) {
	chosen, err := choose(cfg.run)
	if err != nil {
		return err
	}
	if cfg.prof != "" {
		if err := errors.Join(os.MkdirAll(cfg.prof, 0o700), os.Setenv(profileDir, cfg.prof)); err != nil {
			return err
		}
	}
	b := &bench{dir: cfg.dir, size: int64(cfg.size), synth: cfg.synth, quick: cfg.quick, series: 200, claims: 50}
	if b.quick {
		b.size, b.series, b.claims = min(b.size, 512<<20), 40, 10
	}
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "tidemark-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.clean()) }()
	for _, c := range chosen {
		b.current = c.name
		b.say("%s", c.about)
		if err := errors.Join(c.run(ctx, b), b.clean()); err != nil {
			return fmt.Errorf("case %s: %w", c.name, err)
		}
	}
	if err := b.print(os.Stdout, b.machine(), cfg.json); err != nil {
		return err
	}
	if cfg.check && b.missed() > 0 {
		return fmt.Errorf("%w: %d rows", errMissed, b.missed())
	}
	return nil
}

func choose(names string) ([]benchCase, error) {
	if names == "" {
		return cases, nil
	}
	var out []benchCase
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(cases, func(c benchCase) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no case is called %q; -list names them", name)
		}
		out = append(out, cases[i])
	}
	return out, nil
}

// bench is one run of some cases.
type bench struct {
	dir    string
	size   int64 // of the volume
	synth  bool
	quick  bool
	series int      // incrementals that stand for "for ever"
	claims int      // incrementals by claim before a fingerprint
	kdf    seal.KDF // of repositories whose passphrase is to cost what it costs
	volume *volume
	table
}

// path names a file of the current case; clean removes it.
func (b *bench) path(name string) string { return filepath.Join(b.dir, "case", name) }

// clean removes what a case left.
func (b *bench) clean() error { return os.RemoveAll(filepath.Join(b.dir, "case")) }

// prepare checks the room and makes the volume.
func (b *bench) prepare(ctx context.Context) error {
	b.current = "prepare"
	abs, err := filepath.Abs(b.dir)
	if err != nil {
		return err
	}
	b.dir = abs
	if err := errors.Join(os.MkdirAll(b.dir, 0o711), b.clean()); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(b.dir, &fs); err != nil {
		return fmt.Errorf("look for room in %s: %w", b.dir, err)
	}
	if free, need := int64(fs.Bavail)*fs.Bsize, 6*b.size; free < need {
		return fmt.Errorf("%s has %s free, %s are needed: choose another -dir or a smaller -size", b.dir, byteSize(free), byteSize(need))
	}
	b.volume, err = makeVolume(ctx, b)
	return err
}
