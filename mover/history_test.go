// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/cdc"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

var testPassphrase = []byte("correct horse")

// smallChunks make a volume of a few MiB have many of them.
var smallChunks = chunkstore.Chunker{Bits: 15, Min: 32 << 10, Max: 128 << 10}

// newTestRepo creates a repository in store, with a cheap key slot.
func newTestRepo(t testing.TB, store objstore.Store) {
	t.Helper()
	opt := chunkstore.InitOptions{Chunker: smallChunks, KDF: seal.KDF{Time: 1, MemoryKiB: 64, Threads: 1}}
	if _, err := chunkstore.Init(t.Context(), store, testPassphrase, opt); err != nil {
		t.Fatal(err)
	}
}

func openTestRepo(t testing.TB, store objstore.Store, cache string) *chunkstore.Repository {
	t.Helper()
	repo, err := chunkstore.Open(t.Context(), store, testPassphrase, chunkstore.OpenOptions{CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = repo.Close() })
	return repo
}

// readPoint reads a point's volume through the map, chunk by chunk: the slow,
// obvious way.
func readPoint(ctx context.Context, repo *chunkstore.Repository, p *chunkstore.Point) ([]byte, error) {
	out := make([]byte, p.Size)
	it := imagemap.NewIterator(repo, p.Map, 0, p.Size, imagemap.Options{})
	rd := repo.NewReader(p.Domain)
	var plain []byte
	var last chunkstore.ChunkID
	for {
		e, ok, err := it.Next(ctx)
		if err != nil || !ok {
			return out, err
		}
		if e.Chunk != last || plain == nil {
			if plain, err = rd.Chunk(ctx, e.Chunk, plain[:0]); err != nil {
				return nil, err
			}
			last = e.Chunk
		}
		copy(out[e.Off:e.End()], plain[e.ChunkOff:])
	}
}

// history is a volume, what was written since each backup, and what every
// retained point must read as.
type history struct {
	t     *rapid.T
	tb    testing.TB
	store objstore.Store
	repo  *chunkstore.Repository
	image string
	data  []byte
	dirty blockdiff.Ranges // since the last backup
	want  map[string][]byte
	order []string
	r     *rand.Rand
}

func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{t: rt, tb: t, store: mem.New(), want: map[string][]byte{}, r: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))}
		h.image = filepath.Join(t.TempDir(), "image")
		newTestRepo(t, h.store)
		h.reopen()
		h.data = make([]byte, rapid.IntRange(0, 3<<20).Draw(rt, "size"))
		for range rapid.IntRange(3, 14).Draw(rt, "steps") {
			h.step()
		}
		h.backup()
		h.checkAll()
	})
}

func (h *history) reopen() {
	if h.repo != nil {
		if err := h.repo.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(h.image), "")
	if err != nil {
		h.t.Fatal(err)
	}
	h.repo, err = chunkstore.Open(h.tb.Context(), h.store, testPassphrase, chunkstore.OpenOptions{CacheDir: dir})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) step() {
	switch rapid.SampledFrom([]string{"scatter", "scatter", "run", "zero", "copy", "grow", "shrink", "forget", "reopen", "backup", "backup", "backup"}).Draw(h.t, "op") {
	case "scatter":
		for range rapid.IntRange(1, 60).Draw(h.t, "pages") {
			h.write(h.r.IntN(len(h.data)/4096+1)*4096, 1+h.r.IntN(3*4096), h.random)
		}
	case "run":
		h.write(h.r.IntN(len(h.data)+1), 2<<20, h.random)
	case "zero":
		h.write(h.r.IntN(len(h.data)+1), 1+h.r.IntN(1500<<10), func(b []byte) { clear(b) })
	case "copy": // what deduplicates, shifted by a few bytes
		from := h.r.IntN(len(h.data) + 1)
		src := bytes.Clone(h.data[from:])
		h.write(h.r.IntN(len(h.data)+1), 1<<20, func(b []byte) { copy(b, src) })
	case "grow":
		n := h.r.IntN(2 << 20) // after a shrink, an honest claim has the regrown part
		h.dirty = h.dirty.Union(blockdiff.Normalize(blockdiff.Ranges{{Offset: int64(len(h.data)), Length: int64(n)}}))
		h.data = append(h.data, make([]byte, n)...)
	case "shrink":
		h.data = bytes.Clone(h.data[:h.r.IntN(len(h.data)+1)])
		h.dirty = h.dirty.Clip(int64(len(h.data)))
	case "forget":
		h.forget()
	case "reopen":
		h.reopen()
	case "backup":
		h.backup()
	}
}

