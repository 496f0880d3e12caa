// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write golden files anew")

// golden compares got with a file of testdata. A difference means that what
// older versions wrote may no longer be read: don't update lightly.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s: got\n%q\nwant\n%q", path, got, want)
	}
}

func fixedKeyring(t testing.TB, seeds ...byte) *Keyring {
	t.Helper()
	var masters [][32]byte
	for _, s := range seeds {
		masters = append(masters, fill(s))
	}
	k, err := newKeyring(masters)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func fill(s byte) (out [32]byte) {
	for i := range out {
		out[i] = s + byte(i)
	}
	return out
}

func wantCorrupt(t *testing.T, err error, object string) *CorruptError {
	t.Helper()
	c, ok := errors.AsType[*CorruptError](err)
	if !ok {
		t.Fatalf("error %v, want a CorruptError", err)
	}
	if c.Object != object || c.Offset < 0 || c.Detail == "" || !strings.HasPrefix(c.Error(), object+": corrupt at offset ") {
		t.Fatalf("error %#v, want object %q, an offset and a detail", c, object)
	}
	return c
}

func TestDerivedKeysStayTheSame(t *testing.T) {
	k := fixedKeyring(t, 1).Current()
	var b bytes.Buffer
	line := func(name string, v any) { fmt.Fprintf(&b, "%s %v\n", name, v) }
	key := func(k [32]byte) string { return hex.EncodeToString(k[:]) }
	line("id", k.ID())
	line("record", key(k.record))
	line("pack", key(k.pack))
	line("name", key(k.NameKey("")))
	line("name:tenant", key(k.NameKey("tenant")))
	line("digest", key(k.DigestKey("")))
	line("digest:tenant", key(k.DigestKey("tenant")))
	line("volume", k.VolumeHash("ns/pvc"))
	line("polynomial", uint64(k.Polynomial()))
	line("cache", key(k.CacheKey()))
	golden(t, "keys.golden", b.Bytes())

	seen := map[string]string{}
	for l := range strings.Lines(b.String()) {
		name, value, _ := strings.Cut(l, " ")
		if other, ok := seen[value]; ok {
			t.Errorf("%s and %s derive the same key", name, other)
		}
		seen[value] = name
	}
}

func TestPolynomialIsIrreducible(t *testing.T) {
	for s := range byte(8) {
		p := fixedKeyring(t, s).Current().Polynomial()
		if !p.Irreducible() || p.Deg() != 53 {
			t.Errorf("master %d: polynomial %v of degree %d", s, p, p.Deg())
		}
	}
}

func TestKeyring(t *testing.T) {
	old, err := NewKeyring()
	if err != nil {
		t.Fatal(err)
	}
	k, err := old.Rotated()
	if err != nil {
		t.Fatal(err)
	}
	if k.Current().ID() == old.Current().ID() {
		t.Error("rotation kept the current key")
	}
	found, err := k.Find(old.Current().ID())
	if err != nil || found.NameKey("d") != old.Current().NameKey("d") {
		t.Errorf("find the key before rotation: %v", err)
	}
	if _, err := old.Find(k.Current().ID()); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("find a foreign key: %v", err)
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	k := fixedKeyring(t, 1, 2)
	for _, v := range []any{k, k.Current()} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			got := fmt.Sprintf(verb, v)
			if !strings.Contains(got, k.Current().ID().String()) || len(got) > 64 {
				t.Errorf("%s of %T prints %q", verb, v, got)
			}
		}
	}
}

func TestCipherRoundTrip(t *testing.T) {
	keys := fixedKeyring(t, 1).Current()
	rapid.Check(t, func(t *rapid.T) {
		c, err := keys.PackCipher(fill(rapid.Byte().Draw(t, "salt")))
		if err != nil {
			t.Fatal(err)
		}
		plain := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "plain")
		aad := rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "aad")
		prefix := rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "prefix")
		kind := rapid.SampledFrom([]FrameKind{FrameHeader, FramePayload, FrameTOC}).Draw(t, "kind")
		n := rapid.Uint64().Draw(t, "n")

		sealed := c.Seal(bytes.Clone(prefix), plain, aad, kind, n)
		if len(sealed) != len(prefix)+len(plain)+Overhead || !bytes.HasPrefix(sealed, prefix) {
			t.Fatalf("sealed %x behind %x", sealed, prefix)
		}
		sealed = sealed[len(prefix):]
		got, err := c.Open(bytes.Clone(prefix), sealed, aad, kind, n)
		if err != nil || !bytes.Equal(got, append(prefix, plain...)) {
			t.Fatalf("open: %x, %v", got, err)
		}
	})
}

