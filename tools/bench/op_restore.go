// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/mover"
)

// restoreArgs are one restore of the newest point.
type restoreArgs struct {
	Repo, Target string
	Delta        bool
	Memory       int64
}

func restoreOp(ctx context.Context, a restoreArgs) (report *mover.RestoreReport, err error) {
	err = withRepo(ctx, a.Repo, a.Memory, func(repo *chunkstore.Repository) error {
		p, err := repo.Latest(ctx, volumeName)
		if err != nil {
			return err
		}
		report, err = mover.Restore(ctx, repo, p, mover.RestoreOptions{Target: a.Target, Delta: a.Delta, Memory: a.Memory})
		return err
	})
	return report, err
}

// sameContent fails unless two files hold the same bytes: what is restored wrongly is not restored fast.
func sameContent(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	pa, pb := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(pa)) {
		na, erra := io.ReadFull(fa, pa)
		nb, errb := io.ReadFull(fb, pb)
		if !bytes.Equal(pa[:na], pb[:nb]) {
			return fmt.Errorf("%s and %s differ after %d bytes", a, b, off)
		}
		for _, err := range []error{erra, errb} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return err
			}
		}
		if na < len(pa) {
			return nil
		}
	}
}
