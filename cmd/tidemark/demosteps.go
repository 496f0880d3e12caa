// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/mover"
)

// writeChanges writes the list that a change tracker would give, and opens it.
func (d *demo) writeChanges() (_ *os.File, err error) {
	changed, err := d.image.changed()
	if err != nil {
		return nil, err
	}
	f, err := os.Create(d.path("changes.json"))
	if err != nil {
		return nil, err
	}
	if err := blockdiff.WriteClaim(f, changed); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// wholeChunks is what a backup that ships every touched chunk whole would have
// shipped: the stored length (compressed and sealed) of the distinct chunks of
// the base that the changed ranges touch. Ranges that were holes in the base
// add nothing, so it is rather too little.
func wholeChunks(ctx context.Context, repo *chunkstore.Repository, base *chunkstore.Point, changed blockdiff.Ranges) (int64, error) {
	if base == nil {
		return 0, nil
	}
	seen := map[chunk.ID]bool{}
	total := int64(0)
	for _, r := range changed {
		it := imagemap.NewIterator(repo, base.Map, r.Offset, r.End(), imagemap.Options{})
		for {
			e, ok, err := it.Next(ctx)
			if err != nil {
				return 0, err
			}
			if !ok {
				break
			}
			if seen[e.Chunk] {
				continue
			}
			seen[e.Chunk] = true
			loc, err := repo.Locate(ctx, e.Chunk)
			if err != nil {
				return 0, err
			}
			total += int64(loc.Stored)
		}
	}
	return total, nil
}

func (d *demo) verify(ctx context.Context) error {
	d.app.note("verify --read-data …")
	points, err := d.repo.Points(ctx, demoVolume)
	if err != nil {
		return err
	}
	r, err := mover.Verify(ctx, d.repo, points, mover.VerifyOptions{ReadData: 100})
	if err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("verify found damage: %s: %s", r.Problems[0].Object, r.Problems[0].Detail)
	}
	d.report.Steps = append(d.report.Steps, demoStep{
		Step: "verify --read-data", ReadBytes: r.FetchedBytes, Seconds: r.Seconds,
		Result: fmt.Sprintf("%s whole", counted(int64(len(points)), "point")),
	})
	return nil
}

func (d *demo) restore(ctx context.Context) error {
	d.app.note("restore, compare …")
	p, err := d.repo.Resolve(ctx, demoVolume+"@latest")
	if err != nil {
		return err
	}
	restored := d.path("restored.img")
	r, err := mover.Restore(ctx, d.repo, p, mover.RestoreOptions{Target: restored})
	if err != nil {
		return err
	}
	if err := sameFiles(ctx, d.image.path, restored); err != nil {
		return err
	}
	d.report.Identical = true
	if d.report.Fsck, err = d.image.fsck(ctx, restored); err != nil {
		return err
	}
	result := "identical to the image"
	if d.report.Fsck == "clean" {
		result += ", e2fsck: clean"
	}
	d.report.Steps = append(d.report.Steps, demoStep{Step: "restore", ReadBytes: r.FetchedBytes, Seconds: r.Seconds, Result: result})
	return nil
}

// sameFiles compares two files byte by byte.
func sameFiles(ctx context.Context, one, other string) error {
	a, err := os.Open(one)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(other)
	if err != nil {
		return err
	}
	defer b.Close()
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(bufA)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if n != m || !bytes.Equal(bufA[:n], bufB[:m]) {
			return fmt.Errorf("what was restored differs from the image near offset %d", off)
		}
		switch {
		case isEnd(errA) && isEnd(errB):
			return nil
		case errA != nil || errB != nil:
			return errors.Join(errA, errB)
		}
	}
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func (d *demo) print() error {
	return d.app.print(d.report, func(w io.Writer) {
		rows := [][]string{{"STEP", "CHANGED", "READ", "SHIPPED", "TIME", "WHOLE CHUNKS*", ""}}
		for _, s := range d.report.Steps {
			rows = append(rows, []string{
				s.Step, bytesOrDash(s.ChangedBytes), bytesOrDash(s.ReadBytes), bytesOrDash(s.ShippedBytes), formatSeconds(s.Seconds), bytesOrDash(s.WholeChunkBytes), s.Result,
			})
		}
		writeTable(w, rows)
		fmt.Fprintln(w, "* what shipping each touched chunk whole would have cost (their stored bytes; new files not counted)")
		fmt.Fprintf(w, "\n%s in all", formatSeconds(d.report.Seconds))
		if d.report.Kept == "" {
			fmt.Fprintln(w, "; the demo's folder is removed (--keep keeps it)")
			return
		}
		fmt.Fprintf(w, "; look around:\n\n  export TIDEMARK_REPO=%s TIDEMARK_PASSWORD_FILE=%s\n  tidemark points\n", d.path("repository"), d.path("password"))
	})
}

func bytesOrDash(n int64) string {
	if n == 0 {
		return "–"
	}
	return formatBytes(n)
}
