// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/mover"
)

func statsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Count what the repository holds",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(repo *chunkstore.Repository) error {
				s, err := mover.Stats(cmd.Context(), repo)
				if err != nil {
					return err
				}
				return a.print(s, func(w io.Writer) { writeStats(w, s) })
			})
		},
	}
}

func writeStats(w io.Writer, s *mover.RepositoryStats) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("points", "%d of %s", s.Points, counted(int64(s.Volumes), "volume"))
	row("stored", "%s in %s, and %s of index", formatBytes(s.PackBytes), counted(s.Packs, "pack"), formatBytes(s.IndexBytes))
	for _, class := range []string{"base", "patch", "map"} {
		if c := s.Classes[class]; c.Packs > 0 {
			row("  "+class, "%s in %s", formatBytes(c.Bytes), counted(c.Packs, "pack"))
		}
	}
	row("chunks", "%d", s.Chunks)
	row("holds", "%s that the points map, of volumes of %s in all", formatBytes(s.MappedBytes), formatBytes(s.VolumeBytes))
	if s.DedupRatio > 0 {
		row("saved", "a stored byte of data serves %.2f bytes of points", s.DedupRatio)
	}
	if len(s.Undecided) > 0 {
		numbers := strings.Trim(fmt.Sprint(s.Undecided), "[]")
		row("undecided", "%s (running, or killed and not yet resumed): %s", counted(int64(len(s.Undecided)), "session"), numbers)
	}
}
