// SPDX-License-Identifier: Apache-2.0

// Command bench holds the engine against the numbers it promises: each as a ratio to a yardstick measured in the same
// run on the same machine, with its bound. docs/benchmarks.md has the table and how it came about.
//
//	go run ./tools/bench                 # everything at full size: a 4 GiB database, 25 GiB of disk, about an hour
//	go run ./tools/bench -quick          # 512 MiB, a few minutes
//	go run ./tools/bench -run full,empty # some cases; -list names them
//	go run ./tools/bench -json -check    # for machines; exit status 1 where a bound is missed
//	go run ./tools/bench -loop IMAGE     # the loop alone, over the bytes of a file or device
//
// Every measured operation runs in a process of its own (this program, started again with -op), so that its CPU time
// and its peak of memory are its own. Yardsticks are timed inside theirs, without what prepares them.
//
// The volume is an ext4 image that holds a PostgreSQL data directory. Changes are 8 KiB pages, uniformly random among
// those that hold data, rewritten with incompressible bytes from a seed; their list is the claim.
//
// Root is needed for the cases that mount XFS (reflinked pieces) or make a memory cgroup; without it they are skipped,
// and say so.
//
// Start reading at main.go; each case_*.go is one group of rows, each op_*.go what a started process does.
package main
