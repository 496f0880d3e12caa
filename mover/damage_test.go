// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/fault"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// damages are ways in which an object can be wrong.
var damages = map[string]func(rnd *rand.Rand, b []byte) []byte{
	"flip": func(rnd *rand.Rand, b []byte) []byte {
		b = bytes.Clone(b)
		b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
		return b
	},
	"version": func(_ *rand.Rand, b []byte) []byte { return flipped(b, 4) },
	"key":     func(_ *rand.Rand, b []byte) []byte { return flipped(b, 9) },
	"salt":    func(_ *rand.Rand, b []byte) []byte { return flipped(b, 18) },
	"cut":     func(rnd *rand.Rand, b []byte) []byte { return bytes.Clone(b[:rnd.IntN(len(b))]) },
	"grow": func(rnd *rand.Rand, b []byte) []byte {
		return append(bytes.Clone(b), byte(rnd.Uint32()))
	},
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 2
	return b
}

// kindOf names the kind of an object by its place.
func kindOf(name string) string {
	dir, rest, _ := strings.Cut(name, "/")
	if dir == "sessions" {
		_, last, _ := strings.Cut(rest, "/")
		return dir + " " + last
	}
	return dir
}

// TestNoDamageIsRestoredSilently spoils every object of a repository in turn.
// Whatever that does, a restore either fails with an error that names damage or
// gives every bit, and verification names the object.
func TestNoDamageIsRestoredSilently(t *testing.T) {
	store := mem.New()
	l := newLab(t, store, 2<<20)
	p := l.history(1)
	rnd := rand.New(rand.NewPCG(8, 8))
	kinds := map[string]int{}
	for _, name := range store.Objects() {
		if strings.HasPrefix(name, "probe/") { // nobody reads it again
			continue
		}
		kinds[kindOf(name)]++
		for how, spoil := range damages {
			s := store.Clone()
			if !s.Tamper(name, func(b []byte) []byte { return spoil(rnd, b) }) {
				t.Fatalf("%s is not there", name)
			}
			l.expectDamage(s, p, name, how)
		}
		s := store.Clone()
		if err := s.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if kind := kindOf(name); kind == "packs" || kind == "index" || kind == "points" {
			l.expectDamage(s, p, name, "deleted")
		}
	}
	for _, kind := range []string{"config", "keys", "sessions open", "sessions outcome", "packs", "index", "points"} {
		if kinds[kind] == 0 {
			t.Errorf("no object of kind %q was spoiled: %v", kind, kinds)
		}
	}
}

func (l *lab) expectDamage(s objstore.Store, p *chunkstore.Point, name, how string) {
	t := l.t
	t.Helper()
	repo, err := chunkstore.Open(t.Context(), s, testPassphrase, chunkstore.OpenOptions{CacheDir: t.TempDir()})
	if err != nil {
		if !namesDamage(err, name) {
			t.Errorf("%s, %s: open: %v", name, how, err)
		}
		return
	}
	defer repo.Close()
	l.expectRestore(repo, p.ID, name, how)
	rep, err := Verify(t.Context(), repo, nil, VerifyOptions{ReadData: 100, Memory: MinMemory})
	if err != nil {
		t.Errorf("%s, %s: verify: %v", name, how, err)
		return
	}
	// What an outcome would have named can't be known without it.
	nameless := kindOf(name) == "sessions outcome"
	if !slices.ContainsFunc(rep.Problems, func(q Problem) bool {
		return q.Object == name && (len(q.Points) > 0 || nameless) && q.Detail != ""
	}) {
		t.Errorf("%s, %s: verify does not name it with points that suffer: %+v", name, how, rep.Problems)
	}
	if rep.ExitCode() != ExitDamaged {
		t.Errorf("%s, %s: exit code %d", name, how, rep.ExitCode())
	}
}

// expectRestore accepts every bit, or an error that names damage.
func (l *lab) expectRestore(repo *chunkstore.Repository, id, name, how string) {
	t := l.t
	t.Helper()
	p, err := repo.Resolve(t.Context(), id)
	if err != nil {
		if !namesDamage(err, name) {
			t.Errorf("%s, %s: resolve: %v", name, how, err)
		}
		return
	}
	target := filepath.Join(t.TempDir(), "target")
	_, err = Restore(t.Context(), repo, p, RestoreOptions{Target: target, Memory: MinMemory})
	if err == nil {
		l.same(target)
	} else if !namesDamage(err, name) {
		t.Errorf("%s, %s: restore: %v", name, how, err)
	}
	var out bytes.Buffer
	_, serr := Restore(t.Context(), repo, p, RestoreOptions{Target: "-", Out: &out, Memory: MinMemory})
	if serr == nil {
		sameBytes(t, out.Bytes(), l.data)
	} else if !namesDamage(serr, name) {
		t.Errorf("%s, %s: stream: %v", name, how, serr)
	}
	if (err == nil) != (serr == nil) {
		t.Errorf("%s, %s: restore says %v, stream says %v", name, how, err, serr)
	}
}

