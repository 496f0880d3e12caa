// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/restic/chunker"
	"github.com/zeebo/blake3"
)

// KeyID names a master secret without telling anything about it.
type KeyID [8]byte

// String returns the id as 16 hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// Keyring is the set of master secrets of a repository, newest first. It is
// immutable and safe for concurrent use.
type Keyring struct{ keys []*Keys }

// NewKeyring draws a keyring with one fresh master secret.
func NewKeyring() (*Keyring, error) { return newKeyring([][32]byte{randomSecret()}) }

// Rotated returns a keyring that seals under a fresh master secret and still
// reads what the receiver reads.
func (k *Keyring) Rotated() (*Keyring, error) {
	if len(k.keys) >= maxMasters {
		return nil, fmt.Errorf("rotate keys: the keyring holds %d already, at most %d fit a slot", len(k.keys), maxMasters)
	}
	return newKeyring(append([][32]byte{randomSecret()}, k.masters()...))
}

// Current returns the keys to seal with.
func (k *Keyring) Current() *Keys { return k.keys[0] }

// Find returns the keys with this id, or an error that is ErrUnknownKey.
func (k *Keyring) Find(id KeyID) (*Keys, error) {
	for _, keys := range k.keys {
		if keys.id == id {
			return keys, nil
		}
	}
	return nil, fmt.Errorf("key %s: %w", id, ErrUnknownKey)
}

// Format prints the ids alone, whatever the verb (S3).
func (k *Keyring) Format(f fmt.State, _ rune) {
	io.WriteString(f, "keyring")
	for _, keys := range k.keys {
		io.WriteString(f, " "+keys.id.String())
	}
}

func (k *Keyring) masters() [][32]byte {
	out := make([][32]byte, len(k.keys))
	for i, keys := range k.keys {
		out[i] = keys.master
	}
	return out
}

func newKeyring(masters [][32]byte) (*Keyring, error) {
	k := &Keyring{}
	for _, m := range masters {
		keys, err := newKeys(m)
		if err != nil {
			return nil, err
		}
		k.keys = append(k.keys, keys)
	}
	return k, nil
}

// Keys are the keys derived from one master secret. They are immutable and
// safe for concurrent use.
type Keys struct {
	master       [32]byte
	id           KeyID
	record, pack [32]byte
	volume       [32]byte
	polynomial   chunker.Pol
}

func newKeys(master [32]byte) (*Keys, error) {
	k := &Keys{
		master: master,
		record: derive("record", master[:]),
		pack:   derive("pack", master[:]),
		volume: derive("volume", master[:]),
	}
	blake3.DeriveKey(contextPrefix+"key id", master[:], k.id[:])
	xof := blake3.NewDeriveKey(contextPrefix + "polynomial")
	xof.Write(master[:])
	var err error
	if k.polynomial, err = chunker.DerivePolynomial(xof.Digest()); err != nil {
		return nil, fmt.Errorf("derive chunking polynomial: %w", err)
	}
	return k, nil
}

// ID returns the id that headers carry.
func (k *Keys) ID() KeyID { return k.id }

// NameKey returns the key under which chunks of a deduplication domain are
// named.
func (k *Keys) NameKey(domain string) [32]byte { return k.domainKey("chunk name", domain) }

// DigestKey returns the key under which pieces of a domain's chunks are
// digested.
func (k *Keys) DigestKey(domain string) [32]byte { return k.domainKey("digest", domain) }

// VolumeHash returns what stands for a volume's name in object names: 32
// hexadecimal digits.
func (k *Keys) VolumeHash(volume string) string {
	sum := keyedSum(k.volume, []byte(volume))
	return hex.EncodeToString(sum[:16])
}

// Polynomial returns the chunking polynomial, the same for ever.
func (k *Keys) Polynomial() chunker.Pol { return k.polynomial }

// CacheKey returns the key under which a local index cache checks its pages.
func (k *Keys) CacheKey() [32]byte { return derive("local cache", k.master[:]) }

// Format prints the id alone, whatever the verb (S3).
func (k *Keys) Format(f fmt.State, _ rune) { io.WriteString(f, "key "+k.id.String()) }

func (k *Keys) domainKey(purpose, domain string) [32]byte {
	// The master is of fixed length, so the domain can't be mistaken for a
	// part of it.
	return derive(purpose, append(k.master[:len(k.master):len(k.master)], domain...))
}

const contextPrefix = "tidemark v1 "

func derive(purpose string, material []byte) (out [32]byte) {
	blake3.DeriveKey(contextPrefix+purpose, material, out[:])
	return out
}

func keyedSum(key [32]byte, p []byte) (out [32]byte) {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		// The library refuses nothing but a length other than 32.
		panic("seal: " + err.Error())
	}
	h.Write(p)
	h.Sum(out[:0])
	return out
}

func randomSecret() (s [32]byte) {
	rand.Read(s[:]) // never fails: the runtime ends the process instead
	return s
}