func TestCipherRefusesWhatItDidNotSeal(t *testing.T) {
	keys := fixedKeyring(t, 1).Current()
	open := func(keys *Keys, salt byte, sealed []byte, aad string, kind FrameKind, n uint64) error {
		c, err := keys.PackCipher(fill(salt))
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Open(nil, sealed, []byte(aad), kind, n)
		if err != nil && out != nil {
			t.Errorf("plaintext %q beside error %v", out, err)
		}
		return err
	}
	c, err := keys.PackCipher(fill(9))
	if err != nil {
		t.Fatal(err)
	}
	sealed := c.Seal(nil, []byte("plain"), []byte("aad"), FramePayload, 7)
	if err := open(keys, 9, sealed, "aad", FramePayload, 7); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sealed)
	flipped[3] ^= 1
	for name, err := range map[string]error{
		"key":       open(fixedKeyring(t, 2).Current(), 9, sealed, "aad", FramePayload, 7),
		"salt":      open(keys, 8, sealed, "aad", FramePayload, 7),
		"aad":       open(keys, 9, sealed, "aa", FramePayload, 7),
		"kind":      open(keys, 9, sealed, "aad", FrameHeader, 7),
		"number":    open(keys, 9, sealed, "aad", FramePayload, 8),
		"flip":      open(keys, 9, flipped, "aad", FramePayload, 7),
		"truncated": open(keys, 9, sealed[:len(sealed)-1], "aad", FramePayload, 7),
		"empty":     open(keys, 9, nil, "aad", FramePayload, 7),
	} {
		if !errors.Is(err, ErrNotAuthentic) {
			t.Errorf("other %s: error %v", name, err)
		}
	}
}

func TestCipherConcurrently(t *testing.T) {
	c, err := fixedKeyring(t, 1).Current().PackCipher(fill(1))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for w := range uint64(4) {
		go func() {
			for n := w; n < 400; n += 4 {
				plain := fmt.Appendf(nil, "frame %d", n)
				got, err := c.Open(nil, c.Seal(nil, plain, nil, FramePayload, n), nil, FramePayload, n)
				if err != nil || !bytes.Equal(got, plain) {
					done <- fmt.Errorf("frame %d: %q, %w", n, got, err)
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestCipherDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	c, err := fixedKeyring(t, 1).Current().PackCipher(fill(1))
	if err != nil {
		t.Fatal(err)
	}
	plain, sealed, opened := make([]byte, 65536), make([]byte, 0, 65536+Overhead), make([]byte, 0, 65536)
	aad := make([]byte, 80)
	if got := testing.AllocsPerRun(50, func() {
		sealed = c.Seal(sealed[:0], plain, aad, FramePayload, 3)
		if opened, err = c.Open(opened[:0], sealed, aad, FramePayload, 3); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations per seal and open", got)
	}
}

func BenchmarkCipher(b *testing.B) {
	c, err := fixedKeyring(b, 1).Current().PackCipher(fill(1))
	if err != nil {
		b.Fatal(err)
	}
	for name, size := range map[string]int{"header": 8, "64KiB": 64 << 10} {
		plain, sealed, opened := make([]byte, size), make([]byte, 0, size+Overhead), make([]byte, 0, size)
		b.Run("seal/"+name, func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				sealed = c.Seal(sealed[:0], plain, nil, FramePayload, 3)
			}
		})
		b.Run("open/"+name, func(b *testing.B) {
			sealed = c.Seal(sealed[:0], plain, nil, FramePayload, 3)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if opened, err = c.Open(opened[:0], sealed, nil, FramePayload, 3); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
