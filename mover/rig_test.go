// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/folder"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// rig is a volume, a repository, and a machine's cache.
type rig struct {
	t     *testing.T
	dir   string
	store objstore.Store
	image string
	data  []byte
	rnd   *rand.Rand
	want  map[string][]byte // what each point must read as
}

// newRig makes a repository in a folder, which a child can open, and a volume
// of size bytes, random but for some zeros, that nobody has backed up.
func newRig(t *testing.T, size int) *rig {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "repo"), 0o700); err != nil {
		t.Fatal(err)
	}
	return newRigIn(t, dir, size, openFolder(t, filepath.Join(dir, "repo")))
}

// newMemRig is newRig with the repository in memory.
func newMemRig(t *testing.T, size int) *rig {
	t.Helper()
	return newRigIn(t, t.TempDir(), size, mem.New())
}

func newRigIn(t *testing.T, dir string, size int, store objstore.Store) *rig {
	t.Helper()
	r := &rig{
		t: t, dir: dir, store: store, image: filepath.Join(dir, "image"), data: make([]byte, size),
		rnd: rand.New(rand.NewPCG(uint64(size), 1)), want: map[string][]byte{},
	}
	newTestRepo(t, r.store)
	random(r.rnd, r.data)
	clear(r.data[size/3 : size/3+size/16])
	r.save()
	return r
}

func openFolder(t *testing.T, path string) *folder.Store {
	t.Helper()
	store, err := folder.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// clone copies repository and cache, and shares the image.
func (r *rig) clone() *rig {
	r.t.Helper()
	c := &rig{
		t: r.t, dir: r.t.TempDir(), image: r.image, data: bytes.Clone(r.data),
		rnd: rand.New(rand.NewPCG(uint64(len(r.data)), 2)), want: maps.Clone(r.want),
	}
	dirs := []string{"cache"}
	if m, ok := r.store.(*mem.Store); ok {
		c.store = m.Clone()
	} else {
		dirs = append(dirs, "repo")
	}
	for _, d := range dirs {
		err := os.CopyFS(filepath.Join(c.dir, d), os.DirFS(filepath.Join(r.dir, d)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.t.Fatal(err)
		}
	}
	if c.store == nil {
		c.store = openFolder(r.t, filepath.Join(c.dir, "repo"))
	}
	return c
}

// ownImage gives a clone an image that it may change.
func (r *rig) ownImage() {
	r.image = filepath.Join(r.dir, "image")
	r.save()
}

func (r *rig) save() {
	r.t.Helper()
	if err := os.WriteFile(r.image, r.data, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// write changes the volume and says where.
func (r *rig) write(off, n int) blockdiff.Range {
	random(r.rnd, r.data[off:off+n])
	return blockdiff.Range{Offset: int64(off), Length: int64(n)}
}

func (r *rig) repo() *chunkstore.Repository {
	return openTestRepo(r.t, r.store, filepath.Join(r.dir, "cache"))
}

// backup backs up in this process and notes what the point must read as.
func (r *rig) backup(opt BackupOptions) (*Report, error) {
	r.t.Helper()
	repo := r.repo()
	defer func() { _ = repo.Close() }()
	return r.backupTo(repo, opt)
}

func (r *rig) backupTo(repo *chunkstore.Repository, opt BackupOptions) (*Report, error) {
	r.t.Helper()
	opt.Source, opt.Volume, opt.Memory = r.image, "v", MinMemory
	if opt.tune == nil {
		opt.tune = smallPacks
	}
	rep, err := Backup(r.t.Context(), repo, opt)
	if err == nil {
		r.want[rep.Point] = bytes.Clone(r.data)
	}
	return rep, err
}

func (r *rig) mustBackup(opt BackupOptions) *Report {
	r.t.Helper()
	rep, err := r.backup(opt)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// child is a backup of the rig's volume in a process of its own.
func (r *rig) child() *backupChild {
	return &backupChild{Store: filepath.Join(r.dir, "repo"), Cache: filepath.Join(r.dir, "cache"), Source: r.image, Memory: MinMemory, Small: true}
}

// check proves, from a machine that knows nothing, that every point reads as
// it must. Points that a killed child committed hold the present data.
func (r *rig) check() []*chunkstore.Point {
	r.t.Helper()
	repo := openTestRepo(r.t, r.store, r.t.TempDir())
	defer func() { _ = repo.Close() }()
	points, err := repo.Points(r.t.Context(), "v")
	if err != nil {
		r.t.Fatal(err)
	}
	found := 0
	for _, p := range points {
		want, ok := r.want[p.ID]
		if ok {
			found++
		} else {
			want = r.data
		}
		got, err := readPoint(r.t.Context(), repo, p)
		if err != nil {
			r.t.Fatalf("point %.8s: %v", p.ID, err)
		}
		if !bytes.Equal(got, want) {
			r.t.Fatalf("point %.8s (%s) differs from offset %d", p.ID, p.Source, firstDifference(got, want))
		}
	}
	if found != len(r.want) {
		r.t.Fatalf("%d of %d points are there", found, len(r.want))
	}
	return points
}

// claimFile writes a change list.
func (r *rig) claimFile(rs blockdiff.Ranges) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "claim")
	if err := os.WriteFile(path, claimOf(r.t, rs).Bytes(), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func claimOf(t testing.TB, rs blockdiff.Ranges) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	if err := blockdiff.WriteClaim(&b, rs); err != nil {
		t.Fatal(err)
	}
	return &b
}
