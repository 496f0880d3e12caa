// SPDX-License-Identifier: Apache-2.0

package loop

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Segment is the unit that Run shares out to cores in bytes; a backup's slabs are as large.
const Segment = 8 << 20

// Cost is what some bytes took.
type Cost struct {
	Bytes int64   `json:"bytes"`
	CPU   float64 `json:"cpuSeconds"`
	Wall  float64 `json:"seconds"`
}

// Add sums costs of steps that follow each other.
func (c *Cost) Add(o Cost) {
	c.Bytes += o.Bytes
	c.CPU += o.CPU
	c.Wall += o.Wall
}

// Time measures what the process spends in fn. A process of its own and nothing else running in it make the figure
// fn's alone.
func Time(fn func() error) (Cost, error) {
	start, cpu := time.Now(), CPUTime()
	err := fn()
	return Cost{CPU: (CPUTime() - cpu).Seconds(), Wall: time.Since(start).Seconds()}, err
}

// CPUTime is what this process has computed so far, system calls included.
func CPUTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Runner keeps one worker per core.
type Runner struct{ workers []*Worker }

// NewRunner makes a runner for all cores.
func NewRunner(p Params) (*Runner, error) {
	r := &Runner{}
	for range runtime.GOMAXPROCS(0) {
		w, err := NewWorker(p)
		if err != nil {
			return nil, err
		}
		r.workers = append(r.workers, w)
	}
	return r, nil
}

// Run takes data through the loop on all cores and returns what that cost.
func (r *Runner) Run(ctx context.Context, data []byte) (Cost, error) {
	cost, err := Time(func() error {
		g, ctx := errgroup.WithContext(ctx)
		work := make(chan []byte)
		g.Go(func() error {
			defer close(work)
			for rest := data; len(rest) > 0; {
				n := min(len(rest), Segment)
				select {
				case work <- rest[:n]:
				case <-ctx.Done():
					return ctx.Err()
				}
				rest = rest[n:]
			}
			return nil
		})
		for _, w := range r.workers {
			g.Go(func() error {
				for s := range work {
					if err := w.Segment(s); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	})
	cost.Bytes = int64(len(data))
	return cost, err
}
