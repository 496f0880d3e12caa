// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tidemark-io/tidemark/mover"
)

const (
	clones      = 64 // times the dense data that reflinked pieces make
	clonePiece  = 4 << 20
	sparseBytes = 10 << 40
	sparsePiece = 1 << 20

	// What "time follows the data" and "a few hundred KiB" are taken to mean.
	followBound   = 1.25
	metadataBound = 512 // KiB
)

// runScaling backs up as much data in three shapes: without holes, 64 times by reflinks, and strewn over 10 TiB.
func runScaling(ctx context.Context, b *bench) error {
	dense := b.path("dense.img")
	if err := b.packData(ctx, dense, b.size/4); err != nil {
		return err
	}
	one, err := b.scaled(ctx, dense)
	if err != nil {
		return err
	}
	data := float64(b.size / 4)
	b.info("dense: CPU", one.cost.CPU, "s", "%.2f s for %s; metadata %s, peak memory %d MiB", one.cost.Wall, byteSize(b.size/4),
		byteSize(one.report.MetadataBytes), one.report.PeakMemoryBytes>>20)
	if err := b.scaleSparse(ctx, dense, one); err != nil {
		return err
	}
	err = b.scaleClones(ctx, dense, one, data)
	if errors.Is(err, errNoReflinks) {
		b.say("skipped: %v", err)
		return nil
	}
	return err
}

// scaled is a full backup into a repository that is removed again.
func (b *bench) scaled(ctx context.Context, image string) (fullRun, error) {
	repo := b.path("repo")
	full, err := b.fullBackup(ctx, repo, image, 0)
	return full, errors.Join(err, removeRepo(repo))
}

// packData copies the first n bytes of the volume's data side by side.
func (b *bench) packData(ctx context.Context, path string, n int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	enough := errors.New("enough")
	at := int64(0)
	err = eachDataRun(ctx, b.volume.path, func(_ int64, p []byte) error {
		p = p[:min(int64(len(p)), n-at)]
		if _, err := out.WriteAt(p, at); err != nil {
			return err
		}
		if at += int64(len(p)); at == n {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return errors.Join(err, out.Close(), settle(path))
}

// scaleSparse strews the data over a sparse file, evenly.
func (b *bench) scaleSparse(ctx context.Context, dense string, one fullRun) error {
	sparse := b.path("sparse.img")
	if err := strew(dense, sparse); err != nil {
		return err
	}
	full, err := b.scaled(ctx, sparse)
	if err != nil {
		return err
	}
	r := full.report
	b.atMost("10 TiB sparse: CPU / dense", full.cost.CPU/one.cost.CPU, followBound, "", "%.2f CPU s, %.2f s", full.cost.CPU, full.cost.Wall)
	b.atMost("10 TiB sparse: metadata", float64(r.MetadataBytes)/1024, metadataBound, "KiB", "in %d pieces of data", b.size/4/sparsePiece)
	b.atMost("10 TiB sparse: peak memory / limit", float64(r.PeakMemoryBytes)/mover.DefaultMemory, 1, "", "%d MiB", r.PeakMemoryBytes>>20)
	return os.Remove(sparse)
}

func strew(from, to string) (err error) {
	data, err := os.Open(from)
	if err != nil {
		return err
	}
	defer data.Close()
	st, err := data.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close(), settle(to)) }()
	if err := out.Truncate(sparseBytes); err != nil {
		return err
	}
	piece := make([]byte, sparsePiece)
	n := st.Size() / sparsePiece
	for i := range n {
		if _, err := data.ReadAt(piece, i*sparsePiece); err != nil {
			return err
		}
		if _, err := out.WriteAt(piece, sparseBytes/n*i/sparsePiece*sparsePiece); err != nil {
			return err
		}
	}
	return nil
}

// errNoReflinks says that no file system with reflinks can be had.
var errNoReflinks = errors.New("no XFS can be mounted here")

// scaleClones makes a large volume of pieces that share their blocks, in another order each time.
func (b *bench) scaleClones(ctx context.Context, dense string, one fullRun, data float64) (err error) {
	disk, mnt := b.path("xfs.img"), b.path("xfs")
	if err := mountXFS(ctx, disk, mnt, 2*b.size/4+1<<30); err != nil {
		return fmt.Errorf("%w: %w", errNoReflinks, err)
	}
	defer func() { err = errors.Join(err, command(context.WithoutCancel(ctx), "umount", mnt), os.Remove(disk)) }()
	big := filepath.Join(mnt, "big.img")
	if err := cloneAll(dense, filepath.Join(mnt, "seed.img"), big); err != nil {
		return err
	}
	full, err := b.scaled(ctx, big)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s of reflinks", byteSize(int64(data)*clones))
	b.atMost(name+": CPU per byte / dense", full.cost.CPU/clones/one.cost.CPU, followBound, "", "%.1f CPU s, %.1f s; %s shipped",
		full.cost.CPU, full.cost.Wall, byteSize(full.report.ShippedBytes))
	b.atMost(name+": wall per byte / dense", full.cost.Wall/clones/one.cost.Wall, followBound, "", "%.0f MB/s", data*clones/1e6/full.cost.Wall)
	b.atMost(name+": peak memory / limit", float64(full.report.PeakMemoryBytes)/mover.DefaultMemory, 1, "", "%d MiB", full.report.PeakMemoryBytes>>20)
	return nil
}

func mountXFS(ctx context.Context, disk, mnt string, size int64) error {
	f, err := os.OpenFile(disk, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close(), os.Mkdir(mnt, 0o700)); err != nil {
		return err
	}
	if err := command(ctx, "mkfs.xfs", "-q", "-m", "reflink=1", disk); err != nil {
		return err
	}
	return command(ctx, "mount", "-t", "xfs", "-o", "loop", disk, mnt)
}

// cloneAll copies dense to seed, on the file system of big, and makes big of its pieces.
func cloneAll(dense, seed, big string) (err error) {
	if err := copyFile(dense, seed); err != nil {
		return err
	}
	from, err := os.Open(seed)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(big, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close(), settle(big)) }()
	st, err := from.Stat()
	if err != nil {
		return err
	}
	pieces := st.Size() / clonePiece
	r := rand.New(rand.NewPCG(3, 3))
	for i := range int64(clones) {
		for j, piece := range r.Perm(int(pieces)) {
			err := unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{
				Src_fd: int64(from.Fd()), Src_offset: uint64(piece) * clonePiece, Src_length: clonePiece,
				Dest_offset: uint64(i*pieces+int64(j)) * clonePiece,
			})
			if err != nil {
				return fmt.Errorf("clone a piece: %w", err)
			}
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), settle(to))
}
