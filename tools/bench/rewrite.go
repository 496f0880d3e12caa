// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"

	"github.com/tidemark-io/tidemark/blockdiff"
)

// rewriter changes pages of an image, the same ones with the same bytes in every run.
type rewriter struct {
	pages []int64 // offsets to choose from; it reorders them
	pick  *rand.Rand
	noise *rand.ChaCha8
}

func newRewriter(pages []int64, seed uint64) *rewriter {
	return &rewriter{
		pages: append([]int64(nil), pages...),
		pick:  rand.New(rand.NewPCG(seed, 8)),
		noise: rand.NewChaCha8([32]byte{'r', byte(seed), byte(seed >> 8)}),
	}
}

// rewrite fills one in a hundred of the pages, uniformly random ones, with incompressible bytes and returns what
// changed.
func (r *rewriter) rewrite(image string) (blockdiff.Ranges, error) {
	n := max(1, len(r.pages)/100)
	for i := range n { // the first n of a shuffle
		j := i + r.pick.IntN(len(r.pages)-i)
		r.pages[i], r.pages[j] = r.pages[j], r.pages[i]
	}
	ranges := make(blockdiff.Ranges, n)
	for i := range ranges {
		ranges[i] = blockdiff.Range{Offset: r.pages[i], Length: pageSize}
	}
	ranges = blockdiff.Normalize(ranges)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	var page [pageSize]byte
	for _, off := range r.pages[:n] {
		_, _ = r.noise.Read(page[:]) // never fails
		if _, err := f.WriteAt(page[:], off); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return ranges, errors.Join(f.Close(), settle(image))
}

// claim is the list of changes as a backup takes it.
func claim(rs blockdiff.Ranges) ([]byte, error) {
	var out bytes.Buffer
	err := blockdiff.WriteClaim(&out, rs)
	return out.Bytes(), err
}
