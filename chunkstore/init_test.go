// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/fault"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

func wrapFault(t testing.TB, s objstore.Store, script string) *fault.Store {
	t.Helper()
	f, err := fault.Wrap(s, script)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestInitIsIdempotent(t *testing.T) {
	s := mem.New()
	opt := InitOptions{KDF: cheapKDF, Chunker: Chunker{Bits: 16, Min: 64 << 10, Max: 256 << 10}}
	created, err := Init(t.Context(), s, passphrase, opt)
	if err != nil || !created {
		t.Fatalf("first init: %v, %v", created, err)
	}
	before := s.Objects()
	for _, again := range []InitOptions{opt, {KDF: cheapKDF}} {
		created, err = Init(t.Context(), s, []byte("another"), again)
		if err != nil || created {
			t.Fatalf("second init: %v, %v", created, err)
		}
	}
	if got := s.Objects(); strings.Join(got, " ") != strings.Join(before, " ") || len(got) != 2 {
		t.Errorf("objects are %v, were %v", got, before)
	}
	if c := openRepo(t, s, "").Config().Chunker; c != opt.Chunker {
		t.Errorf("chunker is %+v, want the first init's", c)
	}
}

func TestRacingInits(t *testing.T) {
	s := mem.New()
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := 0
	for range 32 {
		wg.Go(func() {
			created, err := Init(t.Context(), s, passphrase, InitOptions{KDF: cheapKDF})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if created {
				count++
			}
		})
	}
	wg.Wait()
	if count != 1 {
		t.Errorf("%d of 32 inits say they created the repository", count)
	}
	openRepo(t, s, "")
	if n := len(s.Objects()); n != 2 {
		t.Errorf("objects are %v", s.Objects())
	}
}

// Init is killed at each of its calls, before and after it took effect; the
// next one finishes what is there.
func TestInitAfterCrash(t *testing.T) {
	for _, action := range []string{"crash", "crash-after"} {
		for n := 1; ; n++ {
			s := mem.New()
			f := wrapFault(t, s, fmt.Sprintf("any * nth=%d %s", n, action))
			_, err := Init(t.Context(), f, passphrase, InitOptions{KDF: cheapKDF})
			if !f.Crashed() {
				if err != nil || n < 8 {
					t.Fatalf("no crash at call %d: %v", n, err)
				}
				break
			}
			if err == nil {
				t.Fatalf("%s at call %d is not noticed", action, n)
			}
			if r, err := Open(t.Context(), s, passphrase, OpenOptions{}); err == nil {
				must(t, r.Close())
				continue // the slot was durable
			}
			if created, err := Init(t.Context(), s, passphrase, InitOptions{KDF: cheapKDF}); err != nil || !created {
				t.Fatalf("init after %s at call %d: %v, %v", action, n, created, err)
			}
			openRepo(t, s, "")
		}
	}
}

func TestInitRefuses(t *testing.T) {
	tests := []struct {
		name  string
		store func(t *testing.T) objstore.Store
		pass  string
		opt   InitOptions
		want  error  // one of these
		says  string // two
	}{
		{name: "empty passphrase", pass: "", says: "passphrase is empty"},
		{name: "chunks too large", pass: "x", opt: InitOptions{Chunker: Chunker{Bits: 18, Min: 4096, Max: 16 << 20}}, says: "largest chunk"},
		{name: "chunks too small", pass: "x", opt: InitOptions{Chunker: Chunker{Bits: 18, Min: 1000, Max: 1 << 20}}, says: "smallest chunk"},
		{name: "average too large", pass: "x", opt: InitOptions{Chunker: Chunker{Bits: 25, Min: 4096, Max: 1 << 20}}, says: "average chunk"},
		{name: "store that overwrites", pass: "x", want: objstore.ErrUnsuitable, store: func(*testing.T) objstore.Store { return &overwriting{mem.New()} }},
		{name: "config lost, keys there", pass: "x", says: "config: corrupt", store: func(t *testing.T) objstore.Store {
			s := mem.New()
			initRepo(t, s)
			return del(t, s, configName)
		}},
		{name: "keys lost, sessions there", pass: "x", says: "lost its keys", store: func(t *testing.T) objstore.Store {
			s := mem.New()
			initRepo(t, s)
			backup{repo: openRepo(t, s, ""), volume: "v", data: noise(1, testChunk)}.must(t)
			return del(t, s, slotName(0))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s objstore.Store = mem.New()
			if tt.store != nil {
				s = tt.store(t)
			}
			count := func() (names []string) {
				if err := s.List(t.Context(), "", func(i objstore.Info) error { names = append(names, i.Name); return nil }); err != nil {
					t.Fatal(err)
				}
				return names
			}
			before := count()
			tt.opt.KDF = cheapKDF
			created, err := Init(t.Context(), s, []byte(tt.pass), tt.opt)
			if err == nil || created || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v, %v", created, err)
			}
			if after := count(); len(after) != len(before) {
				t.Errorf("left behind %v, there was %v", after, before)
			}
		})
	}
}

// overwriting is a store without conditional creation.
type overwriting struct{ *mem.Store }

