// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/chunkstore"
)

// pointJSON is a restore point in the JSON of points.
type pointJSON struct {
	ID              string            `json:"id"`
	Volume          string            `json:"volume"`
	Created         time.Time         `json:"created"`
	VolumeBytes     int64             `json:"volumeBytes"`
	Base            string            `json:"base,omitempty"`
	Snapshot        string            `json:"snapshot,omitempty"`
	Source          string            `json:"source"`
	Reason          string            `json:"reason"`
	Trust           string            `json:"trust"`
	ChangedBytes    int64             `json:"changedBytes"`
	NewBytes        int64             `json:"newBytes"`
	UnreadableBytes int64             `json:"unreadableBytes,omitempty"`
	Tags            map[string]string `json:"tags,omitempty"`
}

func pointOf(p *chunkstore.Point) pointJSON {
	j := pointJSON{
		ID: p.ID, Volume: p.Volume, Created: p.Created.UTC(), VolumeBytes: p.Size, Snapshot: p.Snapshot,
		Source: p.Source, Reason: p.Reason, Trust: p.Trust, ChangedBytes: p.Counts.Changed, NewBytes: p.Counts.New, Tags: p.Tags,
	}
	if p.Base != nil {
		j.Base = p.Base.ID
	}
	for _, r := range p.Lost {
		j.UnreadableBytes += r.Length
	}
	return j
}

func pointsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "points [VOLUME]",
		Short: "List the restore points, oldest first",
		Args:  atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(repo *chunkstore.Repository) error {
				return a.points(cmd.Context(), repo, strings.Join(args, ""))
			})
		},
	}
}

func (a *app) points(ctx context.Context, repo *chunkstore.Repository, volume string) error {
	points, damage := repo.Points(ctx, volume)
	damage = errors.Join(damage, errors.Join(repo.Damaged()...)) // an outcome may have named more
	if damage != nil && len(points) == 0 {
		return damage
	}
	if volume != "" && len(points) == 0 {
		return fmt.Errorf("%w: volume %q has none", chunkstore.ErrNoPoint, volume)
	}
	list := struct {
		Points []pointJSON `json:"points"`
	}{[]pointJSON{}}
	for _, p := range points {
		list.Points = append(list.Points, pointOf(p))
	}
	// One damaged point must not hide the others on the day they are needed.
	err := a.print(list, func(w io.Writer) {
		switch {
		case a.quiet:
			for _, p := range list.Points {
				fmt.Fprintln(w, p.ID)
			}
		case len(points) == 0:
			fmt.Fprintln(w, "no restore points yet")
		default:
			writePoints(w, list.Points)
		}
	})
	return errors.Join(err, damage)
}

func writePoints(w io.Writer, points []pointJSON) {
	rows := [][]string{{"POINT", "VOLUME", "CREATED", "SIZE", "CHANGED", "SOURCE", "SNAPSHOT", "TAGS"}}
	for _, p := range points {
		rows = append(rows, []string{
			p.ID[:min(8, len(p.ID))], p.Volume, formatTime(p.Created), formatBytes(p.VolumeBytes), formatBytes(p.ChangedBytes),
			p.Source, orDash(p.Snapshot), orDash(tagText(p.Tags)),
		})
	}
	writeTable(w, rows)
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func tagText(tags map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, k+"="+tags[k])
	}
	return strings.Join(out, ",")
}

var when = regexp.MustCompile(`^(latest|-[0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+(Z|[+-][0-9:]+)?)?)$`)

// lookup finds the point that is meant. What cannot be meant is a mistake of
// the command line, whatever the repository holds.
func lookup(ctx context.Context, repo *chunkstore.Repository, spec string) (*chunkstore.Point, error) {
	if i := strings.LastIndexByte(spec, '@'); i >= 0 {
		w := spec[i+1:]
		ok := when.MatchString(w)
		if ok && len(w) >= len(time.DateOnly) {
			_, err := time.Parse(time.DateOnly, w[:len(time.DateOnly)])
			ok = err == nil
		}
		if !ok {
			return nil, usage("%q in %q is no time like 2026-11-22T10:00, nor latest, nor -2", w, spec)
		}
	}
	return repo.Resolve(ctx, spec)
}
