// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

func TestSmoke(t *testing.T) {
	ctx := t.Context()
	store := mem.New()
	if _, err := chunkstore.Init(ctx, store, []byte("x"), chunkstore.InitOptions{KDF: seal.KDF{Time: 1, MemoryKiB: 64, Threads: 1}}); err != nil {
		t.Fatal(err)
	}
	repo, err := chunkstore.Open(ctx, store, []byte("x"), chunkstore.OpenOptions{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	img := filepath.Join(t.TempDir(), "img")
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 64<<20)
	for i := 5 << 20; i < 40<<20; i++ {
		data[i] = byte(r.Uint32())
	}
	os.WriteFile(img, data, 0o600)
	rep, err := Backup(ctx, repo, BackupOptions{Source: img, Volume: "v"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", rep)
	check(t, ctx, repo, rep.Point, data)
	for range 5 {
		for range 50 {
			p := r.IntN(len(data)/8192) * 8192
			for i := range 8192 {
				data[p+i] = byte(r.Uint32())
			}
		}
		os.WriteFile(img, data, 0o600)
		rep, err = Backup(ctx, repo, BackupOptions{Source: img, Volume: "v"})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", rep)
		check(t, ctx, repo, rep.Point, data)
	}
}

func check(t *testing.T, ctx context.Context, repo *chunkstore.Repository, id string, want []byte) {
	p, err := repo.Resolve(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, p.Size)
	it := imagemap.NewIterator(repo, p.Map, 0, p.Size, imagemap.Options{})
	rd := repo.NewReader("")
	for {
		e, ok, err := it.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		c, err := rd.Chunk(ctx, e.Chunk, nil)
		if err != nil {
			t.Fatal(err)
		}
		copy(got[e.Off:], c[e.ChunkOff:int64(e.ChunkOff)+e.Len])
	}
	if !bytes.Equal(got, want) {
		t.Fatal("differs")
	}
}
