// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/open"
	"github.com/tidemark-io/tidemark/mover"
)

const (
	demoData    = 150 << 20
	demoMinData = 8 << 20
	demoVolume  = "demo.img"
)

// demo shows the whole cycle on an image of its own.
type demo struct {
	app   *app
	dir   string
	began time.Time
	image *demoImage
	repo  *chunkstore.Repository

	report demoReport
}

// demoReport is the JSON of demo.
type demoReport struct {
	ImageBytes int64      `json:"imageBytes"`
	DataBytes  int64      `json:"dataBytes"` // what is not a hole
	FileSystem string     `json:"fileSystem"`
	Steps      []demoStep `json:"steps"`
	Identical  bool       `json:"identical"`
	Fsck       string     `json:"fsck"` // "clean", or why it was not run
	Seconds    float64    `json:"seconds"`
	Kept       string     `json:"kept,omitempty"`
}

// demoStep is a line of the table. WholeChunkBytes is what a backup that ships
// each touched chunk whole would have shipped; see wholeChunks.
type demoStep struct {
	Step            string  `json:"step"`
	ChangedBytes    int64   `json:"changedBytes"`
	ReadBytes       int64   `json:"readBytes"`
	ShippedBytes    int64   `json:"shippedBytes"`
	WholeChunkBytes int64   `json:"wholeChunkBytes"`
	Seconds         float64 `json:"seconds"`
	Result          string  `json:"result,omitempty"`
}

func demoCommand(a *app) *cobra.Command {
	var keep bool
	size := sizeValue(demoData)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole cycle on an image made for it, in under a minute",
		Long: `Make an image with real files in a temporary folder (TMPDIR), back it up, change about 1 % of it, back
it up again by a list of changes and once more without one, verify, restore and compare. No root is needed,
and nothing outside the folder is touched.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if size < demoMinData {
				return usage("--size %s is too small: at least %s", formatBytes(int64(size)), formatBytes(demoMinData))
			}
			return a.demo(cmd.Context(), int64(size), keep)
		},
	}
	cmd.Flags().Var(&size, "size", "`size` of the data in the image")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the folder, and say how to look into the repository")
	return cmd
}

func (a *app) demo(ctx context.Context, size int64, keep bool) (err error) {
	defer mover.LimitHeap(0)()
	dir, err := os.MkdirTemp("", "tidemark-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	d := &demo{app: a, dir: dir, began: time.Now()}
	if keep {
		d.report.Kept = dir
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if err := d.makeImage(ctx, size); err != nil {
		return err
	}
	if err := d.withRepository(ctx, func() error { return d.steps(ctx) }); err != nil {
		return err
	}
	d.report.Seconds = time.Since(d.began).Seconds()
	return d.print()
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) makeImage(ctx context.Context, size int64) error {
	mke2fs, err := systemTool("mke2fs")
	if err != nil {
		mke2fs = "" // then without a file system
	}
	d.app.note("making an image with %s of data …", formatBytes(size))
	if d.image, err = newDemoImage(ctx, d.dir, size, mke2fs); err != nil {
		return fmt.Errorf("make the image: %w", err)
	}
	d.report.FileSystem, d.report.ImageBytes = d.image.fileSystem, d.image.size
	d.app.note("%s: %s, %s", demoVolume, formatBytes(d.image.size), d.image.what)
	return nil
}

// withRepository makes a repository in the folder and opens it for fn.
func (d *demo) withRepository(ctx context.Context, fn func() error) (err error) {
	pass := []byte(rand.Text())
	if err := os.WriteFile(d.path("password"), append(pass, '\n'), 0o600); err != nil {
		return err
	}
	store, err := open.Create(ctx, d.path("repository"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if _, err := chunkstore.Init(ctx, store, pass, chunkstore.InitOptions{KDF: testOnlyKDF}); err != nil {
		return err
	}
	d.app.cacheDir = d.path("cache")
	return d.app.withStore(ctx, store, pass, func(repo *chunkstore.Repository) error {
		d.repo = repo
		return fn()
	})
}

func (d *demo) steps(ctx context.Context) error {
	if err := d.backup(ctx, "full backup", mover.BackupOptions{}); err != nil {
		return err
	}
	if err := d.incrementals(ctx); err != nil {
		return err
	}
	if err := d.verify(ctx); err != nil {
		return err
	}
	return d.restore(ctx)
}

// incrementals changes the image and backs it up, with and without a list.
func (d *demo) incrementals(ctx context.Context) error {
	if err := d.image.change(ctx, 1); err != nil {
		return fmt.Errorf("change the image: %w", err)
	}
	list, err := d.writeChanges()
	if err != nil {
		return err
	}
	defer list.Close()
	if err := d.backup(ctx, "incremental, --changes", mover.BackupOptions{Changes: list}); err != nil {
		return err
	}
	if err := d.image.change(ctx, 2); err != nil {
		return fmt.Errorf("change the image: %w", err)
	}
	return d.backup(ctx, "incremental, fingerprint", mover.BackupOptions{})
}

// backup adds a step; the image's changes since the last one are what the
// image itself says, found without Tidemark.
func (d *demo) backup(ctx context.Context, step string, opt mover.BackupOptions) error {
	d.app.note("%s …", step)
	changed, err := d.image.changed()
	if err != nil {
		return err
	}
	base, err := d.repo.Latest(ctx, demoVolume)
	if err != nil {
		return err
	}
	whole, err := wholeChunks(ctx, d.repo, base, changed)
	if err != nil {
		return err
	}
	opt.Source, opt.Volume, opt.Progress = d.image.path, demoVolume, new(mover.Progress)
	r, err := mover.Backup(ctx, d.repo, opt)
	if err != nil {
		return err
	}
	if r.ExitCode() != 0 {
		return fmt.Errorf("%s: the list of changes was found to be wrong: %s", step, r.Reason)
	}
	if err := d.image.remember(); err != nil {
		return err
	}
	if base == nil {
		d.report.DataBytes = r.ReadBytes
	}
	d.report.Steps = append(d.report.Steps, demoStep{
		Step: step, ChangedBytes: r.ChangedBytes, ReadBytes: r.ReadBytes, ShippedBytes: r.ShippedBytes, WholeChunkBytes: whole, Seconds: r.Seconds,
		Result: ifAny(r.AuditBytes, "and %s re-read to check the list"),
	})
	return d.repo.Refresh(ctx)
}
