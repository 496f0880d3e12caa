// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tidemark-io/tidemark/chunkstore/cdc"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" { // the test binary as the program that gets killed
		if err := writeUntilKilled(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Private caches sync what they write; on memory that costs nothing.
	if _, err := os.Stat(memoryDir); err == nil {
		if err := os.Setenv("TMPDIR", memoryDir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

const memoryDir = "/dev/shm"

var (
	passphrase = []byte("correct horse")
	cheapKDF   = seal.KDF{Time: 1, MemoryKiB: 64, Threads: 1}
)

const (
	testChunk = 16 << 10
	testPage  = 4 << 10
)

func initRepo(t testing.TB, s objstore.Store) {
	t.Helper()
	if _, err := Init(t.Context(), s, passphrase, InitOptions{KDF: cheapKDF}); err != nil {
		t.Fatal(err)
	}
}

func tryOpen(ctx context.Context, s objstore.Store, cache string) (*Repository, error) {
	return Open(ctx, s, passphrase, OpenOptions{CacheDir: cache, Host: "host", Program: "test", RangeBytes: 4 << 10})
}

func openRepo(t testing.TB, s objstore.Store, cache string) *Repository {
	t.Helper()
	r, err := tryOpen(t.Context(), s, cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// backup is a mover of a few lines: whole chunks without a base, changed pages
// gathered into patches with one.
type backup struct {
	repo   *Repository
	volume string
	domain string
	base   *Point
	old    []byte // what the base holds
	data   []byte
	fresh  int // SessionOptions.Budget.FreshEntries

	uploads int
	begun   func(*Session) error // called before anything is stored
	ready   func(*Session, *Point) error
}

func (b backup) run(ctx context.Context) (_ *Point, err error) {
	opt := SessionOptions{Volume: b.volume, Domain: b.domain, Base: b.base, Budget: Budget{PackBytes: 256 << 10, Uploads: cmp.Or(b.uploads, 2), FreshEntries: b.fresh}}
	s, err := b.repo.Begin(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if b.begun != nil {
		if err := b.begun(s); err != nil {
			return nil, err
		}
	}
	p, err := b.store(ctx, s)
	if err != nil {
		return nil, err
	}
	if b.ready != nil {
		if err := b.ready(s, p); err != nil {
			return nil, err
		}
	}
	return p, s.Commit(ctx, p)
}

func (b backup) store(ctx context.Context, s *Session) (*Point, error) {
	full := b.base == nil || s.BaseForgotten
	w := imagemap.NewWriter(s, full)
	var err error
	if full {
		err = b.chunks(ctx, s, w)
	} else {
		err = b.patches(ctx, s, w)
	}
	if err != nil {
		return nil, err
	}
	ref, err := w.Close(ctx)
	if err != nil {
		return nil, err
	}
	size := int64(len(b.data))
	m := imagemap.Map{Size: size, Birth: s.Number(), Base: ref}
	p := &Point{
		ID: s.Nonce(), Volume: b.volume, Domain: b.domain, Created: b.repo.now().UTC(), Size: size, Line: "line-" + s.Nonce()[:8],
		Source: "test", Chunker: cdc.Rabin, Digests: testPage,
	}
	if !full {
		m = b.base.Map
		m.Size = size
		if !ref.IsZero() {
			m.Runs = append([]imagemap.Ref{ref}, m.Runs...)
		}
		if m, _, err = imagemap.Compact(ctx, s, s, m, imagemap.Policy{}); err != nil {
			return nil, err
		}
		p.Extend(b.base, s.Branched, p.Line)
	}
	p.Map = m
	return p, nil
}

func (b backup) chunks(ctx context.Context, s *Session, w *imagemap.Writer) error {
	for off := 0; off < len(b.data); off += testChunk {
		plain := b.data[off:min(off+testChunk, len(b.data))]
		if len(bytes.Trim(plain, "\x00")) == 0 {
			continue
		}
		piece := []chunk.Piece{{Offset: int64(off), Length: int64(len(plain))}}
		id, _, err := s.Put(ctx, Chunk{Class: chunk.Base, Plain: plain, Pieces: piece, DigestSize: testPage})
		if err != nil {
			return err
		}
		if err := w.Add(ctx, imagemap.Extent{Off: int64(off), Len: int64(len(plain)), Chunk: id, Birth: s.Number()}); err != nil {
			return err
		}
	}
	return nil
}

func (b backup) patches(ctx context.Context, s *Session, w *imagemap.Writer) error {
	var plain []byte
	var pieces []chunk.Piece
	flush := func() error {
		if len(plain) == 0 {
			return nil
		}
		id, _, err := s.Put(ctx, Chunk{Class: chunk.Patch, Plain: plain, Pieces: pieces, DigestSize: testPage})
		at := int64(0)
		for _, p := range pieces {
			if err == nil {
				err = w.Add(ctx, imagemap.Extent{Off: p.Offset, Len: p.Length, Chunk: id, ChunkOff: uint32(at), Birth: s.Number()})
			}
			at += p.Length
		}
		plain, pieces = plain[:0], nil
		return err
	}
	for off := 0; off < len(b.data); off += testPage {
		page := b.data[off:min(off+testPage, len(b.data))]
		if off+len(page) <= len(b.old) && bytes.Equal(page, b.old[off:off+len(page)]) {
			continue
		}
		plain = append(plain, page...)
		pieces = append(pieces, chunk.Piece{Offset: int64(off), Length: int64(len(page))})
		if len(plain) >= testChunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func (b backup) must(t testing.TB) *Point {
	t.Helper()
	p, err := b.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// read restores a point the slow, obvious way.
func read(ctx context.Context, r *Repository, p *Point) ([]byte, error) {
	out := make([]byte, p.Size)
	it := imagemap.NewIterator(r, p.Map, 0, p.Size, imagemap.Options{})
	rd := r.NewReader(p.Domain)
	for {
		e, ok, err := it.Next(ctx)
		if err != nil || !ok {
			return out, err
		}
		plain, err := rd.Chunk(ctx, e.Chunk, nil)
		if err != nil {
			return nil, err
		}
		if int64(e.ChunkOff)+e.Len > int64(len(plain)) {
			return nil, fmt.Errorf("chunk %s is shorter than the map says", e.Chunk.Short())
		}
		copy(out[e.Off:e.End()], plain[e.ChunkOff:])
	}
}

// history is what the points of a repository must read as, by id.
type history map[string][]byte

// check opens the repository anew, without any cache, and compares everything:
// all points that should be there, and no other.
func (h history) check(t testing.TB, s objstore.Store) {
	t.Helper()
	r, err := tryOpen(t.Context(), s, "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h.checkIn(t, r)
}

func (h history) checkIn(t testing.TB, r *Repository) {
	t.Helper()
	points, err := r.Points(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(points) != len(h) {
		t.Fatalf("%d points, want %d", len(points), len(h))
	}
	for _, p := range points {
		got, err := read(t.Context(), r, p)
		if err != nil {
			t.Fatalf("point %.8s: %v", p.ID, err)
		}
		if want, ok := h[p.ID]; !ok || !bytes.Equal(got, want) {
			t.Fatalf("point %.8s of volume %s reads other bytes than were stored (or is unknown: %v)", p.ID, p.Volume, !ok)
		}
	}
}

// noise is random bytes that LZ4 shrinks a little.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		if i%97 > 30 {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

// edited is data with some pages written anew.
func edited(data []byte, seed uint64, pages ...int) []byte {
	out := bytes.Clone(data)
	for _, p := range pages {
		copy(out[p*testPage:], noise(seed+uint64(p), testPage))
	}
	return out
}

func golden(t testing.TB, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

func fixedClock() func() time.Time {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	return func() time.Time { return at }
}

// wantCorrupt asks for damage to be named.
func wantCorrupt(t testing.TB, err error, object string) {
	t.Helper()
	bad, ok := errors.AsType[*seal.CorruptError](err)
	if !ok || bad.Object != object {
		t.Errorf("%v, want corruption of %s", err, object)
	}
}

func hexID(n byte) string { return hex.EncodeToString(bytes.Repeat([]byte{n}, 16)) }
