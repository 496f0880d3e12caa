// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// testLog is where `make test` leaves the events of its tests.
const testLog = ".cache/test.jsonl"

// A step is a few commands that stand or fall together.
type step struct {
	name, group string
	commands    [][]string
	env         []string
	silent      bool          // output means failure, for tools that list what they dislike and exit with 0
	skip        func() string // why the step is skipped, "" if it is not
}

var steps = []step{
	{name: "setup", commands: [][]string{{"go", "run", "./tools/ci/setup"}}},
	// Built as `make build` does, which the demo needs: with other flags everything would be compiled once more.
	{name: "build", commands: [][]string{{"go", "build", "-trimpath", "./..."}}, env: []string{"CGO_ENABLED=0"}},
	{name: "build-arm64", commands: [][]string{{"go", "build", "./..."}}, env: []string{"CGO_ENABLED=0", "GOARCH=arm64"}},
	{name: "golangci-lint", group: "lint", commands: [][]string{{"go", "run", "./tools/ci/tool", "golangci-lint", "run", "./..."}}},
	{name: "vet", group: "lint", commands: [][]string{{"go", "vet", "./..."}}},
	{name: "format", group: "lint", silent: true, commands: [][]string{{"go", "run", "./tools/ci/tool", "gofumpt", "-l", "."}}},
	{name: "tidy", group: "lint", commands: [][]string{
		{"go", "mod", "tidy", "-diff"},
		{"go", "-C", "tools/pinned", "mod", "tidy", "-diff"},
		{"go", "-C", "tools/servers", "mod", "tidy", "-diff"},
	}},
	{name: "hygiene", group: "lint", commands: [][]string{{"go", "test", "-count=1", "."}}},
	{name: "generated", group: "lint", commands: [][]string{{"go", "run", "./tools/ci/generated"}}},
	{name: "test", commands: [][]string{{"make", "test"}}},
	{name: "allocations", commands: [][]string{{"make", "allocs"}}},
	{name: "demo", commands: [][]string{{"make", "demo"}}, skip: without("cmd/tidemark/*.go", "there is no command to demonstrate")},
}

// without skips a step where no file matches.
func without(pattern, why string) func() string {
	return func() string {
		if m, err := filepath.Glob(pattern); err == nil && len(m) > 0 {
			return ""
		}
		return why
	}
}

// A result is what became of a step.
type result struct {
	name    string
	skipped string
	err     error
	took    time.Duration
}

func (r result) String() string {
	switch {
	case r.skipped != "":
		return "skipped         -  " + r.skipped
	case r.err != nil:
		return fmt.Sprintf("FAILED %8s  %v", seconds(r.took), r.err)
	}
	return fmt.Sprintf("ok     %8s", seconds(r.took))
}

// execute runs the commands of a step until one fails.
func execute(ctx context.Context, s step) result {
	r := result{name: s.name}
	if s.skip != nil {
		if r.skipped = s.skip(); r.skipped != "" {
			return r
		}
	}
	start := time.Now()
	for _, argv := range s.commands {
		if r.err = command(ctx, s, argv); r.err != nil {
			break
		}
	}
	r.took = time.Since(start)
	return r
}

// command runs argv in a process group of its own, without standard input, and ends the whole group when the context does.
func command(ctx context.Context, s step, argv []string) error {
	var said bytes.Buffer
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env = append(os.Environ(), s.env...)
	c.Stdout, c.Stderr = io.MultiWriter(os.Stdout, &said), os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 10 * time.Second
	err := c.Run()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("stopped: %w", ctx.Err())
	case err != nil:
		return fmt.Errorf("%v: %w", argv, err)
	case s.silent && said.Len() > 0:
		return errors.New("the files listed above need it")
	}
	return nil
}
