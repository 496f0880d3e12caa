// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/folder"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
	"github.com/tidemark-io/tidemark/mover"
)

var passphrase = []byte("of no importance")

// cheapKDF keeps the passphrase's price out of what is measured; one case has the real one.
var cheapKDF = seal.KDF{Time: 1, MemoryKiB: 64, Threads: 1}

// initRepo makes a repository in a new folder.
func initRepo(ctx context.Context, dir string, kdf seal.KDF) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	store, err := folder.Create(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	_, err = chunkstore.Init(ctx, store, passphrase, chunkstore.InitOptions{KDF: kdf})
	return err
}

// withRepo opens a repository as the program does and calls fn.
func withRepo(ctx context.Context, dir string, memory int64, fn func(*chunkstore.Repository) error) (err error) {
	store, err := folder.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	defer mover.LimitHeap(memory)()
	repo, err := chunkstore.Open(ctx, store, passphrase, chunkstore.OpenOptions{CacheDir: dir + ".cache", NodeBytes: mover.NodeBytes(memory)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, repo.Close()) }()
	return fn(repo)
}

// backupArgs are one backup. Changes is a claim in JSON; nil is none.
type backupArgs struct {
	Repo, Image string
	Changes     []byte
	Digest      int
	Memory      int64
}

const volumeName = "bench"

func backupOp(ctx context.Context, a backupArgs) (report *mover.Report, err error) {
	err = withRepo(ctx, a.Repo, a.Memory, func(repo *chunkstore.Repository) error {
		report, err = backup(ctx, repo, a)
		return err
	})
	return report, err
}

func backup(ctx context.Context, repo *chunkstore.Repository, a backupArgs) (*mover.Report, error) {
	opt := mover.BackupOptions{Source: a.Image, Volume: volumeName, DigestSize: a.Digest, Memory: a.Memory}
	if a.Changes != nil {
		opt.Changes = bytes.NewReader(a.Changes)
	}
	report, err := mover.Backup(ctx, repo, opt)
	if err != nil {
		return nil, err
	}
	if report.Audit.Missed > 0 {
		return nil, errors.New("the claim was found to be wrong: the benchmark is, or the engine")
	}
	return report, nil
}

// packSizes lists the sizes of a repository's packs.
func packSizes(repo string) (sizes []int64, err error) {
	err = filepath.WalkDir(filepath.Join(repo, "packs"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			sizes = append(sizes, st.Size())
		}
		return err
	})
	return sizes, err
}
