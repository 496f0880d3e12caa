// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// step is the state of all lanes after one image.
type step struct {
	title string
	lanes []lane
}

func snapshot(title string, lanes []*lane) step {
	s := step{title: title}
	for _, l := range lanes {
		s.lanes = append(s.lanes, lane{name: l.name, data: l.data, unique: l.unique, chunks: l.chunks, cut: l.cut, cutBytes: l.cutBytes})
	}
	return s
}

// printTable writes Markdown: a row for each way of cutting.
func printTable(w io.Writer, steps []step) {
	fmt.Fprint(w, "| cutting |")
	for _, s := range steps {
		fmt.Fprintf(w, " %s (%.2f GiB) |", s.title, float64(s.lanes[0].data)/(1<<30))
	}
	fmt.Fprintf(w, " mean KiB | MB/s |\n|---|%s\n", strings.Repeat("---|", len(steps)+2))
	for i, l := range steps[0].lanes {
		fmt.Fprintf(w, "| %s |", l.name)
		for _, s := range steps {
			fmt.Fprintf(w, " %.3f |", float64(s.lanes[i].unique)/float64(max(s.lanes[i].data, 1)))
		}
		data, chunks, cutBytes, cut := totals(steps, i)
		speed := "-"
		if cut > 0 {
			speed = fmt.Sprintf("%.0f", float64(cutBytes)/1e6/cut.Seconds())
		}
		fmt.Fprintf(w, " %d | %s |\n", data/max(chunks, 1)>>10, speed)
	}
}

// totals adds up the last steps of the sets: a step that begins with + continues the one before.
func totals(steps []step, i int) (data, chunks, cutBytes int64, cut time.Duration) {
	for n, s := range steps {
		if n+1 < len(steps) && strings.HasPrefix(steps[n+1].title, "+") {
			continue
		}
		l := s.lanes[i]
		data, chunks, cutBytes, cut = data+l.data, chunks+l.chunks, cutBytes+l.cutBytes, cut+l.cut
	}
	return data, chunks, cutBytes, cut
}