func (h *history) random(b []byte) {
	for i := range b {
		b[i] = byte(h.r.Uint32())
	}
}

func (h *history) write(off, n int, fill func([]byte)) {
	n = min(n, len(h.data)-off)
	if n <= 0 {
		return
	}
	fill(h.data[off : off+n])
	h.dirty = h.dirty.Union(blockdiff.Ranges{{Offset: int64(off), Length: int64(n)}})
}

// backup runs one of the ways to back up and notes what the point must hold.
func (h *history) backup() {
	if err := os.WriteFile(h.image, h.data, 0o600); err != nil {
		h.t.Fatal(err)
	}
	opt := BackupOptions{Source: h.image, Volume: "v", Memory: MinMemory, Seed: h.r.Uint64() | 1}
	opt.Chunker = rapid.SampledFrom([]cdc.Kind{cdc.Rabin, cdc.Aligned}).Draw(h.t, "chunker")
	opt.DigestSize = rapid.SampledFrom([]int{4 << 10, 16 << 10, 64 << 10}).Draw(h.t, "digests")
	base, err := h.repo.Latest(h.tb.Context(), "v")
	if err != nil {
		h.t.Fatal(err)
	}
	switch rapid.SampledFrom([]string{"full", "claim", "claim", "claim", "compare"}).Draw(h.t, "how") {
	case "full":
		opt.Full = true
	case "claim":
		if base != nil {
			var claim bytes.Buffer
			changed := h.dirty.AlignOut(rapid.SampledFrom([]int64{1, 512, 4096, 65536}).Draw(h.t, "unit"), int64(len(h.data)))
			if err := blockdiff.WriteClaim(&claim, changed); err != nil {
				h.t.Fatal(err)
			}
			opt.Changes = &claim
		}
	}
	rep, err := Backup(h.tb.Context(), h.repo, opt)
	if err != nil {
		h.t.Fatal(err)
	}
	if rep.Audit.Missed != 0 {
		h.t.Fatalf("an honest claim was called a lie: %+v", rep)
	}
	h.want[rep.Point] = bytes.Clone(h.data)
	h.order = append(h.order, rep.Point)
	h.dirty = nil
	h.checkChanged(base, rep.Point)
}

// checkChanged proves that what the map says changed since the base, did at least.
func (h *history) checkChanged(base *chunkstore.Point, id string) {
	p := h.resolve(id)
	if base == nil || !p.Descends(base) {
		return
	}
	old := bytes.Clone(h.want[base.ID])
	old = append(old, make([]byte, max(0, len(h.data)-len(old)))...)[:len(h.data)]
	err := imagemap.ChangedSince(h.tb.Context(), h.repo, p.Map, base.Session, func(off, n int64) error {
		copy(old[off:off+n], h.data[off:off+n])
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if !bytes.Equal(old, h.data) {
		h.t.Fatalf("births of point %.8s hide a change since %.8s", id, base.ID)
	}
}

// forget drops the older half of the points and publishes what the rest needs,
// so that the next backup cleans.
func (h *history) forget() {
	n := len(h.order) / 2
	for _, id := range h.order[:n] {
		p := h.resolve(id)
		if err := h.repo.Forget(h.tb.Context(), chunkstore.PointRef{ID: p.ID, Session: p.Session}, "test"); err != nil {
			h.t.Fatal(err)
		}
		delete(h.want, id)
	}
	h.order = h.order[n:]
	points, err := h.repo.Points(h.tb.Context(), "")
	if err != nil {
		h.t.Fatal(err)
	}
	u, err := h.repo.Survey(h.tb.Context(), points)
	if err == nil {
		err = h.repo.PublishUsage(h.tb.Context(), u)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) resolve(id string) *chunkstore.Point {
	p, err := h.repo.Resolve(h.tb.Context(), id)
	if err != nil {
		h.t.Fatal(fmt.Errorf("point %.8s: %w", id, err))
	}
	return p
}

func (h *history) checkAll() {
	h.reopen()
	for id, want := range h.want {
		got, err := readPoint(h.tb.Context(), h.repo, h.resolve(id))
		if err != nil {
			h.t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			h.t.Fatalf("point %.8s differs from offset %d", id, firstDifference(got, want))
		}
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
