// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	cheap      = KDF{Time: 1, MemoryKiB: 8, Threads: 1}
	testPass   = []byte("correct horse")
	testConfig = []byte(`{"version":1}`)
)

func cheapSlot(t testing.TB, k *Keyring) []byte {
	t.Helper()
	slot, err := NewSlot(k, testPass, testConfig, cheap)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func TestSlotRoundTrip(t *testing.T) {
	for name, k := range map[string]*Keyring{"one": fixedKeyring(t, 1), "three": fixedKeyring(t, 3, 2, 1)} {
		t.Run(name, func(t *testing.T) {
			got, err := OpenSlot(cheapSlot(t, k), testPass, testConfig)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(k.masters(), got.masters()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSlotErrors(t *testing.T) {
	slot := cheapSlot(t, fixedKeyring(t, 1))
	if _, err := OpenSlot(slot, []byte("battery staple"), testConfig); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := OpenSlot(slot, nil, testConfig); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("no passphrase: %v", err)
	}
	if _, err := OpenSlot(slot, testPass, []byte(`{"version":2}`)); !errors.Is(err, ErrConfigAltered) {
		t.Errorf("altered config: %v", err)
	}
	newer := bytes.Replace(slot, []byte(`"version":1`), []byte(`"version":2,"more":[]`), 1)
	if _, err := OpenSlot(newer, testPass, testConfig); !errors.Is(err, ErrNewerVersion) {
		t.Errorf("newer version: %v", err)
	}
}

func TestSlotGolden(t *testing.T) {
	salt := fill(50)
	k := fixedKeyring(t, 1, 2)
	slot, err := newSlot(k, testPass, testConfig, KDF{Time: 2, MemoryKiB: 64, Threads: 2}, salt[:], salt[:slotNonce])
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "slot.golden", slot)
	got, err := OpenSlot(slot, testPass, testConfig)
	if err != nil || got.Current().ID() != k.Current().ID() {
		t.Errorf("open the golden slot: %v, %v", got, err)
	}
}

// TestSlotDamage flips every bit. Letters of field names may change case and
// unused bits of base64 may change without harm; everything else is damage,
// and never is it taken for a wrong passphrase or opened as other keys.
func TestSlotDamage(t *testing.T) {
	k := fixedKeyring(t, 1)
	slot := cheapSlot(t, k)
	opened := 0
	for i := range slot {
		for bit := range 8 {
			b := bytes.Clone(slot)
			b[i] ^= 1 << bit
			got, err := OpenSlot(b, testPass, testConfig)
			switch {
			case err == nil:
				opened++
				if diff := cmp.Diff(k.masters(), got.masters()); diff != "" {
					t.Fatalf("flip of bit %d at %d: %s", bit, i, diff)
				}
			case errors.Is(err, ErrNewerVersion) && i < len(`{"version":1`):
			default:
				wantCorrupt(t, err, slotObject)
			}
		}
	}
	if opened > 60 {
		t.Errorf("%d flips of %d went unnoticed", opened, 8*len(slot))
	}
	for n := range len(bytes.TrimSpace(slot)) {
		_, err := OpenSlot(slot[:n], testPass, testConfig)
		wantCorrupt(t, err, slotObject)
	}
	_, err := OpenSlot(append(bytes.Clone(slot), slot...), testPass, testConfig)
	wantCorrupt(t, err, slotObject)
}

// TestForgedSlot alters what is authenticated and then repairs the check, as
// someone with write access to the store could.
func TestForgedSlot(t *testing.T) {
	slot := cheapSlot(t, fixedKeyring(t, 1))
	forge := func(edit func(*slotFile)) []byte {
		var s slotFile
		if err := json.Unmarshal(slot, &s); err != nil {
			t.Fatal(err)
		}
		edit(&s)
		aad, err := s.KDF.aad()
		if err != nil {
			t.Fatal(err)
		}
		s.Check = slotCheck(aad, s.Wrapped)
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	hostile := map[string]func(*slotFile){
		"kdf":           func(s *slotFile) { s.KDF.Name = "scrypt" },
		"time":          func(s *slotFile) { s.KDF.Time = maxKDFTime + 1 },
		"no time":       func(s *slotFile) { s.KDF.Time = 0 },
		"memory":        func(s *slotFile) { s.KDF.MemoryKiB = maxKDFMemory + 1 },
		"work":          func(s *slotFile) { s.KDF.Time, s.KDF.MemoryKiB = maxKDFWork/maxKDFMemory+1, maxKDFMemory },
		"little memory": func(s *slotFile) { s.KDF.MemoryKiB = 7 },
		"threads":       func(s *slotFile) { s.KDF.Threads, s.KDF.MemoryKiB = maxKDFThreads+1, maxKDFMemory },
		"no threads":    func(s *slotFile) { s.KDF.Threads = 0 },
		"short salt":    func(s *slotFile) { s.KDF.Salt = s.KDF.Salt[:minSalt-1] },
		"long salt":     func(s *slotFile) { s.KDF.Salt = make([]byte, maxSalt+1) },
		"short wrapped": func(s *slotFile) { s.Wrapped = s.Wrapped[:slotNonce+Overhead-1] },
		"no version":    func(s *slotFile) { s.Version = 0 },
	}
	for name, edit := range hostile {
		t.Run(name, func(t *testing.T) {
			forged := forge(edit)
			_, err := OpenSlot(forged, testPass, testConfig)
			wantCorrupt(t, err, slotObject)
			if w := SlotWork(forged); w != 0 {
				t.Errorf("it is said to cost %d", w)
			}
		})
	}
	subtle := map[string]func(*slotFile){
		"other time": func(s *slotFile) { s.KDF.Time = 2 },
		"other salt": func(s *slotFile) { s.KDF.Salt[0]++ },
		"ciphertext": func(s *slotFile) { s.Wrapped[20]++ },
	}
	for name, edit := range subtle {
		t.Run(name, func(t *testing.T) {
			if _, err := OpenSlot(forge(edit), testPass, testConfig); !errors.Is(err, ErrWrongPassphrase) {
				t.Errorf("error %v", err)
			}
		})
	}
	_, err := OpenSlot(bytes.Repeat([]byte(" "), maxSlot+1), testPass, testConfig)
	wantCorrupt(t, err, slotObject)
}

func TestNewSlotRefuses(t *testing.T) {
	k := fixedKeyring(t, 1)
	for name, err := range map[string]error{
		"empty passphrase": func() error { _, err := NewSlot(k, nil, testConfig, cheap); return err }(),
		"hostile figures":  func() error { _, err := NewSlot(k, testPass, testConfig, KDF{1, 1, 1}); return err }(),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "make key slot: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDefaultKDF(t *testing.T) {
	slot, err := NewSlot(fixedKeyring(t, 1), testPass, testConfig, KDF{})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := parseSlot(slot)
	if err != nil {
		t.Fatal(err)
	}
	if w := SlotWork(slot); w != 3*64<<10 {
		t.Errorf("it costs %d KiB · passes", w)
	}
	if got := (KDF{s.KDF.Time, s.KDF.MemoryKiB, s.KDF.Threads}); got != DefaultKDF {
		t.Errorf("the zero KDF stands for %+v", got)
	}
}

func FuzzOpenSlot(f *testing.F) {
	slot := cheapSlot(f, fixedKeyring(f, 1))
	f.Add(slot)
	f.Add(slot[:len(slot)/2])
	f.Add([]byte(`{"version":1,"kdf":{"name":"argon2id","time":4294967295,"memoryKiB":4294967295,"threads":255,"salt":""}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := parseSlot(b); err != nil {
			return
		}
		// Whatever passes has the figures of the seed: the check binds them.
		if _, err := OpenSlot(b, testPass, testConfig); err != nil {
			t.Fatalf("a slot with a good check does not open: %v", err)
		}
	})
}
