// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/mover"
)

func diffCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff POINT POINT",
		Short: "List the ranges in which two points may differ",
		Long: `List the ranges of the second point in which it may differ from the first: exact between a point and
one it was made from, and never too little. One range a line, offset and length in bytes; with --json
in the form that backup --changes reads.

` + pointHelp,
		Args: exactly("POINT", "POINT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(repo *chunkstore.Repository) error {
				return a.diff(cmd.Context(), repo, args[0], args[1])
			})
		},
	}
}

func (a *app) diff(ctx context.Context, repo *chunkstore.Repository, from, to string) error {
	before, err := lookup(ctx, repo, from)
	if err != nil {
		return err
	}
	after, err := lookup(ctx, repo, to)
	if err != nil {
		return err
	}
	d := diffWriter{app: a}
	if err := mover.Diff(ctx, repo, before, after, d.add); err != nil {
		return err
	}
	if err := d.end(); err != nil {
		return err
	}
	a.note("%s in %s", formatBytes(d.bytes), counted(d.count, "range"))
	return nil
}

// diffWriter joins ranges that touch and writes them as they come.
type diffWriter struct {
	app    *app
	off, n int64
	count  int64
	bytes  int64
}

func (d *diffWriter) add(off, n int64) error {
	if d.n > 0 && off == d.off+d.n {
		d.n += n
		return nil
	}
	err := d.flush()
	d.off, d.n = off, n
	return err
}

func (d *diffWriter) flush() (err error) {
	if d.n == 0 {
		return nil
	}
	if d.app.json {
		separator := ","
		if d.count == 0 {
			separator = "["
		}
		_, err = fmt.Fprintf(d.app.out, "%s\n{\"offset\":%d,\"length\":%d}", separator, d.off, d.n)
	} else {
		_, err = fmt.Fprintf(d.app.out, "%d\t%d\n", d.off, d.n)
	}
	d.count++
	d.bytes += d.n
	return err
}

func (d *diffWriter) end() error {
	err := d.flush()
	if err == nil && d.app.json {
		end := "\n]\n"
		if d.count == 0 {
			end = "[]\n"
		}
		_, err = d.app.out.WriteString(end)
	}
	return err
}
