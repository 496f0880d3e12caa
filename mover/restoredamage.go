// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// DamageError says what damage in the repository costs a restore. The cause is
// a *seal.CorruptError, which names object and offset, or a
// *chunkstore.MissingChunkError.
type DamageError struct {
	Point  string
	Volume string
	Ranges blockdiff.Ranges // of the volume, that can't be restored because of it
	Err    error
}

// maxNamedRanges is how many ranges a message lists.
const maxNamedRanges = 8

func (e *DamageError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "point %.8s of volume %s: %v; %d bytes of the volume can't be restored: ", e.Point, e.Volume, e.Err, e.Ranges.Total())
	for i, r := range e.Ranges {
		if i == maxNamedRanges {
			fmt.Fprintf(&b, " and %d more ranges", len(e.Ranges)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d+%d", r.Offset, r.Length)
	}
	b.WriteString("; the restore stopped at the first such object, so the target is incomplete beyond that")
	return b.String()
}

func (e *DamageError) Unwrap() error { return e.Err }

// damage adds to an error of the repository's bytes what it costs; other errors
// pass as they are.
func damage(err error, p *chunkstore.Point, ranges blockdiff.Ranges) error {
	if node, ok := errors.AsType[*imagemap.CorruptError](err); ok { // named right, so written so: still damage of the repository
		err = errors.Join(err, &seal.CorruptError{Object: "image map node " + node.Node.String(), Offset: node.Offset, Detail: node.Detail})
	}
	if !isDamage(err) {
		return err
	}
	if _, ok := errors.AsType[*DamageError](err); ok {
		return err
	}
	return &DamageError{Point: p.ID, Volume: p.Volume, Ranges: blockdiff.Normalize(ranges), Err: err}
}

// isDamage tells whether an error convicts the repository's bytes.
func isDamage(err error) bool {
	var bad *seal.CorruptError
	var gone *chunkstore.MissingChunkError
	return errors.As(err, &bad) || errors.As(err, &gone)
}

// suffering lists the ranges of a batch whose chunks lie in a pack, those of one
// chunk only if that is given.
func (b *batch) suffering(in uint32, only *wanted) (out blockdiff.Ranges) {
	for i := range b.chunks {
		c := &b.chunks[i]
		if c.pack != in || only != nil && c != only {
			continue
		}
		_ = b.each(c, func(off int64, n, _ uint32) error {
			out = append(out, blockdiff.Range{Offset: off, Length: int64(n)})
			return nil
		})
	}
	return out
}
