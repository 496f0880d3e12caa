// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

var testRepo = [16]byte{0xaa, 1, 2, 3}

const testName = "points/abc/0000000001"

func TestRecordRoundTrip(t *testing.T) {
	k := fixedKeyring(t, 1)
	rotated, err := k.Rotated()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "plain")
		name := rapid.String().Draw(t, "name")
		sealed, err := k.SealRecord(testRepo, name, plain)
		if err != nil {
			t.Fatal(err)
		}
		for _, ring := range []*Keyring{k, rotated} {
			got, err := ring.OpenRecord(testRepo, name, sealed)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("open: %x, %v", got, err)
			}
		}
	})
}

func TestRecordsDifferEachTime(t *testing.T) {
	k := fixedKeyring(t, 1)
	a, err := k.SealRecord(testRepo, testName, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.SealRecord(testRepo, testName, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a[16:48], b[16:48]) || bytes.Equal(a[48:], b[48:]) {
		t.Error("two records share their salt or their ciphertext")
	}
}

func TestRecordGolden(t *testing.T) {
	k := fixedKeyring(t, 1)
	sealed, err := k.Current().sealRecord(testRepo, testName, []byte(`{"a":"record"}`), fill(77))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "record.golden", sealed)
}

func TestRecordDamage(t *testing.T) {
	k := fixedKeyring(t, 1)
	sealed, err := k.SealRecord(testRepo, testName, []byte("some plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(sealed) {
		_, err := k.OpenRecord(testRepo, testName, sealed[:n])
		wantCorrupt(t, err, testName)
	}
	_, err = k.OpenRecord(testRepo, testName, append(bytes.Clone(sealed), 0))
	wantCorrupt(t, err, testName)
	for i := range sealed {
		for bit := range 8 {
			b := bytes.Clone(sealed)
			b[i] ^= 1 << bit
			_, err := k.OpenRecord(testRepo, testName, b)
			switch {
			case i == 4 && b[i] > recordVersion:
				if !errors.Is(err, ErrNewerVersion) {
					t.Fatalf("version %d: %v", b[i], err)
				}
			case i >= 8 && i < 16:
				if !errors.Is(err, ErrUnknownKey) {
					t.Fatalf("flip in key id: %v", err)
				}
			default:
				c := wantCorrupt(t, err, testName)
				if want := min(int64(i), recordHeader); i >= 4 && i < 16 && c.Offset != want {
					t.Fatalf("flip at %d named as %d", i, c.Offset)
				}
			}
		}
	}
}

func TestRecordBelongsToItsPlace(t *testing.T) {
	k := fixedKeyring(t, 1)
	sealed, err := k.SealRecord(testRepo, testName, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.OpenRecord(testRepo, "points/abc/0000000002", sealed)
	wantCorrupt(t, err, "points/abc/0000000002")
	_, err = k.OpenRecord([16]byte{1}, testName, sealed)
	wantCorrupt(t, err, testName)
	if _, err := fixedKeyring(t, 2).OpenRecord(testRepo, testName, sealed); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("foreign keyring: %v", err)
	}
}

func FuzzOpenRecord(f *testing.F) {
	k := fixedKeyring(f, 1)
	for _, plain := range []string{"", "plain"} {
		sealed, err := k.SealRecord(testRepo, testName, []byte(plain))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed)
		f.Add(sealed[:len(sealed)-1])
	}
	f.Add([]byte(recordMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := k.OpenRecord(testRepo, testName, b)
		if err == nil && len(plain) != len(b)-recordHeader-Overhead {
			t.Fatalf("%d bytes open to %d", len(b), len(plain))
		}
	})
}