func (o *overwriting) Put(ctx context.Context, name string, body objstore.Body) error {
	_ = o.Store.Delete(ctx, name)
	return o.Store.Put(ctx, name, body)
}

func del(t testing.TB, s *mem.Store, name string) *mem.Store {
	t.Helper()
	if err := s.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return s
}

// A store that began to overwrite after init is noticed before anything is
// written, and the config survives the test.
func TestBeginProvesCreateOnce(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, &overwriting{s}, "")
	for range 2 {
		if _, err := r.Begin(t.Context(), SessionOptions{Volume: "v"}); !errors.Is(err, ErrOverwrites) {
			t.Fatalf("%v, want %v", err, ErrOverwrites)
		}
	}
	openRepo(t, s, "")
	if n := len(s.Objects()); n != 3 {
		t.Errorf("objects are %v", s.Objects())
	}
}

func TestOpenRefuses(t *testing.T) {
	config := func(change func(map[string]any)) func(*testing.T, *mem.Store) {
		return func(t *testing.T, s *mem.Store) {
			s.Tamper(configName, func(b []byte) []byte {
				m := map[string]any{}
				if err := json.Unmarshal(b, &m); err != nil {
					t.Fatal(err)
				}
				change(m)
				out, err := json.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				return out
			})
		}
	}
	tests := []struct {
		name    string
		change  func(*testing.T, *mem.Store)
		pass    string
		want    error
		corrupt string
	}{
		{name: "nothing there", change: func(t *testing.T, s *mem.Store) { del(t, s, configName) }, want: ErrNoRepository},
		{name: "wrong passphrase", pass: "wrong", want: seal.ErrWrongPassphrase},
		{name: "newer version", change: config(func(m map[string]any) { m["version"] = 2 }), want: ErrNewerVersion},
		{name: "newer version of another shape", change: config(func(m map[string]any) { m["version"], m["id"], m["chunker"] = 9, 5, "x" }), want: ErrNewerVersion},
		{name: "unknown feature", change: config(func(m map[string]any) { m["features"] = []string{"sparkle"} }), want: ErrUnknownConfig},
		{name: "other chunk sizes", change: config(func(m map[string]any) { m["chunker"] = Chunker{Bits: 17, Min: 4096, Max: 1 << 20} }), want: seal.ErrConfigAltered},
		{name: "other id", change: config(func(m map[string]any) { m["id"] = hexID(1) }), want: seal.ErrConfigAltered},
		{name: "white space", change: func(_ *testing.T, s *mem.Store) {
			s.Tamper(configName, func(b []byte) []byte { return append(b, ' ') })
		}, want: seal.ErrConfigAltered},
		{name: "version 0", change: config(func(m map[string]any) { m["version"] = 0 }), corrupt: configName},
		{name: "short id", change: config(func(m map[string]any) { m["id"] = "abcd" }), corrupt: configName},
		{name: "impossible chunks", change: config(func(m map[string]any) { m["chunker"] = Chunker{Bits: 17, Min: 1, Max: 1 << 40} }), corrupt: configName},
		{name: "no JSON", change: func(_ *testing.T, s *mem.Store) {
			s.Tamper(configName, func([]byte) []byte { return []byte("hello") })
		}, corrupt: configName},
		{name: "no slot", change: func(t *testing.T, s *mem.Store) { del(t, s, slotName(0)) }, corrupt: slotName(0)},
		{name: "only slot removed", change: func(t *testing.T, s *mem.Store) {
			putRecord(t, openRepo(t, s, ""), slotRemovedName(0), RemovedRecord{Slot: 0})
		}, want: seal.ErrWrongPassphrase},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mem.New()
			initRepo(t, s)
			if tt.change != nil {
				tt.change(t, s)
			}
			pass := passphrase
			if tt.pass != "" {
				pass = []byte(tt.pass)
			}
			r, err := Open(t.Context(), s, pass, OpenOptions{})
			if r != nil || err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if tt.corrupt != "" {
				wantCorrupt(t, err, tt.corrupt)
			}
		})
	}
}

func put(t testing.TB, s objstore.Store, name, data string) {
	t.Helper()
	if err := s.Put(t.Context(), name, objstore.Body{[]byte(data)}); err != nil {
		t.Fatal(err)
	}
}

// A second slot opens the same repository; a damaged first one does not stand
// in the way, and is told where no other opens.
func TestSlots(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	config, err := objstore.ReadAll(t.Context(), s, configName, maxConfigSize)
	if err != nil {
		t.Fatal(err)
	}
	second := []byte("second")
	slot, err := seal.NewSlot(r.Keyring(), second, config, cheapKDF)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, slotName(1), string(slot))
	s.Tamper(slotName(0), func(b []byte) []byte { return bytes.Replace(b, []byte("argon2id"), []byte("argon2ix"), 1) })
	got, err := Open(t.Context(), s, second, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if got.VolumeKey("v") != r.VolumeKey("v") {
		t.Error("the second slot holds other keys")
	}
	if _, err := Open(t.Context(), s, passphrase, OpenOptions{}); !strings.Contains(fmt.Sprint(err), "key slot 0") {
		t.Errorf("%v, want the damaged slot named", err)
	}
}
