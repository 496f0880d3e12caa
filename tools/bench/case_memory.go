// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/tidemark-io/tidemark/mover"
)

// memorySlack is what a process may use beyond its -memory.
const memorySlack = 32 << 20

// manyCores is a machine that this one is not: more goroutines, more of everything that is one per core.
const manyCores = "GOMAXPROCS=32"

// runMemory does a bit of everything inside memory cgroups of the limit and a little: who needs more is killed.
func runMemory(ctx context.Context, b *bench) error {
	for _, limit := range []int64{128 << 20, 512 << 20} {
		for _, env := range []string{"", manyCores} {
			if err := b.inMemory(ctx, limit, env); err != nil {
				if errors.Is(err, errNoCgroup) {
					b.say("skipped: %v", err)
					return nil
				}
				return err
			}
		}
	}
	return nil
}

func (b *bench) inMemory(ctx context.Context, limit int64, env string) (err error) {
	g, err := newMemoryGroup(limit + memorySlack)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.remove()) }()
	name := fmt.Sprintf("-memory %dM", limit>>20)
	environment := []string{g.env()}
	if env != "" {
		name, environment = name+" "+env, append(environment, env)
	}
	steps := memorySteps{b: b, image: b.path("work.img"), repo: b.path("repo"), limit: limit, env: environment}
	if err := b.volume.copyTo(ctx, steps.image); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeRepo(steps.repo), os.Remove(steps.image)) }()
	err = steps.run(ctx)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 { // killed
		b.atMost(name+": resident / limit", 2, 1, "", "killed: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	b.atMost(name+": resident / limit", float64(steps.peak)/float64(limit+memorySlack), 1, "",
		"%s of %s at its worst; backup %s, by claim %s, by fingerprint %s, restore %s; none was killed; cgroup with page cache %s",
		byteSize(steps.peak), byteSize(limit+memorySlack), byteSize(steps.each[0]), byteSize(steps.each[1]), byteSize(steps.each[2]), byteSize(steps.each[3]), byteSize(g.peak()))
	return nil
}

// memorySteps are a full backup, one by claim, one by fingerprint and a restore, with a passphrase at its real price.
type memorySteps struct {
	b           *bench
	image, repo string
	limit       int64
	env         []string
	peak        int64
	each        []int64
}

func (m *memorySteps) run(ctx context.Context) error {
	if err := initRepo(ctx, m.repo, m.b.kdf); err != nil {
		return err
	}
	args := backupArgs{Repo: m.repo, Image: m.image, Memory: m.limit}
	if err := m.backup(ctx, args); err != nil {
		return err
	}
	changes := newRewriter(m.b.volume.pages, 9)
	for _, byClaim := range []bool{true, false} {
		ranges, err := changes.rewrite(m.image)
		if err != nil {
			return err
		}
		args.Changes = nil
		if byClaim {
			if args.Changes, err = claim(ranges); err != nil {
				return err
			}
		}
		if err := m.backup(ctx, args); err != nil {
			return err
		}
	}
	target := m.b.path("target.img")
	r, _, err := call[*mover.RestoreReport](ctx, "restore", restoreArgs{Repo: m.repo, Target: target, Memory: m.limit}, m.env...)
	if err != nil {
		return err
	}
	m.note(r.PeakMemoryBytes)
	return errors.Join(sameContent(m.image, target), os.Remove(target))
}

func (m *memorySteps) backup(ctx context.Context, args backupArgs) error {
	r, _, err := call[*mover.Report](ctx, "backup", args, m.env...)
	if err == nil {
		m.note(r.PeakMemoryBytes)
	}
	return err
}

func (m *memorySteps) note(peak int64) {
	m.peak = max(m.peak, peak)
	m.each = append(m.each, peak)
}
