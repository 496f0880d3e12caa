// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// budget bounds the whole run: a hung test must not hold a machine for ever.
const budget = 60 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, budget)
	err := run(ctx, os.Args[1:])
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	chosen, err := choose(steps, names)
	if err != nil {
		return err
	}
	// What an earlier run left must not be reported as this one's.
	if err := os.RemoveAll(testLog); err != nil {
		return err
	}
	var results []result
	for _, s := range chosen {
		fmt.Printf("\n=== %s\n", s.name)
		r := execute(ctx, s)
		results = append(results, r)
		fmt.Printf("=== %s: %s\n", s.name, r)
	}
	fmt.Print("\n", table(results))
	if err := printTests(os.Stdout, testLog); err != nil {
		return err
	}
	if n := failures(results); n > 0 {
		return fmt.Errorf("%d of %d steps failed", n, len(results))
	}
	return nil
}

// choose returns the steps whose name or group is among names, all of them if there are no names.
func choose(all []step, names []string) ([]step, error) {
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s step) bool { return name == s.name || name == s.group }) {
			return nil, fmt.Errorf("no step or group is called %q", name)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(s step) bool {
		return !slices.Contains(names, s.name) && !slices.Contains(names, s.group)
	}), nil
}

// printTests reports the tests of this run, if the test step was part of it.
func printTests(w *os.File, log string) error {
	f, err := os.Open(log)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := summarize(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", log, err)
	}
	_, err = fmt.Fprint(w, "\n", sum)
	return err
}

func failures(results []result) int {
	n := 0
	for _, r := range results {
		if r.err != nil {
			n++
		}
	}
	return n
}

// table is the closing word of a run.
func table(results []result) string {
	var b strings.Builder
	var total time.Duration
	for _, r := range results {
		total += r.took
		fmt.Fprintf(&b, "%-14s %s\n", r.name, r)
	}
	fmt.Fprintf(&b, "%-14s        %8s\n", "total", seconds(total))
	return b.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
