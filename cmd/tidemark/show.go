// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/chunkstore"
)

// pointDetails is the JSON of show.
type pointDetails struct {
	pointJSON
	ReadBytes     int64       `json:"readBytes"`
	MovedBytes    int64       `json:"movedBytes"`
	Chunks        int64       `json:"chunks"`
	NewChunks     int64       `json:"newChunks"`
	Session       uint64      `json:"session"`
	Line          string      `json:"line"`
	Root          string      `json:"root"`
	Chunker       string      `json:"chunker"`
	DigestBytes   int         `json:"digestBytes"`
	Map           mapJSON     `json:"map"`
	Audit         auditJSON   `json:"audit"`
	Unreadable    []rangeJSON `json:"unreadable,omitempty"`
	SkippedRanges []rangeJSON `json:"skipped,omitempty"`
}

type mapJSON struct {
	Runs    int    `json:"runs"`
	Extents uint64 `json:"extents"` // of base and runs; some hide others
	Bytes   int64  `json:"bytes"`   // plaintext of base and runs
}

type auditJSON struct {
	Sampled int64 `json:"sampled"`
	Missed  int64 `json:"missed"`
}

type rangeJSON struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

func rangesOf(rs []chunkstore.VolumeRange) []rangeJSON {
	var out []rangeJSON
	for _, r := range rs {
		out = append(out, rangeJSON(r))
	}
	return out
}

func detailsOf(p *chunkstore.Point) pointDetails {
	d := pointDetails{
		pointJSON: pointOf(p), ReadBytes: p.Counts.Read, MovedBytes: p.Counts.Cleaned, Chunks: p.Counts.Chunks, NewChunks: p.Counts.NewChunks,
		Session: p.Session, Line: p.Line, Root: p.Root, Chunker: string(p.Chunker), DigestBytes: p.Digests,
		Map:        mapJSON{Runs: len(p.Map.Runs), Extents: p.Map.Base.Extents, Bytes: p.Map.Base.Stored},
		Audit:      auditJSON{Sampled: p.Audit.Sampled, Missed: p.Audit.Missed},
		Unreadable: rangesOf(p.Lost), SkippedRanges: rangesOf(p.Skipped),
	}
	for _, r := range p.Map.Runs {
		d.Map.Extents += r.Extents
		d.Map.Bytes += r.Stored
	}
	return d
}

func showCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show POINT",
		Short: "Show one restore point: what it holds and how it was made",
		Long:  "Show one restore point: what it holds and how it was made.\n\n" + pointHelp,
		Args:  exactly("POINT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(repo *chunkstore.Repository) error { return a.show(cmd.Context(), repo, args[0]) })
		},
	}
}

const pointHelp = `POINT is the beginning of a point's id, VOLUME@latest, VOLUME@-2 (two before the latest), or
VOLUME@2026-11-22T10:00 (the newest made by then; local time unless a zone is given).`

func (a *app) show(ctx context.Context, repo *chunkstore.Repository, spec string) error {
	p, err := lookup(ctx, repo, spec)
	if err != nil {
		return err
	}
	d := detailsOf(p)
	return a.print(d, func(w io.Writer) { writePoint(w, &d, time.Now()) })
}

func writePoint(w io.Writer, d *pointDetails, now time.Time) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("point", "%s", d.ID)
	row("volume", "%s", d.Volume)
	row("created", "%s (%s ago)", formatTime(d.Created), formatSeconds(max(0, now.Sub(d.Created).Seconds())))
	row("size", "%s (%d bytes)", formatBytes(d.VolumeBytes), d.VolumeBytes)
	row("how", "%s: %s", d.Source, d.Reason)
	row("trust", "%s", map[string]string{"read": "every byte was read", "audited": "a list of changes, checked by sample"}[d.Trust])
	row("base", "%s", orDash(d.Base))
	row("snapshot", "%s", orDash(d.Snapshot))
	row("tags", "%s", orDash(tagText(d.Tags)))
	row("changed", "%-12s %s of the volume", formatBytes(d.ChangedBytes), share(d.ChangedBytes, d.VolumeBytes))
	row("read", "%s", formatBytes(d.ReadBytes))
	row("new", "%-12s in %d of %s", formatBytes(d.NewBytes), d.NewChunks, counted(d.Chunks, "chunk"))
	row("map", "%s in %s, %s", counted(int64(d.Map.Extents), "extent"), counted(int64(d.Map.Runs+1), "layer"), formatBytes(d.Map.Bytes))
	row("cut", "%s, a fingerprint per %s", d.Chunker, formatBytes(int64(d.DigestBytes)))
	if d.Audit.Sampled > 0 {
		row("audit", "%s compared, %s found changed but not listed", formatBytes(d.Audit.Sampled), formatBytes(d.Audit.Missed))
	}
	row("root", "%s", d.Root)
	for _, r := range d.Unreadable {
		row("unreadable", "%s at offset %d; reads as zeros", formatBytes(r.Length), r.Offset)
	}
	for _, r := range d.SkippedRanges {
		row("skipped", "%s at offset %d: free space; reads as zeros", formatBytes(r.Length), r.Offset)
	}
}
