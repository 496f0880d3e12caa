// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

// unpackArgs say whose data to restore, through which file of sealed frames, and where to.
type unpackArgs struct {
	Image, Sealed, Target string
	Depth                 int
}

// unpacked is a chunk of the sealed file and its place in the volume.
type unpacked struct {
	loop.Packed
	volume, at int64
}

// unpackOp is what a restore can't do without: read sealed frames from the disk, open, decode, hash, and write to the
// target, synced at the end. Making the sealed file is not counted.
func unpackOp(ctx context.Context, a unpackArgs) (cost loop.Cost, err error) {
	chunks, err := sealImage(ctx, a)
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, os.Remove(a.Sealed), os.RemoveAll(a.Target)) }()
	cost, err = loop.Time(func() error { return unpackAll(ctx, a, chunks) })
	for i := range chunks {
		cost.Bytes += int64(chunks[i].Plain)
	}
	return cost, err
}

// sealImage writes all chunks of an image's data to a file, with one core.
func sealImage(ctx context.Context, a unpackArgs) (chunks []unpacked, err error) {
	f, err := os.OpenFile(a.Sealed, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	w, err := loop.NewWorker(loopParams())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	out := bufio.NewWriterSize(f, 4<<20)
	var stored []byte
	at := int64(0)
	err = eachDataRun(ctx, a.Image, func(off int64, p []byte) error {
		return w.Chunks(p, func(chunk []byte) error {
			var c unpacked
			stored, c.Packed = w.Pack(chunk, stored[:0])
			c.volume, c.at = off, at
			chunks = append(chunks, c)
			off, at = off+int64(len(chunk)), at+int64(len(stored))
			_, err := out.Write(stored)
			return err
		})
	})
	if err = errors.Join(err, out.Flush(), f.Close()); err != nil {
		return nil, err
	}
	return chunks, settle(a.Sealed)
}

func unpackAll(ctx context.Context, a unpackArgs, chunks []unpacked) (err error) {
	st, err := os.Stat(a.Image)
	if err != nil {
		return err
	}
	in, err := os.Open(a.Sealed)
	if err != nil {
		return err
	}
	defer in.Close()
	target, err := blockio.OpenTarget(a.Target, st.Size(), blockio.TargetOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range a.Depth {
		g.Go(func() error {
			w, err := loop.NewWorker(loopParams())
			if err != nil {
				return err
			}
			stored, plain := make([]byte, 2<<20), make([]byte, 1<<20)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(chunks) {
					return nil
				}
				if err := unpackOne(gctx, w, in, target, &chunks[i], stored, plain); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return target.Sync(ctx)
}

func unpackOne(ctx context.Context, w *loop.Worker, in io.ReaderAt, target *blockio.Target, c *unpacked, stored, plain []byte) error {
	stored = stored[:c.Stored]
	if _, err := in.ReadAt(stored, c.at); err != nil {
		return err
	}
	if err := w.Unpack(&c.Packed, stored, plain); err != nil {
		return err
	}
	return target.WriteAt(ctx, plain[:c.Plain], c.volume)
}
