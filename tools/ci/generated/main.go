// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

func main() {
	if err := run(context.Background(), "."); err != nil {
		fmt.Fprintln(os.Stderr, "generated:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	before, err := state(ctx, dir)
	if err != nil {
		return err
	}
	if _, err := output(ctx, dir, "go", "generate", "./..."); err != nil {
		return err
	}
	after, err := state(ctx, dir)
	if err != nil {
		return err
	}
	if !bytes.Equal(before, after) {
		return errors.New("generated files are stale; run make generate and commit what it changes")
	}
	return nil
}

// state tells the work tree apart from any other: the files git does not know, by name, and all changes to those it does.
func state(ctx context.Context, dir string) ([]byte, error) {
	names, err := output(ctx, dir, "git", "status", "--porcelain", "--untracked-files=all")
	if err != nil {
		return nil, err
	}
	changes, err := output(ctx, dir, "git", "diff", "--binary")
	if err != nil {
		return nil, err
	}
	return append(names, changes...), nil
}

func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %v: %w", name, args, err)
	}
	return out, nil
}
