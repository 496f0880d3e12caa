// SPDX-License-Identifier: Apache-2.0

package seal

import "fmt"

const (
	recordMagic   = "TDMR"
	recordVersion = 1
	recordHeader  = 48
)

// SealRecord seals a control object for one place: the object name in the
// repository. Opened elsewhere it is not authentic.
func (k *Keyring) SealRecord(repo [16]byte, name string, plain []byte) ([]byte, error) {
	return k.Current().sealRecord(repo, name, plain, randomSecret())
}

func (k *Keys) sealRecord(repo [16]byte, name string, plain []byte, salt [32]byte) ([]byte, error) {
	out := make([]byte, 0, recordHeader+len(plain)+Overhead)
	out = append(out, recordMagic...)
	out = append(out, recordVersion, 0, 0, 0)
	out = append(out, k.id[:]...)
	out = append(out, salt[:]...)
	aead, err := newGCM(keyedSum(k.record, salt[:]))
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	return aead.Seal(out, make([]byte, aead.NonceSize()), plain, recordAAD(out, repo, name)), nil
}

// OpenRecord returns the plaintext of a record. The error is a *CorruptError,
// or is ErrUnknownKey or ErrNewerVersion.
func (k *Keyring) OpenRecord(repo [16]byte, name string, sealed []byte) ([]byte, error) {
	if len(sealed) < recordHeader+Overhead {
		return nil, corrupt(name, int64(len(sealed)), "ends after %d bytes, a record has at least %d", len(sealed), recordHeader+Overhead)
	}
	if got := string(sealed[:4]); got != recordMagic {
		return nil, corrupt(name, 0, "magic %q, want %q", got, recordMagic)
	}
	switch v := sealed[4]; {
	case v > recordVersion:
		return nil, fmt.Errorf("open %s: record version %d: %w", name, v, ErrNewerVersion)
	case v < recordVersion:
		return nil, corrupt(name, 4, "version %d, want %d", v, recordVersion)
	}
	for i, b := range sealed[5:8] {
		if b != 0 {
			return nil, corrupt(name, int64(5+i), "byte %#x, want zero", b)
		}
	}
	keys, err := k.Find(KeyID(sealed[8:16]))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	aead, err := newGCM(keyedSum(keys.record, sealed[16:recordHeader]))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed[recordHeader:], recordAAD(sealed[:recordHeader], repo, name))
	if err != nil {
		return nil, corrupt(name, recordHeader, "%v: altered, or written for another name or repository", ErrNotAuthentic)
	}
	return plain, nil
}

func recordAAD(header []byte, repo [16]byte, name string) []byte {
	aad := make([]byte, 0, len(header)+len(repo)+len(name))
	aad = append(aad, header...)
	aad = append(aad, repo[:]...)
	return append(aad, name...)
}
