// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/blockio/looptest"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// lab is a repository with one volume, whose image is at hand.
type lab struct {
	t     testing.TB
	store objstore.Store
	repo  *chunkstore.Repository
	image string
	data  []byte
	rnd   *rand.Rand
}

func newLab(t testing.TB, store objstore.Store, size int) *lab {
	t.Helper()
	newTestRepo(t, store)
	l := &lab{t: t, store: store, image: filepath.Join(t.TempDir(), "image"), data: make([]byte, size), rnd: rand.New(rand.NewPCG(uint64(size), 7))}
	l.repo = openTestRepo(t, store, t.TempDir())
	return l
}

// noise writes incompressible bytes over a part of the volume.
func (l *lab) noise(off, n int) {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], l.rnd.Uint64())
	_, _ = rand.NewChaCha8(seed).Read(l.data[off : off+n])
}

// scatter rewrites pages of 8 KiB here and there, some of them with zeros.
func (l *lab) scatter(pages int) {
	for i := range pages {
		at := l.rnd.IntN(len(l.data)/8192) * 8192
		if l.noise(at, 8192); i%5 == 0 {
			clear(l.data[at : at+8192])
		}
	}
}

func (l *lab) backup() *chunkstore.Point {
	l.t.Helper()
	if err := os.WriteFile(l.image, l.data, 0o600); err != nil {
		l.t.Fatal(err)
	}
	rep, err := Backup(context.Background(), l.repo, BackupOptions{Source: l.image, Volume: "vol", Memory: MinMemory})
	if err != nil {
		l.t.Fatal(err)
	}
	p, err := l.repo.Resolve(context.Background(), rep.Point)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// history makes a full backup and a few incrementals of scattered pages.
func (l *lab) history(incrementals int) *chunkstore.Point {
	l.t.Helper()
	size := len(l.data)
	l.noise(size/8, size/4)
	l.noise(size/2, size/3)
	p := l.backup()
	for range incrementals {
		l.scatter(60)
		p = l.backup()
	}
	return p
}

func (l *lab) restore(p *chunkstore.Point, opt RestoreOptions) *RestoreReport {
	l.t.Helper()
	if opt.Memory == 0 {
		opt.Memory = MinMemory
	}
	rep, err := Restore(context.Background(), l.repo, p, opt)
	if err != nil {
		l.t.Fatal(err)
	}
	return rep
}

func (l *lab) same(path string) {
	l.t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	if len(got) < len(l.data) {
		l.t.Fatalf("%s has %d bytes, want %d", path, len(got), len(l.data))
	}
	sameBytes(l.t, got[:len(l.data)], l.data)
}

func sameBytes(t testing.TB, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("differs first at %d: %#x, want %#x", i, got[i], want[i])
		}
	}
}

func TestRestoreToNewFile(t *testing.T) {
	for _, size := range []int{0, 1, 511, 4097, 1<<20 + 513, 24 << 20} {
		l := newLab(t, mem.New(), size)
		if size > 0 {
			l.noise(0, size/2+1)
		}
		p := l.backup()
		if size > 8192 {
			l.scatter(20)
			p = l.backup()
		}
		target := filepath.Join(t.TempDir(), "out")
		rep := l.restore(p, RestoreOptions{Target: target})
		l.same(target)
		if rep.Mode != RestoreFull || rep.RefetchedBytes != 0 || rep.ZeroedBytes != 0 {
			t.Errorf("size %d: %+v", size, rep)
		}
	}
}

