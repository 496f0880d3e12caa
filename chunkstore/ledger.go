// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/chunkstore/index"
)

// ledger binds the local index to what it was built from: it names every
// segment that the index may hold. It is written before a segment is added, so
// an index without a ledger, or with one that names a segment that no outcome
// in force has, is ahead of the repository and of no use. It may name segments
// that the index does not hold.
type ledger struct {
	*vault
	dir string
}

const (
	ledgerFile  = "segments"
	ledgerCache = "cache/segments" // what it is sealed as
)

// read gives nil for a ledger that is missing or damaged.
func (l ledger) read() map[string]bool {
	path := filepath.Join(l.dir, ledgerFile)
	if fi, err := os.Stat(path); err != nil || fi.Size() > maxCacheFile {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var names []string
	if l.openRecord(ledgerCache, data, &names) != nil {
		return nil
	}
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// add makes names part of the ledger, beside other processes that do the same.
func (l ledger) add(names []string) (err error) {
	lock, err := os.OpenFile(filepath.Join(l.dir, ledgerFile+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the local index's ledger: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // which unlocks
	// Held only while a small file is rewritten, so waiting needs no context.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the local index's ledger: %w", err)
	}
	there := l.read()
	set := maps.Clone(there)
	if set == nil {
		set = map[string]bool{}
	}
	for _, n := range names {
		set[n] = true
	}
	if there != nil && len(set) == len(there) {
		return nil
	}
	data, err := l.sealRecord(ledgerCache, slices.Sorted(maps.Keys(set)))
	if err != nil {
		return err
	}
	return replaceFile(l.dir, ledgerFile, data)
}

func (l ledger) indexDir() string { return filepath.Join(l.dir, "index") }

// empty removes from the disk what is not to be used.
func (l ledger) empty(ctx context.Context) error {
	if err := index.RemoveCache(ctx, l.indexDir()); err != nil {
		return err
	}
	return removeFile(filepath.Join(l.dir, ledgerFile))
}

// replaceFile puts data under a name so that, after a power loss too, either
// the old content is there or all of the new.
func replaceFile(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, name+"-*")
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save %s: %w", name, err), removeFile(f.Name()))
	}
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

// removeFile is content with a file that is gone already.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
