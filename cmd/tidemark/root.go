// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// app is one run of the program: its streams and what the global flags say.
type app struct {
	stdin   *os.File
	stdout  *os.File
	out     *bufio.Writer // over stdout; flushed when the command has ended
	wrote   *countWriter  // below out: whether data has left already
	console *console      // standard error

	repo       string
	cacheDir   string
	json       bool
	quiet      bool
	noProgress bool
	memory     sizeValue // of commands that move bytes

	passphraseFrom string // where the passphrase was found, for messages
	command        string // the command that runs, for messages
	stream         bool   // standard output is a volume: nothing else goes there
}

func newApp(stdin, stdout, stderr *os.File) *app {
	a := &app{stdin: stdin, stdout: stdout, console: newConsole(stderr)}
	a.wrote = &countWriter{w: stdout}
	a.out = bufio.NewWriter(a.wrote)
	return a
}

// run executes the command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand() //nolint:contextcheck // cobra hands the context to the command that runs
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.console)
	cmd, err := root.ExecuteContextC(ctx)
	a.command = cmd.CommandPath()
	if flushed := a.out.Flush(); flushed != nil && err == nil {
		err = fmt.Errorf("write standard output: %w", flushed)
	}
	if err == nil {
		return exitDone
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code) // the report has said it
	}
	f := a.explain(err, ctx.Err() != nil)
	if a.json && a.wrote.n == 0 && !a.stream {
		_ = a.printJSON(f) // what cannot be written here is told below
		_ = a.out.Flush()
	}
	a.console.fail(f)
	return f.Code
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tidemark",
		Short: "Block-level backup: moves the bytes that changed, and no others",
		Long: `Tidemark backs up block devices and raw images into an encrypted, deduplicating
repository in a folder or an S3 bucket, and restores every bit.

Exit codes: 0 done, 1 failed, 2 usage, 3 repository damaged or wrong key,
4 complete and right, but a list of changes was caught lying.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q", args[0])
			}
			return nil
		},
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&a.repo, "repo", "", "`repository`: a folder or s3://bucket/prefix (default $TIDEMARK_REPO)")
	f.StringVar(&a.cacheDir, "cache-dir", "", "`folder` of the local cache (default $TIDEMARK_CACHE_DIR, else tidemark in the user's cache folder)")
	f.BoolVar(&a.json, "json", false, "print one JSON document")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no notes; backup prints the point's id, points prints ids")
	f.BoolVar(&a.noProgress, "no-progress", false, "no progress")
	root.Version = programVersion() // for --version, which people try
	root.AddCommand(initCommand(a), backupCommand(a), pointsCommand(a), showCommand(a), diffCommand(a),
		restoreCommand(a), verifyCommand(a), statsCommand(a), versionCommand(a), demoCommand(a))
	return root
}

// printJSON writes one document as one line.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// print writes v as JSON where that is asked for, and else what human writes.
func (a *app) print(v any, human func(w io.Writer)) error {
	if a.json {
		return a.printJSON(v)
	}
	human(a.out) // out keeps its first error for Flush
	return nil
}

// note tells something that is neither data nor an error.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		a.console.note(fmt.Sprintf(format, args...))
	}
}

// countWriter counts what went through.
type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// exactly, atMost and atLeast check the number of arguments and say what they are.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage("%s is missing: %s", names[len(args)], cmd.UseLine())
		case len(args) > len(names):
			return usage("unexpected argument %q: %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usage("unexpected argument %q: %s", args[n], cmd.UseLine())
		}
		return nil
	}
}
