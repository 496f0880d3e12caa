// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/mover"
)

func verifyCommand(a *app) *cobra.Command {
	var read percentValue
	cmd := &cobra.Command{
		Use:   "verify [POINT…]",
		Short: "Prove that restore points are whole",
		Long: `Prove that restore points (all, if none is named) are whole: every map is read and every chunk
it names is found. With --read-data packs are read and every chunk in them decoded and compared
with its name, too. Damage is named with the points that suffer, and ends with exit code 3.

` + pointHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.verify(cmd.Context(), args, mover.VerifyOptions{ReadData: float64(read), Seed: rand.Uint64()})
		},
	}
	cmd.Flags().Var(&read, "read-data", "read the data of this `percent` of the packs, chosen at random (all, if no number is given)")
	cmd.Flags().Lookup("read-data").NoOptDefVal = "100"
	memoryFlag(a, cmd)
	return cmd
}

func (a *app) verify(ctx context.Context, specs []string, opt mover.VerifyOptions) error {
	return a.with(ctx, func(repo *chunkstore.Repository) error {
		points, err := pointsFor(ctx, repo, specs)
		if err != nil {
			return err
		}
		opt.Memory, opt.Progress = int64(a.memory), new(mover.Progress)
		stop := showProgress(a, opt.Progress)
		report, err := mover.Verify(ctx, repo, points, opt)
		stop()
		if err != nil {
			return err
		}
		return printVerify(a, report)
	})
}

// pointsFor finds the points that are named; nil, which is all, if none is.
func pointsFor(ctx context.Context, repo *chunkstore.Repository, specs []string) ([]*chunkstore.Point, error) {
	var points []*chunkstore.Point
	for _, s := range specs {
		p, err := lookup(ctx, repo, s)
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}

func printVerify(a *app, r *mover.VerifyReport) error {
	err := a.print(r, func(w io.Writer) {
		if !a.quiet || len(r.Problems) > 0 {
			writeVerify(w, r)
		}
	})
	if err == nil && r.ExitCode() != 0 {
		a.console.note(fmt.Sprintf("tidemark: the repository is damaged: %s", counted(int64(len(r.Problems)), "problem")))
		return exitCode(r.ExitCode())
	}
	return err
}

func writeVerify(w io.Writer, r *mover.VerifyReport) {
	fmt.Fprintf(w, "verified %s: %s, %s, %s\n", counted(int64(r.Points), "point"), counted(r.Nodes, "map node"), counted(r.Chunks, "chunk"), counted(r.Packs, "pack"))
	if r.PacksRead > 0 {
		fmt.Fprintf(w, "read the data of %s (%s of them), %s fetched\n", counted(r.PacksRead, "pack"), share(r.PacksRead, r.Packs), formatBytes(r.FetchedBytes))
	}
	for _, p := range r.Problems {
		var short []string
		for _, id := range p.Points {
			short = append(short, fmt.Sprintf("%.8s", id))
		}
		fmt.Fprintf(w, "damaged: %s, offset %d: %s; points that suffer: %s\n", p.Object, p.Offset, p.Detail, orDash(strings.Join(short, " ")))
	}
	if len(r.Problems) == 0 {
		fmt.Fprintf(w, "no damage found, in %s\n", formatSeconds(r.Seconds))
	}
}

// percentValue is a flag that takes a percentage above 0 and up to 100.
type percentValue float64

func (p *percentValue) String() string {
	if *p == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(*p), 'g', -1, 64)
}

// Set implements pflag.Value.
func (p *percentValue) Set(text string) error {
	f, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || math.IsNaN(f) || f <= 0 || f > 100 {
		return fmt.Errorf("%q is no percentage above 0 and up to 100", text)
	}
	*p = percentValue(f)
	return nil
}

// Type names the value in help texts.
func (p *percentValue) Type() string { return "percent" }
