// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/tidemark-io/tidemark/tools/ci/pinned"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tool:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return installAll(ctx)
	}
	bin, err := pinned.Path(ctx, ".", args[0])
	if err != nil {
		return err
	}
	// The tool takes our place, so its exit code and signals are its own.
	return syscall.Exec(bin, args, os.Environ())
}

func installAll(ctx context.Context) error {
	tools, err := pinned.List(ctx, ".")
	if err != nil {
		return err
	}
	for _, t := range tools {
		bin, err := t.Install(ctx, pinned.CacheDir("."))
		if err != nil {
			return err
		}
		fmt.Printf("%-14s %-40s %s\n", t.Name, t.Version, bin)
	}
	return nil
}
