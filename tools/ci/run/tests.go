// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// A summary is what the events of `go test -json` amount to.
type summary struct {
	packages, passed int
	failed           []outcome // failed tests, and packages that failed without one: they did not build, or their process died
	skipped          []outcome
	slowest          []outcome // packages, slowest first
}

type outcome struct {
	pkg, test string
	reason    string
	elapsed   float64 // seconds
}

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// summarize reads a stream of test events.
func summarize(r io.Reader) (summary, error) {
	var sum summary
	said := map[string]string{} // test → its last message
	failedIn := map[string]bool{}
	for d := json.NewDecoder(r); ; {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return summary{}, err
		}
		key := e.Package + " " + e.Test
		if e.Action == "output" {
			if m := message.FindStringSubmatch(e.Output); m != nil {
				said[key] = m[1]
			}
			continue
		}
		sum.add(e, said[key], failedIn)
	}
	slices.SortFunc(sum.slowest, func(a, b outcome) int { return cmp.Compare(b.elapsed, a.elapsed) })
	sum.slowest = sum.slowest[:min(5, len(sum.slowest))]
	return sum, nil
}

// message matches what t.Log, t.Skip and their like print: a place in a file, then the words.
var message = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)\n$`)

func (s *summary) add(e event, said string, failedIn map[string]bool) {
	o := outcome{e.Package, e.Test, said, e.Elapsed}
	switch {
	case e.Test == "" && (e.Action == "pass" || e.Action == "fail"):
		s.packages++
		s.slowest = append(s.slowest, o)
		if e.Action == "fail" && !failedIn[e.Package] {
			o.reason = "the package failed as a whole"
			s.failed = append(s.failed, o)
		}
	case e.Test == "":
	case e.Action == "pass":
		s.passed++
	case e.Action == "fail":
		failedIn[e.Package] = true
		s.failed = append(s.failed, o)
	case e.Action == "skip":
		s.skipped = append(s.skipped, o)
	}
}

// String ends a run: failures last, where they are looked for.
func (s summary) String() string {
	var b strings.Builder
	for _, o := range s.slowest {
		fmt.Fprintf(&b, "slow     %8.1f s  %s\n", o.elapsed, o.pkg)
	}
	for _, o := range s.skipped {
		fmt.Fprintf(&b, "skipped  %s %s: %s\n", o.pkg, o.test, o.reason)
	}
	for _, o := range s.failed {
		fmt.Fprintf(&b, "FAILED   %s %s: %s\n", o.pkg, o.test, o.reason)
	}
	fmt.Fprintf(&b, "go test: %d packages with tests, %d tests passed, %d failed, %d skipped\n", s.packages, s.passed, len(s.failed), len(s.skipped))
	return b.String()
}
