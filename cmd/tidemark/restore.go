// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/mover"
)

func restoreCommand(a *app) *cobra.Command {
	var delta, force bool
	cmd := &cobra.Command{
		Use:   "restore POINT TARGET",
		Short: "Write a restore point to a device, a file or standard output",
		Long: `Write a restore point to TARGET: a block device (at least as large as the volume), a file
(made if it is missing, kept sparse, set to the volume's size), or - for standard output.

` + pointHelp + `

What was on TARGET is lost; a file that holds something and is not of the volume's size is
only replaced with --force. Every chunk is verified before its bytes get there. A killed
restore goes on when the same command is given again.`,
		Args: exactly("POINT", "TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.restore(cmd.Context(), args[0], mover.RestoreOptions{Target: args[1], Delta: delta, Force: force})
		},
	}
	cmd.Flags().BoolVar(&delta, "delta", false, "compare TARGET with the point and write what differs only")
	cmd.Flags().BoolVar(&force, "force", false, "write to a device even if it is mounted or otherwise in use, replace a file of another size")
	memoryFlag(a, cmd)
	return cmd
}

func (a *app) restore(ctx context.Context, spec string, opt mover.RestoreOptions) error {
	if opt.Target == "-" {
		a.stream = true
		if opt.Delta || opt.Force {
			return usage("--delta and --force are about a device or a file, not about standard output")
		}
		if term.IsTerminal(int(a.stdout.Fd())) {
			return usage("standard output is a terminal: send the volume to a pipe or a file")
		}
		opt.Out = a.wrote
	}
	return a.with(ctx, func(repo *chunkstore.Repository) error {
		p, err := lookup(ctx, repo, spec)
		if err != nil {
			return err
		}
		if !opt.Force && !opt.Delta {
			if err := fileInTheWay(opt.Target, p.Size); err != nil {
				return err
			}
		}
		opt.Memory, opt.Progress = int64(a.memory), new(mover.Progress)
		stop := showProgress(a, opt.Progress)
		report, err := mover.Restore(ctx, repo, p, opt)
		stop()
		if err != nil {
			return err
		}
		return printRestore(a, report)
	})
}

var errFileInTheWay = errors.New("is in the way")

// fileInTheWay refuses to replace a file that is no image of the volume: one
// that holds something and has another size.
func fileInTheWay(target string, size int64) error {
	if fi, err := os.Stat(target); err == nil && fi.Mode().IsRegular() && fi.Size() != 0 && fi.Size() != size {
		return fmt.Errorf("%s %w: it holds %s, and the volume has %s", target, errFileInTheWay, formatBytes(fi.Size()), formatBytes(size))
	}
	return nil // whatever else is wrong with it, opening it tells
}

// printRestore tells the result on standard output, or on standard error where
// the volume went to standard output (U1).
func printRestore(a *app, r *mover.RestoreReport) error {
	for _, w := range r.Warnings {
		a.console.note("warning: " + w)
	}
	switch {
	case !a.stream && (a.json || !a.quiet):
		return a.print(r, func(w io.Writer) { writeRestore(w, r) })
	case a.stream && a.json:
		return json.NewEncoder(a.console).Encode(r)
	case a.stream && !a.quiet:
		writeRestore(a.console, r)
	}
	return nil
}

func writeRestore(w io.Writer, r *mover.RestoreReport) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("restored", "%.8s  %s  %s to %s", r.Point, r.Volume, formatBytes(r.VolumeBytes), map[bool]string{false: r.Target, true: "standard output"}[r.Target == "-"])
	if r.Resumed != "" {
		row("resumed", "%s", r.Resumed)
	}
	if r.ComparedBytes > 0 {
		row("compared", "%s with what was on the target", formatBytes(r.ComparedBytes))
	}
	row("written", "%s%s", formatBytes(r.WrittenBytes), ifAny(r.ZeroedBytes, ", and %s of zeros"))
	row("fetched", "%s in %s%s", formatBytes(r.FetchedBytes), counted(r.Chunks, "chunk"), ifAny(r.RefetchedBytes, ", of it %s more than once"))
	row("took", "%-9s %s, %s of CPU, %s of memory at most", formatSeconds(r.Seconds), formatRate(float64(r.WrittenBytes)/max(r.Seconds, 1e-3)),
		formatSeconds(r.CPUSeconds), formatBytes(r.PeakMemoryBytes))
}
