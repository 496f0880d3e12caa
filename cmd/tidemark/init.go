// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/open"
)

// initReport is the JSON of init.
type initReport struct {
	Repository string      `json:"repository"`
	ID         string      `json:"id"`
	Created    bool        `json:"created"`
	Version    int         `json:"version"`
	Chunker    chunkerJSON `json:"chunker"`
}

type chunkerJSON struct {
	AverageBytes int64 `json:"averageBytes"`
	MinBytes     int64 `json:"minBytes"`
	MaxBytes     int64 `json:"maxBytes"`
}

func chunkerOf(c chunkstore.Chunker) chunkerJSON {
	return chunkerJSON{AverageBytes: 1 << c.Bits, MinBytes: int64(c.Min), MaxBytes: int64(c.Max)}
}

func (c chunkerJSON) String() string {
	return fmt.Sprintf("%s on average, %s to %s", formatBytes(c.AverageBytes), formatBytes(c.MinBytes), formatBytes(c.MaxBytes))
}

func initCommand(a *app) *cobra.Command {
	var avg, least, most sizeValue
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create a repository; one that is there stays as it is",
		Long: `Create a repository in a folder (made if it is missing) or a bucket (which must be there).
One that is there already stays as it is, and init says so.

Without its passphrase nothing of a repository can be read, by anyone: keep it elsewhere, too.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := chooseChunker(int64(avg), int64(least), int64(most))
			if err != nil {
				return err
			}
			return a.init(cmd.Context(), c)
		},
	}
	d := chunkerOf(chunkstore.DefaultChunker)
	f := cmd.Flags()
	f.Var(&avg, "chunk-avg", fmt.Sprintf("distance of cuts beyond the smallest chunk, on average; a power of two (default %s)", formatBytes(d.AverageBytes)))
	f.Var(&least, "chunk-min", fmt.Sprintf("smallest chunk (default %s)", formatBytes(d.MinBytes)))
	f.Var(&most, "chunk-max", fmt.Sprintf("largest chunk (default %s)", formatBytes(d.MaxBytes)))
	return cmd
}

// chooseChunker fills in the defaults, 0 being none given.
func chooseChunker(avg, least, most int64) (chunkstore.Chunker, error) {
	c := chunkstore.DefaultChunker
	if avg != 0 {
		if bits.OnesCount64(uint64(avg)) != 1 {
			return c, usage("--chunk-avg %s is not a power of two", formatBytes(avg))
		}
		c.Bits = bits.TrailingZeros64(uint64(avg))
	}
	for _, v := range []struct {
		size int64
		to   *int
	}{{least, &c.Min}, {most, &c.Max}} {
		if v.size != 0 {
			*v.to = int(min(v.size, 1<<40)) // Validate refuses what is too large
		}
	}
	if err := c.Validate(); err != nil {
		return c, &usageError{err}
	}
	return c, nil
}

func (a *app) init(ctx context.Context, c chunkstore.Chunker) (err error) {
	store, err := a.openStore(ctx, open.Create)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	pass, err := a.passphrase(ctx, true)
	if err != nil {
		return err
	}
	created, err := chunkstore.Init(ctx, store, pass, chunkstore.InitOptions{Chunker: c, KDF: testOnlyKDF})
	if err != nil {
		return err
	}
	return a.withStore(ctx, store, pass, func(repo *chunkstore.Repository) error {
		return printInit(a, store, repo.Config(), created, c)
	})
}

func printInit(a *app, store objstore.Store, config chunkstore.Config, created bool, asked chunkstore.Chunker) error {
	r := initReport{Repository: store.String(), ID: config.ID, Created: created, Version: config.Version, Chunker: chunkerOf(config.Chunker)}
	if !created && asked != config.Chunker && asked != chunkstore.DefaultChunker {
		a.note("the repository keeps the chunk sizes that it was created with: %s", r.Chunker)
	}
	return a.print(r, func(w io.Writer) {
		if created {
			fmt.Fprintf(w, "created repository %.8s at %s (chunks: %s)\n", r.ID, r.Repository, r.Chunker)
			return
		}
		fmt.Fprintf(w, "repository %.8s at %s is there already, created %s; nothing was changed\n", r.ID, r.Repository, formatTime(config.Created))
	})
}
