// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupDir names the environment variable with the memory cgroup that a started process joins first.
const cgroupDir = "TIDEMARK_BENCH_CGROUP"

// memoryGroup is a memory cgroup, of either version.
type memoryGroup struct {
	dir string
	v2  bool
}

// errNoCgroup says that no memory cgroup can be made here.
var errNoCgroup = errors.New("no memory cgroup can be made here")

// newMemoryGroup makes a cgroup with a limit in bytes.
func newMemoryGroup(limit int64) (*memoryGroup, error) {
	name := fmt.Sprintf("tidemark-bench-%d", os.Getpid())
	g := &memoryGroup{dir: filepath.Join("/sys/fs/cgroup/memory", name)}
	file := "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/memory/memory.limit_in_bytes"); err != nil {
		const root = "/sys/fs/cgroup"
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoCgroup, err)
		}
		g, file = &memoryGroup{dir: filepath.Join(root, name), v2: true}, "memory.max"
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoCgroup, err)
	}
	err := g.set(file, strconv.FormatInt(limit, 10))
	if err == nil && g.v2 {
		err = g.set("memory.swap.max", "0")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errNoCgroup, err), g.remove())
	}
	return g, nil
}

func (g *memoryGroup) set(file, value string) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0)
}

func (g *memoryGroup) env() string { return cgroupDir + "=" + g.dir }

// peak is the most that the group used, page cache included, which the kernel takes back at need.
func (g *memoryGroup) peak() int64 {
	file := "memory.max_usage_in_bytes"
	if g.v2 {
		file = "memory.peak"
	}
	data, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// remove ends the group; its processes have ended.
func (g *memoryGroup) remove() error { return os.Remove(g.dir) }

// joinCgroup puts this process where its starter wants it.
func joinCgroup() error {
	dir := os.Getenv(cgroupDir)
	if dir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}
