// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: fuzz TIME [package…]")
	}
	if _, err := time.ParseDuration(args[0]); err != nil {
		return err
	}
	patterns := args[1:]
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	found, err := targets(ctx, patterns)
	if err != nil {
		return err
	}
	var failed []string
	for i, t := range found {
		fmt.Printf("[%d/%d] %s %s\n", i+1, len(found), t.pkg, t.name)
		// Minimizing costs up to a minute for each input, which large inputs take from fuzzing: one attempt is enough.
		c := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", args[0], "-fuzzminimizetime", "1x", t.pkg)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if err := c.Run(); err != nil {
			failed = append(failed, t.pkg+" "+t.name)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d targets failed:\n  %s", len(failed), len(found), strings.Join(failed, "\n  "))
	}
	fmt.Printf("%d targets, %s each: no failure\n", len(found), args[0])
	return nil
}

type target struct{ pkg, name string }

// targets asks the test binaries themselves, so build tags and generated tests are seen as they are.
func targets(ctx context.Context, patterns []string) ([]target, error) {
	c := exec.CommandContext(ctx, "go", append([]string{"test", "-json", "-list", "^Fuzz"}, patterns...)...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("list fuzz targets: %w", err)
	}
	return parseList(out)
}

// parseList reads the events of `go test -json -list`.
func parseList(events []byte) ([]target, error) {
	var found []target
	for d := json.NewDecoder(bytes.NewReader(events)); ; {
		var e struct{ Action, Package, Output string }
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("read test events: %w", err)
		}
		name := strings.TrimSpace(e.Output)
		if e.Action == "output" && strings.HasPrefix(name, "Fuzz") {
			found = append(found, target{e.Package, name})
		}
	}
}