// namesDamage tells whether an error has a type that exit code 3 is for, and
// says which object it is about.
func namesDamage(err error, name string) bool {
	if bad, ok := errors.AsType[*seal.CorruptError](err); ok {
		return bad.Object == name || bad.Object == "key slot" && strings.HasPrefix(name, "keys/")
	}
	for _, known := range []error{seal.ErrConfigAltered, seal.ErrWrongPassphrase, seal.ErrNewerVersion, seal.ErrUnknownKey, chunkstore.ErrNewerVersion, chunkstore.ErrNoRepository} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// TestDamageNamesVolumeRanges spoils one chunk and expects exactly its ranges.
func TestDamageNamesVolumeRanges(t *testing.T) {
	defer goleak.VerifyNone(t)
	store := mem.New()
	l := newLab(t, store, 8<<20)
	p := l.history(1)
	at := int64(2 << 20) // is data
	e := l.extentAt(p, at)
	loc, err := l.repo.Locate(t.Context(), e.Chunk)
	if err != nil {
		t.Fatal(err)
	}
	store.Tamper(loc.Pack.Name(), func(b []byte) []byte {
		b = bytes.Clone(b)
		b[loc.Offset+loc.Stored/2] ^= 4
		return b
	})
	for _, opt := range []RestoreOptions{{Target: filepath.Join(t.TempDir(), "new")}, {Target: garbage(t, 8<<20), Delta: true}, {Target: "-", Out: new(bytes.Buffer)}} {
		opt.Memory = MinMemory
		_, err = Restore(t.Context(), l.repo, p, opt)
		var d *DamageError
		if !errors.As(err, &d) {
			t.Fatalf("%+v: %v", opt, err)
		}
		var bad *seal.CorruptError
		if !errors.As(err, &bad) || bad.Object != loc.Pack.Name() || bad.Offset < int64(loc.Offset) || bad.Offset >= int64(loc.Offset+loc.Stored) {
			t.Errorf("names %+v, spoiled was %s at %d", bad, loc.Pack.Name(), loc.Offset)
		}
		covers := false
		for _, r := range d.Ranges {
			covers = covers || r.Offset <= at && at < r.End()
		}
		if !covers || !opt.Delta && d.Ranges.Total() > int64(loc.Plain) {
			t.Errorf("names %v for a chunk of %d bytes mapped at %d", d.Ranges, loc.Plain, at)
		}
	}
}

// TestRestoreFailsLoudlyOnFaults lets requests fail and bodies break.
func TestRestoreFailsLoudlyOnFaults(t *testing.T) {
	defer goleak.VerifyNone(t)
	clean := mem.New()
	l := newLab(t, clean, 8<<20)
	p := l.history(1)
	for _, script := range []string{
		"get packs/* nth=2 error=retryable", "get packs/* nth=3 cut=100", "get packs/* nth=1 flip=70", "get packs/* error=unreachable", "get packs/* nth=2 crash",
	} {
		s, err := fault.Wrap(clean.Clone(), script)
		if err != nil {
			t.Fatal(err)
		}
		repo := openTestRepo(t, s, t.TempDir())
		target := filepath.Join(t.TempDir(), "target")
		_, err = Restore(t.Context(), repo, p, RestoreOptions{Target: target, Memory: MinMemory, tune: func(p *restorePlan) { p.jobBytes = 256 << 10 }})
		if err == nil {
			t.Errorf("%s: nothing was said", script)
		}
		// Once the store works again the same target is finished.
		_ = repo.Close()
		if _, err := Restore(t.Context(), l.repo, p, RestoreOptions{Target: target, Memory: MinMemory}); err != nil {
			t.Errorf("%s: after it: %v", script, err)
		}
		l.same(target)
	}
}

func TestVerifyWholeRepository(t *testing.T) {
	defer goleak.VerifyNone(t)
	store := mem.New()
	l := newLab(t, store, 8<<20)
	l.history(3)
	points, err := l.repo.Points(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var packs, read int64
	for _, percent := range []float64{0, 0.001, 50, 100} {
		rep, err := Verify(t.Context(), l.repo, points, VerifyOptions{ReadData: percent, Memory: MinMemory, Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Problems) != 0 || rep.Points != 4 || rep.Nodes == 0 || rep.Chunks == 0 || rep.Packs == 0 || rep.ExitCode() != 0 {
			t.Errorf("%g %%: %+v", percent, rep)
		}
		if rep.PacksRead < read || percent > 0 && rep.PacksRead == 0 || percent == 0 && rep.PacksRead != 0 || rep.PacksRead > rep.Packs {
			t.Errorf("%g %%: %d of %d packs were read, %d before", percent, rep.PacksRead, rep.Packs, read)
		}
		packs, read = rep.Packs, rep.PacksRead
	}
	if read != packs {
		t.Errorf("100 %% read %d of %d packs", read, packs)
	}
	for _, bad := range []float64{-1, 101} {
		if _, err := Verify(t.Context(), l.repo, points, VerifyOptions{ReadData: bad}); err == nil {
			t.Errorf("%g percent was accepted", bad)
		}
	}
}

// TestVerifyNamesOnlyPointsThatSuffer loses the pack of one incremental: the
// points before it, and those after that wrote the same pages again, are whole.
func TestVerifyNamesOnlyPointsThatSuffer(t *testing.T) {
	store := mem.New()
	l := newLab(t, store, 8<<20)
	first := l.history(0)
	l.noise(3<<20, 8192)
	second := l.backup()
	e := l.extentAt(second, 3<<20)
	loc, err := l.repo.Locate(t.Context(), e.Chunk)
	if err != nil {
		t.Fatal(err)
	}
	l.noise(5<<20, 8192)
	third := l.backup()
	l.noise(3<<20, 8192)
	fourth := l.backup()
	if err := store.Delete(t.Context(), loc.Pack.Name()); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(t.Context(), l.repo, nil, VerifyOptions{Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{second.ID, third.ID}
	if len(rep.Problems) != 1 || rep.Problems[0].Object != loc.Pack.Name() || fmt.Sprint(rep.Problems[0].Points) != fmt.Sprint(want) {
		t.Errorf("lost %s, which hurts %v and neither %s nor %s: %+v", loc.Pack.Name(), want, first.ID, fourth.ID, rep.Problems)
	}
}
