// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/folder"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

// testdata/repository-1 was written once by TestMakeGoldenRepository and stays
// as it is: every later version must read it, and go on in it. Its passphrase is
// that of the tests.
const goldenRepository = "testdata/repository-1"

var makeRepository = flag.Bool("make-repository", false, "write "+goldenRepository+", which must not exist")

// goldenPoint says what a point of the golden repository holds.
type goldenPoint struct {
	ID        string `json:"id"`
	Volume    string `json:"volume"`
	Size      int64  `json:"size"`
	Forgotten bool   `json:"forgotten"`
	Hash      string `json:"hash"` // see pagesHash
}

// sparse is a volume by its pages that are not all zeros.
type sparse map[int64][]byte

func (v sparse) write(off int64, data []byte) {
	for len(data) > 0 {
		page, at := off/testPage, int(off%testPage)
		if v[page] == nil {
			v[page] = make([]byte, testPage)
		}
		n := copy(v[page][at:], data)
		data, off = data[n:], off+int64(n)
	}
}

// hash is the SHA-256 of the volume's size and its pages with their numbers,
// ascending, zeros left out.
func (v sparse) hash(size int64) string {
	h := sha256.New()
	put := func(n int64) { h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	put(size)
	for _, n := range sortedKeys(v) {
		if len(bytes.Trim(v[n], "\x00")) > 0 {
			put(n)
			h.Write(v[n])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func readSparse(ctx context.Context, r *Repository, p *Point) (sparse, error) {
	v := sparse{}
	it := imagemap.NewIterator(r, p.Map, 0, p.Size, imagemap.Options{})
	rd := r.NewReader(p.Domain)
	for {
		e, ok, err := it.Next(ctx)
		if err != nil || !ok {
			return v, err
		}
		plain, err := rd.Chunk(ctx, e.Chunk, nil)
		if err != nil {
			return nil, err
		}
		v.write(e.Off, plain[e.ChunkOff:][:e.Len])
	}
}

func readGoldenPoints(t testing.TB) (points []goldenPoint) {
	t.Helper()
	data, err := os.ReadFile(goldenRepository + ".json")
	must(t, err)
	must(t, json.Unmarshal(data, &points))
	if len(points) < 4 {
		t.Fatalf("only %d points", len(points))
	}
	return points
}

// copyGolden gives a copy to write to.
func copyGolden(t *testing.T) *folder.Store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repository")
	must(t, os.CopyFS(dir, os.DirFS(goldenRepository)))
	s, err := folder.Open(t.Context(), dir)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestGoldenRepository(t *testing.T) {
	s := copyGolden(t)
	r := openRepo(t, s, t.TempDir())
	byID := map[string]PointMeta{}
	for _, m := range r.Metas("") {
		byID[m.ID] = m
	}
	points := readGoldenPoints(t)
	if len(byID) != len(points) {
		t.Errorf("%d points, want %d", len(byID), len(points))
	}
	var last *Point
	for _, want := range points {
		p, err := r.ReadPoint(t.Context(), byID[want.ID])
		if err != nil {
			t.Fatal(err)
		}
		v, err := readSparse(t.Context(), r, p)
		if err != nil {
			t.Fatal(err)
		}
		gone, err := r.Forgotten(t.Context(), p.ID)
		if err != nil || gone != want.Forgotten || p.Volume != want.Volume || p.Size != want.Size || v.hash(p.Size) != want.Hash {
			t.Errorf("point %.8s of %s: forgotten %v, %d bytes, hash %s, want %+v (%v)", p.ID, p.Volume, gone, p.Size, v.hash(p.Size), want, err)
		}
		if !gone {
			last = p
		}
	}
	eachPack(t, r)
	// It goes on: known chunks are known, increments build on what is there.
	data := noise(99, testChunk)
	next, err := goldenIncrement(t.Context(), r, last, map[int64][]byte{8 << 20: data})
	must(t, err)
	before, err := readSparse(t.Context(), r, last)
	must(t, err)
	before.write(8<<20, data)
	after, err := readSparse(t.Context(), openRepo(t, s, ""), next)
	if err != nil || after.hash(next.Size) != before.hash(next.Size) {
		t.Errorf("the next increment reads wrong: %v", err)
	}
}

func eachPack(t *testing.T, r *Repository) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(goldenRepository, "packs"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return pack.Verify(r.keyring, strings.TrimPrefix(filepath.ToSlash(path), goldenRepository+"/"), b)
	})
	must(t, err)
}

// goldenIncrement stores stretches of a volume as one patch chunk each; nil is a hole of 8 KiB.
func goldenIncrement(ctx context.Context, r *Repository, base *Point, writes map[int64][]byte) (_ *Point, err error) {
	s, err := r.Begin(ctx, SessionOptions{Volume: base.Volume, Domain: base.Domain, Base: base, Budget: Budget{PackBytes: 1 << 20, Uploads: 1}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	w := imagemap.NewWriter(s, false)
	if err := goldenExtents(ctx, s, w, chunk.Patch, writes); err != nil {
		return nil, err
	}
	ref, err := w.Close(ctx)
	if err != nil {
		return nil, err
	}
	p := &Point{ID: s.Nonce(), Volume: base.Volume, Domain: base.Domain, Created: r.now().UTC(), Size: base.Size, Source: "given", Chunker: "rabin", Digests: testPage}
	p.Map = base.Map
	p.Map.Runs = append([]imagemap.Ref{ref}, p.Map.Runs...)
	p.Extend(base, s.Branched, "line-"+p.ID[:8])
	return p, s.Commit(ctx, p)
}

func goldenExtents(ctx context.Context, s *Session, w *imagemap.Writer, class chunk.Class, writes map[int64][]byte) error {
	for _, off := range sortedKeys(writes) {
		data := writes[off]
		e := imagemap.Extent{Off: off, Len: 8 << 10, Hole: true, Birth: s.Number()}
		if data != nil {
			id, _, err := s.Put(ctx, Chunk{Class: class, Plain: data, Pieces: []chunk.Piece{{Offset: off, Length: int64(len(data))}}, DigestSize: testPage})
			if err != nil {
				return err
			}
			e = imagemap.Extent{Off: off, Len: int64(len(data)), Chunk: id, Birth: s.Number()}
		}
		if err := w.Add(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// text is what LZ4 shrinks well.
func text(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d of a file that is much like the one before\n", i)
	}
	return b.Bytes()[:n]
}

func TestMakeGoldenRepository(t *testing.T) {
	if !*makeRepository {
		t.Skip("only with -make-repository")
	}
	s, err := folder.Create(t.Context(), goldenRepository)
	must(t, err)
	defer s.Close()
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	now := func() time.Time { at = at.Add(time.Minute); return at }
	_, err = Init(t.Context(), s, passphrase, InitOptions{KDF: cheapKDF, Now: now})
	must(t, err)
	r, err := Open(t.Context(), s, passphrase, OpenOptions{Now: now, Host: "host", Program: "tidemark 1"})
	must(t, err)
	defer r.Close()
	g := &goldenMaker{t: t, r: r, held: map[string]sparse{}}
	g.make()
	out, err := json.MarshalIndent(g.points, "", "  ")
	must(t, err)
	must(t, os.WriteFile(goldenRepository+".json", append(out, '\n'), 0o600))
	must(t, os.Remove(filepath.Join(goldenRepository, "tmp")))
}

type goldenMaker struct {
	t      *testing.T
	r      *Repository
	points []goldenPoint
	held   map[string]sparse
}

func (g *goldenMaker) note(p *Point, base *Point, writes map[int64][]byte, forgotten bool) {
	v := sparse{}
	if base != nil {
		for n, page := range g.held[base.ID] {
			v[n] = bytes.Clone(page)
		}
	}
	for off, data := range writes {
		if data == nil {
			data = make([]byte, 8<<10)
		}
		v.write(off, data)
	}
	g.held[p.ID] = v
	g.points = append(g.points, goldenPoint{ID: p.ID, Volume: p.Volume, Size: p.Size, Forgotten: forgotten, Hash: v.hash(p.Size)})
}

func (g *goldenMaker) full(volume, domain string, size int64, writes map[int64][]byte) *Point {
	t, r := g.t, g.r
	s, err := r.Begin(t.Context(), SessionOptions{Volume: volume, Domain: domain, Budget: Budget{PackBytes: 128 << 10, Uploads: 1}})
	must(t, err)
	w := imagemap.NewWriter(s, true)
	must(t, goldenExtents(t.Context(), s, w, chunk.Base, writes))
	ref, err := w.Close(t.Context())
	must(t, err)
	p := &Point{ID: s.Nonce(), Volume: volume, Domain: domain, Created: r.now().UTC(), Size: size, Line: "line-" + s.Nonce()[:8], Source: "full", Chunker: "rabin", Digests: testPage}
	p.Map = imagemap.Map{Size: size, Birth: s.Number(), Base: ref}
	must(t, s.Commit(t.Context(), p))
	must(t, s.Close())
	return p
}

func (g *goldenMaker) make() {
	t, r := g.t, g.r
	random := noise(1, 66000)
	for i := range random {
		random[i] ^= byte(i * i >> 3)
	}
	// A base over three windows, with an inner node; chunks of two frames, raw
	// and not, odd lengths, one chunk twice.
	base := map[int64][]byte{0: text(100001), 300 << 10: random, 64<<20 + 4096: text(5000), 200<<20 + 511: text(5000), 200<<20 + 8<<10: []byte("tail")}
	size := int64(300<<20 + 777)
	p0 := g.full("db", "", size, base)
	g.note(p0, nil, base, true)
	inc := map[int64][]byte{4096: noise(2, 8192), 16 << 10: nil, 65000: noise(3, 100), 300<<10 + 8192: noise(4, 4096), size - 10: []byte("end of it.")}
	p1, err := goldenIncrement(t.Context(), r, p0, inc)
	must(t, err)
	g.note(p1, p0, inc, false)
	inc2 := map[int64][]byte{8192: noise(5, 4096), 64<<20 + 4096: nil, 100 << 20: noise(6, 3*4096)}
	p2, err := goldenIncrement(t.Context(), r, p1, inc2)
	must(t, err)
	g.note(p2, p1, inc2, false)
	other := map[int64][]byte{0: text(20000), 1 << 20: noise(7, 10000)}
	p3 := g.full("web/täglich", "tenant", 2<<20, other)
	g.note(p3, nil, other, false)
	for _, end := range []string{"abandon", "fence", "nothing"} {
		s, err := r.Begin(t.Context(), SessionOptions{Volume: "db", Budget: Budget{PackBytes: 1 << 20}})
		must(t, err)
		switch end {
		case "abandon":
			must(t, s.Abandon(t.Context()))
		case "fence":
			fence(t, r, s.Number())
		}
		must(t, s.Close())
	}
	must(t, r.Forget(t.Context(), PointRef{ID: p0.ID, Session: p0.Session}, "expired"))
	u, err := r.Survey(t.Context(), []*Point{p1, p2, p3})
	must(t, err)
	must(t, r.PublishUsage(t.Context(), u))
	// Sessions 0 and 1 are folded; their objects stay here, and 1 is followed by a
	// condemned list that names nothing of use.
	catalogue := putRecord(t, r, "gc/catalogue/1", CatalogueRecord{Watermark: 2, Outcomes: []OutcomeRecord{outcomeOf(t, r, 0), outcomeOf(t, r, 1)}})
	condemned := putRecord(t, r, "gc/condemned/1", CondemnedRecord{Packs: []string{"packs/0000000005/000000-" + strings.Repeat("ab", 32)}})
	putRecord(t, r, epochName(1), EpochRecord{Epoch: 1, Created: r.now().UTC(), Watermark: 2, Catalogue: &catalogue, Condemned: []ObjectRef{condemned}})
	p4, err := goldenIncrement(t.Context(), r, p2, map[int64][]byte{0: noise(8, 4096)})
	must(t, err)
	g.note(p4, p2, map[int64][]byte{0: noise(8, 4096)}, false)
}
