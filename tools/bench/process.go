// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"time"

	"github.com/tidemark-io/tidemark/tools/bench/loop"
)

// ops are what a started process can do: arguments from JSON, a result to JSON.
var ops = map[string]func(ctx context.Context, args []byte) (any, error){
	"loop":    op(loopOp),
	"stages":  op(stagesOp),
	"write":   op(writeOp),
	"pages":   op(pagesOp),
	"hash":    op(hashOp),
	"unpack":  op(unpackOp),
	"backup":  op(backupOp),
	"restore": op(restoreOp),
	"series":  op(seriesOp),

	"index-fill": op(indexFillOp),
	"index-open": op(indexOpenOp),
}

func op[A, R any](fn func(ctx context.Context, args A) (R, error)) func(context.Context, []byte) (any, error) {
	return func(ctx context.Context, data []byte) (any, error) {
		var args A
		if err := json.Unmarshal(data, &args); err != nil {
			return nil, fmt.Errorf("read the operation's arguments: %w", err)
		}
		return fn(ctx, args)
	}
}

// serve is the life of a started process.
func serve(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	run := ops[name]
	if run == nil {
		return fmt.Errorf("no operation is called %q", name)
	}
	if err := joinCgroup(); err != nil {
		return fmt.Errorf("join the cgroup: %w", err)
	}
	args, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	result, err := profiled(name, func() (any, error) { return run(ctx, args) })
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// profileDir names the environment variable with the directory in which processes leave CPU profiles.
const profileDir = "TIDEMARK_BENCH_PROFILE"

func profiled(name string, run func() (any, error)) (result any, err error) {
	dir := os.Getenv(profileDir)
	if dir == "" {
		return run()
	}
	f, err := os.CreateTemp(dir, name+"-*.pprof")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	defer pprof.StopCPUProfile()
	return run()
}

// process is the cost of a whole process, from its start to its end.
type process struct {
	CPU  float64 // seconds, user and system
	Wall float64 // seconds
}

// least keeps the better figure of each kind; a zero p is none yet.
func (p *process) least(o process) {
	if p.Wall == 0 {
		*p = o
	}
	p.CPU, p.Wall = min(p.CPU, o.CPU), min(p.Wall, o.Wall)
}

// call runs an operation in a process of its own. env adds to the environment.
func call[R any](ctx context.Context, name string, args any, env ...string) (result R, cost process, err error) {
	data, err := json.Marshal(args)
	if err != nil {
		return result, cost, err
	}
	self, err := os.Executable()
	if err != nil {
		return result, cost, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self, "-op", name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(data), &out, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	start := time.Now()
	err = cmd.Run()
	cost.Wall = time.Since(start).Seconds()
	if err != nil {
		return result, cost, fmt.Errorf("operation %s: %w", name, err)
	}
	cost.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		return result, cost, fmt.Errorf("read the result of operation %s: %w", name, err)
	}
	return result, cost, nil
}

// yardstick calls an operation that times itself.
func yardstick(ctx context.Context, name string, args any) (loop.Cost, error) {
	cost, _, err := call[loop.Cost](ctx, name, args)
	return cost, err
}

// command runs a program to its end; its output is part of the error.
func command(ctx context.Context, name string, args ...string) error {
	var out bytes.Buffer
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = &out, &out
	c.Dir = "/"
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}
