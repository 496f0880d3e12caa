// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
)

// row is one number: a ratio to a yardstick, or a figure, and its bound where one was promised.
type row struct {
	Case   string  `json:"case"`
	What   string  `json:"what"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit,omitempty"` // "" for a ratio
	Bound  float64 `json:"bound,omitempty"`
	Least  bool    `json:"least,omitempty"` // the bound is a lower one
	Pass   bool    `json:"pass"`            // true where there is no bound
	Detail string  `json:"detail"`
}

// zero is the bound of what must not happen at all; 0 says that there is none.
const zero = 1e-9

func (r *row) bounded() bool { return r.Bound != 0 }

// table is what a run found out so far.
type table struct {
	current string // case
	rows    []row
}

// say tells a person who waits what is going on.
func (t *table) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%-12s %s\n", t.current, fmt.Sprintf(format, args...))
}

// atMost adds a row that must not exceed its bound.
func (t *table) atMost(what string, value, bound float64, unit, detail string, args ...any) {
	t.add(row{What: what, Value: value, Bound: bound, Unit: unit, Pass: value <= bound, Detail: fmt.Sprintf(detail, args...)})
}

// atLeast adds a ratio that must reach its bound.
func (t *table) atLeast(what string, value, bound float64, detail string, args ...any) {
	t.add(row{What: what, Value: value, Bound: bound, Least: true, Pass: value >= bound, Detail: fmt.Sprintf(detail, args...)})
}

// info adds a row nobody promised anything about.
func (t *table) info(what string, value float64, unit, detail string, args ...any) {
	t.add(row{What: what, Value: value, Unit: unit, Pass: true, Detail: fmt.Sprintf(detail, args...)})
}

func (t *table) add(r row) {
	r.Case = t.current
	t.rows = append(t.rows, r)
	t.say("%s: %s (%s) %s  %s", r.What, r.figure(), r.bound(), r.verdict(), r.Detail)
}

func (t *table) missed() (n int) {
	for i := range t.rows {
		if !t.rows[i].Pass {
			n++
		}
	}
	return n
}

func (r *row) figure() string {
	format := "%.3g"
	if r.Value >= 100 {
		format = "%.0f" // no powers of ten
	}
	return strings.TrimSuffix(fmt.Sprintf(format+" %s", r.Value, r.Unit), " ")
}

func (r *row) bound() string {
	switch {
	case !r.bounded():
		return "-"
	case r.Least:
		return fmt.Sprintf("≥ %.4g", r.Bound)
	}
	if r.Bound == zero {
		return "0"
	}
	return fmt.Sprintf("≤ %.4g", r.Bound)
}

func (r *row) verdict() string {
	switch {
	case !r.bounded():
		return ""
	case r.Pass:
		return "ok"
	}
	return "MISSED"
}

// machine says where the figures come from.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Volume string `json:"volume"`
	Bytes  int64  `json:"volumeBytes"`
	Data   int64  `json:"dataBytes"`
}

func (b *bench) machine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Volume: b.volume.kind, Bytes: b.size, Data: b.volume.data}
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(data))
	}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

func (t *table) print(w io.Writer, m machine, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Machine machine `json:"machine"`
			Rows    []row   `json:"rows"`
			Missed  int     `json:"missed"`
		}{m, t.rows, t.missed()})
	}
	fmt.Fprintf(w, "%s of %s with %s of data; %d cores of %s, Linux %s, %s\n\n",
		m.Volume, byteSize(m.Bytes), byteSize(m.Data), m.Cores, m.CPU, m.Kernel, m.Go)
	lines := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(lines, "case\tnumber\tmeasured\tbound\t\tdetail")
	last, bounded := "", 0
	for i := range t.rows {
		r := &t.rows[i]
		name := r.Case
		if name == last {
			name = ""
		}
		last = r.Case
		if r.bounded() {
			bounded++
		}
		fmt.Fprintf(lines, "%s\t%s\t%s\t%s\t%s\t%s\n", name, r.What, r.figure(), r.bound(), r.verdict(), r.Detail)
	}
	if err := lines.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d of %d bounds kept\n", bounded-t.missed(), bounded)
	return err
}
