// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

// loopBatch is how much of an image is in memory at once.
const loopBatch = 1 << 30

// loopArgs say over which bytes the loop runs: an image's data, or parts of it.
type loopArgs struct {
	Image string
	Only  blockdiff.Ranges
}

// loopOp times the loop alone; loading the bytes is not counted.
func loopOp(ctx context.Context, a loopArgs) (cost loop.Cost, err error) {
	runner, err := loop.NewRunner(loopParams())
	if err != nil {
		return cost, err
	}
	err = eachBatch(ctx, a, func(data []byte) error {
		c, err := runner.Run(ctx, data)
		cost.Add(c)
		return err
	})
	return cost, err
}

func loopParams() loop.Params {
	c := chunkstore.DefaultChunker
	return loop.Params{Bits: c.Bits, Min: c.Min, Max: c.Max}
}

// eachBatch gathers data, without holes and zero blocks, and hands it on in large pieces, outside the Go heap.
func eachBatch(ctx context.Context, a loopArgs, fn func([]byte) error) (err error) {
	mem, err := unix.Mmap(-1, 0, loopBatch, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map memory for the loop: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(mem)) }()
	used := 0
	take := func(_ int64, p []byte) error {
		for len(p) > 0 {
			n := copy(mem[used:], p)
			used, p = used+n, p[n:]
			if used < len(mem) {
				continue
			}
			if err := fn(mem); err != nil {
				return err
			}
			used = 0
		}
		return nil
	}
	if a.Only == nil {
		err = eachDataRun(ctx, a.Image, take)
	} else {
		err = eachRange(ctx, a.Image, a.Only, take)
	}
	if err != nil || used == 0 {
		return err
	}
	return fn(mem[:used])
}

func eachRange(ctx context.Context, image string, ranges blockdiff.Ranges, fn func(off int64, p []byte) error) (err error) {
	src, err := blockio.OpenSource(image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	var p []byte
	for _, r := range ranges {
		p = append(p[:0], make([]byte, r.Length)...)
		if err := src.ReadAt(ctx, p, r.Offset); err != nil {
			return err
		}
		if err := fn(r.Offset, p); err != nil {
			return err
		}
	}
	return nil
}

// stageSample is how much the stages are timed over.
const stageSample = 64 << 20

// stagesOp times the loop's stages. It does so over synthetic pages: the tables of pgbench repeat themselves so much
// that some stages take no time to speak of there.
func stagesOp(context.Context, struct{}) ([]loop.Stage, error) {
	sample := make([]byte, stageSample)
	fillPages(sample, 0, rand.NewChaCha8([32]byte{'s'}))
	return loop.Measure(loopParams(), sample)
}

// printLoop is the program that -loop makes of this one.
func printLoop(ctx context.Context, image string) error {
	list, err := stagesOp(ctx, struct{}{})
	if err != nil {
		return err
	}
	for _, s := range list {
		fmt.Printf("%-22s %7.0f MB/s of one core in the loop, %7.0f alone\n", s.Name, s.InLoop, s.Alone)
	}
	cost, err := loopOp(ctx, loopArgs{Image: image})
	if err != nil {
		return err
	}
	fmt.Printf("all: %s of data, %.2f CPU s, %.2f s, %.0f MB/s of CPU time\n",
		byteSize(cost.Bytes), cost.CPU, cost.Wall, float64(cost.Bytes)/1e6/cost.CPU)
	return nil
}
