// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockPollFirst = 2 * time.Millisecond
	lockPollMost  = 200 * time.Millisecond
)

var errLocked = errors.New("local index is locked by another process")

// tryLock takes the directory's lock, which closing the file gives back (as
// does the death of the process), or returns errLocked.
func tryLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock local index: %w", err)
	}
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			return f, nil
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return nil, errors.Join(errLocked, f.Close())
		default:
			return nil, errors.Join(fmt.Errorf("lock local index %s: %w", dir, err), f.Close())
		}
	}
}

// lockDir waits for the lock as long as ctx allows. It polls, because a wait
// inside flock can't be called off.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	pause := lockPollFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock local index %s: %w", dir, context.Cause(ctx))
		case <-timer.C:
		}
		f, err := tryLock(dir)
		if !errors.Is(err, errLocked) {
			return f, err
		}
		timer.Reset(pause)
		pause = min(2*pause, lockPollMost)
	}
}

// sweep removes what a killed process left: under the lock, a file of ours
// that the manifest does not name is nobody's.
func sweep(dir string, inForce []tableID) error {
	keep := make(map[string]bool, len(inForce))
	for _, id := range inForce {
		keep[id.String()+tableSuffix] = true
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list local index: %w", err)
	}
	for _, f := range files {
		n := f.Name()
		if n != manifestTemp && !strings.HasSuffix(n, tableSuffix) || keep[n] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove left-over of local index: %w", err)
		}
	}
	return nil
}

// RemoveCache empties a cache's directory, whatever its state. Processes that
// have it open keep what they see until they add to it.
func RemoveCache(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	// The manifest goes first, so that it never names what is gone.
	if err := os.Remove(filepath.Join(dir, manifestFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove local index manifest: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return sweep(dir, nil)
}
