// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/open"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/retry"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
	"github.com/tidemark-io/tidemark/mover"
)

// What tests set before main runs: a key derivation that costs nothing, and a
// store that misbehaves.
var (
	testOnlyKDF  seal.KDF // zero: seal's default
	testOnlyWrap = func(s objstore.Store) (objstore.Store, error) { return s, nil }
)

// slowAnswer is how long a store may take to open before that is told.
const slowAnswer = 3 * time.Second

// address is where the repository is.
func (a *app) address() (string, error) {
	if a.repo != "" {
		return a.repo, nil
	}
	if r := os.Getenv("TIDEMARK_REPO"); r != "" {
		return r, nil
	}
	return "", &hintError{
		err:  usage("which repository? Neither --repo nor TIDEMARK_REPO says"),
		hint: "--repo takes a folder or s3://bucket/prefix",
	}
}

// openStore opens what the address means with one of package open's functions.
func (a *app) openStore(ctx context.Context, opener func(context.Context, string) (objstore.Store, error)) (objstore.Store, error) {
	address, err := a.address()
	if err != nil {
		return nil, err
	}
	slow := time.AfterFunc(slowAnswer, func() { a.note("waiting for %s to answer …", address) })
	s, err := opener(ctx, address)
	slow.Stop()
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", address, err)
	}
	wrapped, err := testOnlyWrap(s)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return retry.Wrap(wrapped, retry.Policy{Notify: func(err error, wait time.Duration) {
		a.note("%s; trying again in %s", sentence(err), formatSeconds(wait.Seconds()))
	}}), nil
}

// with opens the repository for the length of fn. Memory is limited meanwhile.
func (a *app) with(ctx context.Context, fn func(*chunkstore.Repository) error) (err error) {
	defer mover.LimitHeap(int64(a.memory))()
	store, err := a.openStore(ctx, open.Open)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	pass, err := a.passphrase(ctx, false)
	if err != nil {
		return err
	}
	return a.withStore(ctx, store, pass, fn)
}

// withStore is with over a store that is open.
func (a *app) withStore(ctx context.Context, store objstore.Store, pass []byte, fn func(*chunkstore.Repository) error) (err error) {
	cache, err := a.cache()
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // only recorded; a machine without a name has none
	repo, err := chunkstore.Open(ctx, store, pass, chunkstore.OpenOptions{
		CacheDir: cache, NodeBytes: mover.NodeBytes(int64(a.memory)), Host: host, Program: "tidemark " + programVersion(),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, repo.Close()) }()
	err = fn(repo)
	for _, d := range repo.Damaged() { // what it had to go on without
		a.note("warning: %s", sentence(d))
	}
	return err
}

// cache is the folder of the local cache.
func (a *app) cache() (string, error) {
	if a.cacheDir != "" {
		return a.cacheDir, nil
	}
	if dir := os.Getenv("TIDEMARK_CACHE_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	switch {
	case err == nil:
		return filepath.Join(dir, "tidemark"), nil
	case os.Geteuid() == 0: // a service has no home
		return "/var/cache/tidemark", nil
	}
	return "", &hintError{
		err:  fmt.Errorf("find a place for the local cache: %w", err),
		hint: "--cache-dir or TIDEMARK_CACHE_DIR names one",
	}
}
