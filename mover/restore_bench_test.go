// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/folder"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

const benchBytes = 256 << 20

// benchLab is a volume whose pages compress to about a half, as databases do,
// in a repository with default chunks.
func benchLab(b *testing.B, incrementals int) (*chunkstore.Repository, *chunkstore.Point) {
	b.Helper()
	store, err := folder.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	opt := chunkstore.InitOptions{KDF: seal.KDF{Time: 1, MemoryKiB: 64, Threads: 1}}
	if _, err := chunkstore.Init(b.Context(), store, testPassphrase, opt); err != nil {
		b.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, benchBytes)
	fill := func(p []byte) {
		for at := 0; at < len(p); at += 16 {
			for i := range 8 {
				p[at+i] = byte(rnd.Uint32())
			}
		}
	}
	fill(data)
	image := filepath.Join(b.TempDir(), "image")
	repo := openTestRepo(b, store, b.TempDir())
	var id string
	for n := range incrementals + 1 {
		if n > 0 {
			for range len(data) / 8192 / 100 {
				at := rnd.IntN(len(data)/8192) * 8192
				fill(data[at : at+8192])
			}
		}
		if err := os.WriteFile(image, data, 0o600); err != nil {
			b.Fatal(err)
		}
		rep, err := Backup(b.Context(), repo, BackupOptions{Source: image, Volume: "v"})
		if err != nil {
			b.Fatal(err)
		}
		id = rep.Point
	}
	p, err := repo.Resolve(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	return repo, p
}

func benchRestore(b *testing.B, incrementals int, opt RestoreOptions) {
	repo, p := benchLab(b, incrementals)
	dir := b.TempDir()
	b.SetBytes(p.Size)
	b.ReportAllocs()
	var cpu float64
	var fetched int64
	for b.Loop() {
		if opt.Out == nil {
			opt.Target = filepath.Join(dir, "target")
			_ = os.Remove(opt.Target)
		}
		rep, err := Restore(b.Context(), repo, p, opt)
		if err != nil {
			b.Fatal(err)
		}
		cpu, fetched = cpu+rep.CPUSeconds, rep.FetchedBytes
	}
	b.ReportMetric(cpu/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(fetched), "fetched-B/op")
}

func BenchmarkRestoreFile(b *testing.B) { benchRestore(b, 0, RestoreOptions{}) }

func BenchmarkRestoreFragmented(b *testing.B) { benchRestore(b, 20, RestoreOptions{}) }

func BenchmarkRestoreStream(b *testing.B) {
	benchRestore(b, 0, RestoreOptions{Target: "-", Out: io.Discard})
}

// BenchmarkRestoreLoop is the yardstick: packs in memory, every chunk opened,
// decoded, hashed and written to the same kind of target, on all cores.
func BenchmarkRestoreLoop(b *testing.B) {
	repo, p := benchLab(b, 0)
	extents, err := imagemap.Lookup(b.Context(), repo, p.Map, 0, p.Size)
	if err != nil {
		b.Fatal(err)
	}
	packs := map[index.PackID][]byte{}
	locs := map[chunk.ID]index.Location{}
	for _, e := range extents {
		loc, err := repo.Locate(b.Context(), e.Chunk)
		if err != nil {
			b.Fatal(err)
		}
		locs[e.Chunk] = loc
		if packs[loc.Pack] == nil {
			if packs[loc.Pack], err = repo.Fetch(b.Context(), loc.Pack, 0, int64(loc.Pack.Size)); err != nil {
				b.Fatal(err)
			}
		}
	}
	path := filepath.Join(b.TempDir(), "target")
	b.SetBytes(p.Size)
	before := cpuTime()
	for b.Loop() {
		_ = os.Remove(path)
		if err := restoreLoop(b, repo, p, path, extents, locs, packs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpuTime()-before).Seconds()/float64(b.N), "cpu-s/op")
}

func restoreLoop(b *testing.B, repo *chunkstore.Repository, p *chunkstore.Point, path string, extents []imagemap.Extent, locs map[chunk.ID]index.Location, packs map[index.PackID][]byte) error {
	t, err := blockio.OpenTarget(path, p.Size, blockio.TargetOptions{})
	if err != nil {
		return err
	}
	defer t.Close()
	var g errgroup.Group
	cores := runtime.GOMAXPROCS(0)
	for w := range cores {
		g.Go(func() error {
			rd := repo.NewReader(p.Domain)
			var plain []byte
			for i := w; i < len(extents); i += cores {
				e := &extents[i]
				loc := locs[e.Chunk]
				var err error
				plain, err = rd.Decode(b.Context(), loc, packs[loc.Pack][loc.Offset:loc.Offset+loc.Stored], plain[:0])
				if err == nil {
					err = t.WriteAt(b.Context(), plain[e.ChunkOff:int64(e.ChunkOff)+e.Len], e.Off)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return t.Sync(b.Context())
}