// garbage makes an existing file full of what must not be there afterwards.
func garbage(t testing.TB, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xee}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func allocated(t testing.TB, path string) int64 {
	t.Helper()
	src, err := blockio.OpenSource(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	r, err := blockdiff.Allocated(src.File(), src.Size())
	if err != nil {
		t.Skip(err)
	}
	return r.Total()
}

func TestRestoreKeepsAndPunchesHoles(t *testing.T) {
	defer goleak.VerifyNone(t)
	l := newLab(t, mem.New(), 16<<20)
	p := l.history(2)
	fresh := filepath.Join(t.TempDir(), "fresh")
	l.restore(p, RestoreOptions{Target: fresh})
	l.same(fresh)
	for _, size := range []int{0, 5 << 20, 16 << 20, 20 << 20} {
		old := garbage(t, size)
		rep := l.restore(p, RestoreOptions{Target: old})
		l.same(old)
		if st, err := os.Stat(old); err != nil || st.Size() != 16<<20 {
			t.Errorf("target of %d bytes has %v now: %v", size, st.Size(), err)
		}
		if size > 0 && rep.ZeroedBytes == 0 {
			t.Errorf("no bytes were zeroed over %d bytes of garbage", size)
		}
		if a, b := allocated(t, old), allocated(t, fresh); a > b+1<<20 {
			t.Errorf("over %d bytes of garbage %d are allocated, a fresh file has %d", size, a, b)
		}
	}
}

func TestRestoreToDevice(t *testing.T) {
	looptest.RequireRoot(t)
	l := newLab(t, mem.New(), 8<<20+512)
	p := l.history(2)
	for _, size := range []int64{8<<20 + 512, 12 << 20} {
		back := garbage(t, int(size))
		dev := looptest.Attach(t, back)
		rep := l.restore(p, RestoreOptions{Target: dev})
		l.same(dev)
		if rep.ZeroedBytes == 0 {
			t.Error("nothing was zeroed")
		}
		rest, err := os.ReadFile(dev)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range rest[len(l.data):] {
			if b != 0xee {
				t.Fatalf("byte %d behind the volume was touched", i)
			}
		}
	}
}

func TestRestoreRefusesTargets(t *testing.T) {
	l := newLab(t, mem.New(), 4<<20)
	p := l.history(0)
	refused := func(target string, want any) {
		t.Helper()
		_, err := Restore(t.Context(), l.repo, p, RestoreOptions{Target: target, Memory: MinMemory})
		if err == nil || want != nil && !errors.As(err, want) {
			t.Errorf("restore to %s: %v, want %T", target, err, want)
		}
	}
	var kind *blockio.KindError
	refused(t.TempDir(), &kind)
	refused("/dev/null", &kind)
	refused(filepath.Join(t.TempDir(), "no", "such", "folder"), nil)
	if _, err := Restore(t.Context(), l.repo, p, RestoreOptions{Target: "-", Memory: MinMemory}); err == nil {
		t.Error("a stream to nowhere was accepted")
	}
	if _, err := Restore(t.Context(), l.repo, p, RestoreOptions{Target: garbage(t, 1), Memory: 1 << 20}); !errors.Is(err, ErrMemory) {
		t.Errorf("with 1 MiB of memory: %v", err)
	}
	looptest.RequireRoot(t)
	var small *blockio.TooSmallError
	refused(looptest.Attach(t, looptest.SparseFile(t, 2<<20)), &small)
	_, dev := looptest.MountedFS(t, "ext4", 32<<20)
	var used *blockio.InUseError
	refused(dev, &used)
}

func TestDeltaWritesOnlyWhatDiffers(t *testing.T) {
	defer goleak.VerifyNone(t)
	targets := map[string]func(t *testing.T, content []byte) string{
		"file": func(t *testing.T, content []byte) string {
			path := filepath.Join(t.TempDir(), "target")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		},
		"device": func(t *testing.T, content []byte) string {
			path := looptest.SparseFile(t, int64(len(content)+4096))
			dev := looptest.Attach(t, path)
			if err := os.WriteFile(dev, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return dev
		},
	}
	for name, target := range targets {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, mem.New(), 16<<20)
			p := l.history(3)
			old := bytes.Clone(l.data)
			changed := 0
			for _, at := range []int{0, 3 << 20, 9<<20 + 4096, 16<<20 - 4096} {
				for i := range 4096 {
					old[at+i] ^= 0x55
				}
				changed += 4096
			}
			path := target(t, old)
			rep := l.restore(p, RestoreOptions{Target: path, Delta: true})
			l.same(path)
			if rep.Mode != RestoreDelta || rep.WrittenBytes+rep.ZeroedBytes != int64(changed) {
				t.Errorf("%d bytes differed, %d were written and %d zeroed (%s)", changed, rep.WrittenBytes, rep.ZeroedBytes, rep.Mode)
			}
			if rep.ComparedBytes == 0 || rep.ComparedBytes > 16<<20 {
				t.Errorf("%d bytes were compared", rep.ComparedBytes)
			}
			rep = l.restore(p, RestoreOptions{Target: path, Delta: true})
			if rep.WrittenBytes != 0 || rep.ZeroedBytes != 0 || rep.Chunks != 0 {
				t.Errorf("nothing differed, but %+v", rep)
			}
			l.same(path)
		})
	}
}

