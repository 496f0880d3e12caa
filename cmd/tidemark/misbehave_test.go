// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"strings"
	"sync"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/fault"
)

// misbehave is what scripts ask of the store by the environment:
//
//	TEST_FAULT=script     the faults of package fault
//	TEST_STALL=fifo       the first pack waits for the end of the context
//	TEST_MEET=fifo        the first pack waits until the script releases it
//
// The last two tell the script, which waits with `meet fifo`, that they are there.
func misbehave(s objstore.Store) (objstore.Store, error) {
	if script := os.Getenv("TEST_FAULT"); script != "" {
		return fault.Wrap(s, script)
	}
	if fifo := os.Getenv("TEST_STALL"); fifo != "" {
		return &waiter{Store: s, wait: func(ctx context.Context) error {
			if err := touch(fifo, os.O_WRONLY); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		}}, nil
	}
	if fifo := os.Getenv("TEST_MEET"); fifo != "" {
		return &waiter{Store: s, wait: func(context.Context) error {
			if err := touch(fifo, os.O_WRONLY); err != nil {
				return err
			}
			return touch(fifo+".go", os.O_RDONLY)
		}}, nil
	}
	return s, nil
}

// touch opens a named pipe, which waits for the other side.
func touch(fifo string, flag int) error {
	f, err := os.OpenFile(fifo, flag, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// waiter waits before the first pack is put.
type waiter struct {
	objstore.Store
	once sync.Once
	wait func(context.Context) error
}

func (w *waiter) Put(ctx context.Context, name string, body objstore.Body) (err error) {
	if strings.HasPrefix(name, "packs/") {
		w.once.Do(func() { err = w.wait(ctx) })
		if err != nil {
			return err
		}
	}
	return w.Store.Put(ctx, name, body)
}