func TestDeltaFromAnotherPoint(t *testing.T) {
	l := newLab(t, mem.New(), 16<<20)
	first := l.history(0)
	target := filepath.Join(t.TempDir(), "target")
	l.restore(first, RestoreOptions{Target: target})
	before := bytes.Clone(l.data)
	l.scatter(40)
	p := l.backup()
	differ := int64(0)
	for at := 0; at < len(l.data); at += 4096 {
		if !bytes.Equal(l.data[at:at+4096], before[at:at+4096]) {
			differ += 4096
		}
	}
	rep := l.restore(p, RestoreOptions{Target: target, Delta: true})
	l.same(target)
	if got := rep.WrittenBytes + rep.ZeroedBytes; got != differ {
		t.Errorf("%d bytes were written or zeroed, %d differ", got, differ)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if rep := l.restore(p, RestoreOptions{Target: missing, Delta: true}); rep.Mode != RestoreFull || rep.ComparedBytes != 0 {
		t.Errorf("delta to a new file: %+v", rep)
	}
	l.same(missing)
}

func TestStreamEqualsVolume(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, size := range []int{0, 1, 4097, 40<<20 + 777} {
		l := newLab(t, mem.New(), size)
		var p *chunkstore.Point
		if size < 1<<20 {
			l.noise(0, size)
			p = l.backup()
		} else {
			p = l.history(3)
		}
		var out bytes.Buffer
		rep := l.restore(p, RestoreOptions{Target: "-", Out: &out})
		sameBytes(t, out.Bytes(), l.data)
		if rep.Mode != RestoreStream || rep.WrittenBytes != int64(size) {
			t.Errorf("%+v", rep)
		}
		if rep.RefetchedBytes > rep.FetchedBytes/4 {
			t.Errorf("%d of %d bytes were fetched again", rep.RefetchedBytes, rep.FetchedBytes)
		}
	}
}

type fullWriter struct{ left int }

func (w *fullWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	if w.left -= n; n < len(p) {
		return n, os.ErrClosed
	}
	return n, nil
}

func TestStreamEndsWithItsReader(t *testing.T) {
	defer goleak.VerifyNone(t)
	l := newLab(t, mem.New(), 40<<20)
	p := l.history(0)
	_, err := Restore(t.Context(), l.repo, p, RestoreOptions{Target: "-", Out: &fullWriter{left: 9 << 20}, Memory: MinMemory})
	if !errors.Is(err, os.ErrClosed) {
		t.Errorf("stream to a reader that went away: %v", err)
	}
}

func TestRestoreEndsWithItsContext(t *testing.T) {
	l := newLab(t, mem.New(), 8<<20)
	p := l.history(1)
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, opt := range []RestoreOptions{{Target: garbage(t, 4096)}, {Target: garbage(t, 8<<20), Delta: true}, {Target: "-", Out: new(bytes.Buffer)}} {
		opt.Memory = MinMemory
		if _, err := Restore(ctx, l.repo, p, opt); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled restore %+v: %v", opt, err)
		}
	}
}

// extentAt finds what maps an offset of a point's volume.
func (l *lab) extentAt(p *chunkstore.Point, at int64) imagemap.Extent {
	l.t.Helper()
	es, err := imagemap.Lookup(l.t.Context(), l.repo, p.Map, at, 1)
	if err != nil || len(es) != 1 {
		l.t.Fatalf("what maps %d: %v, %v", at, es, err)
	}
	return es[0]
}
