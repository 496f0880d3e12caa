// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/argon2"
)

// KDF says how hard a passphrase is to try. The zero value stands for
// DefaultKDF.
type KDF struct {
	Time      uint32 // passes
	MemoryKiB uint32
	Threads   uint8
}

// DefaultKDF is Argon2id as RFC 9106 recommends it where 2 GiB are too much.
var DefaultKDF = KDF{Time: 3, MemoryKiB: 64 << 10, Threads: 4}

const (
	slotLabel      = "tidemark slot v1"
	slotObject     = "key slot"
	slotVersion    = 1
	slotNonce      = 12
	kdfName        = "argon2id"
	maxSlot        = 1 << 20 // bytes
	maxMasters     = 1024
	maxKDFTime     = 32
	maxKDFMemory   = 256 << 10 // KiB
	maxKDFWork     = 2 << 20   // KiB · passes: seconds, on a slow machine with one thread
	maxKDFThreads  = 64
	minSalt        = 16
	maxSalt        = 64
	payloadVersion = 1
)

type slotFile struct {
	Version int     `json:"version"`
	KDF     slotKDF `json:"kdf"`
	Wrapped []byte  `json:"wrapped"`
	Check   string  `json:"check"`
}

// slotKDF's field order is part of the format: its JSON is authenticated.
type slotKDF struct {
	Name      string `json:"name"`
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memoryKiB"`
	Threads   uint8  `json:"threads"`
	Salt      []byte `json:"salt"`
}

type slotPayload struct {
	Version int      `json:"version"`
	Masters [][]byte `json:"masters"`
	Config  string   `json:"config"`
}

// NewSlot wraps a keyring with a passphrase, for the repository with this
// config.
func NewSlot(k *Keyring, passphrase, config []byte, p KDF) ([]byte, error) {
	salt, nonce := make([]byte, 32), make([]byte, slotNonce)
	rand.Read(salt) // never fails
	rand.Read(nonce)
	return newSlot(k, passphrase, config, p, salt, nonce)
}

func newSlot(k *Keyring, passphrase, config []byte, p KDF, salt, nonce []byte) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, errors.New("make key slot: the passphrase is empty")
	}
	if p == (KDF{}) {
		p = DefaultKDF
	}
	kdf := slotKDF{Name: kdfName, Time: p.Time, MemoryKiB: p.MemoryKiB, Threads: p.Threads, Salt: salt}
	if err := kdf.check(); err != nil {
		return nil, fmt.Errorf("make key slot: %w", err)
	}
	payload := slotPayload{Version: payloadVersion, Config: configHash(config)}
	for _, m := range k.masters() {
		payload.Masters = append(payload.Masters, m[:])
	}
	plain, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("make key slot: %w", err)
	}
	aad, err := kdf.aad()
	if err != nil {
		return nil, fmt.Errorf("make key slot: %w", err)
	}
	aead, err := newGCM(kdf.stretch(passphrase))
	if err != nil {
		return nil, fmt.Errorf("make key slot: %w", err)
	}
	wrapped := aead.Seal(bytes.Clone(nonce), nonce, plain, aad)
	out, err := json.Marshal(slotFile{Version: slotVersion, KDF: kdf, Wrapped: wrapped, Check: slotCheck(aad, wrapped)})
	if err != nil {
		return nil, fmt.Errorf("make key slot: %w", err)
	}
	return append(out, '\n'), nil
}

// OpenSlot unwraps a keyring. The error is a *CorruptError for a damaged slot,
// or is ErrNewerVersion, ErrWrongPassphrase, or ErrConfigAltered where the
// slot opens but was made for another config.
func OpenSlot(slot, passphrase, config []byte) (*Keyring, error) {
	s, aad, err := parseSlot(slot)
	if err != nil {
		return nil, err
	}
	aead, err := newGCM(s.KDF.stretch(passphrase))
	if err != nil {
		return nil, fmt.Errorf("open key slot: %w", err)
	}
	plain, err := aead.Open(nil, s.Wrapped[:slotNonce], s.Wrapped[slotNonce:], aad)
	if err != nil {
		return nil, fmt.Errorf("open key slot: %w", ErrWrongPassphrase)
	}
	var p slotPayload
	if err := strictJSON(plain, &p); err != nil {
		return nil, corrupt(slotObject, 0, "wrapped keyring: %v", err)
	}
	if p.Version > payloadVersion {
		return nil, fmt.Errorf("open key slot: keyring version %d: %w", p.Version, ErrNewerVersion)
	}
	if got := configHash(config); got != p.Config {
		return nil, fmt.Errorf("open key slot: %w: its BLAKE3 is %s, the slot was made for %s", ErrConfigAltered, got, p.Config)
	}
	return p.keyring()
}

// SlotWork is what it costs to try a passphrase on a slot: KiB of memory times
// passes over it. It is 0 for one that OpenSlot refuses before it tries.
func SlotWork(slot []byte) uint64 {
	s, _, err := parseSlot(slot)
	if err != nil {
		return 0
	}
	return uint64(s.KDF.Time) * uint64(s.KDF.MemoryKiB)
}

// parseSlot checks everything that needs no passphrase. It comes before the
// passphrase is stretched, so that damage costs nothing to find.
func parseSlot(slot []byte) (*slotFile, []byte, error) {
	if len(slot) > maxSlot {
		return nil, nil, corrupt(slotObject, maxSlot, "%d bytes, at most %d are allowed", len(slot), maxSlot)
	}
	var v struct{ Version int }
	if err := json.Unmarshal(slot, &v); err != nil {
		return nil, nil, corrupt(slotObject, jsonOffset(err), "%v", err)
	}
	if v.Version > slotVersion {
		return nil, nil, fmt.Errorf("open key slot: version %d: %w", v.Version, ErrNewerVersion)
	}
	var s slotFile
	if err := strictJSON(slot, &s); err != nil {
		return nil, nil, corrupt(slotObject, jsonOffset(err), "%v", err)
	}
	if s.Version != slotVersion {
		return nil, nil, corrupt(slotObject, 0, "version %d, want %d", s.Version, slotVersion)
	}
	if err := s.KDF.check(); err != nil {
		return nil, nil, corrupt(slotObject, 0, "%v", err)
	}
	if len(s.Wrapped) < slotNonce+Overhead {
		return nil, nil, corrupt(slotObject, 0, "wrapped keyring of %d bytes, want at least %d", len(s.Wrapped), slotNonce+Overhead)
	}
	aad, err := s.KDF.aad()
	if err != nil {
		return nil, nil, fmt.Errorf("open key slot: %w", err)
	}
	if want := slotCheck(aad, s.Wrapped); s.Check != want {
		return nil, nil, corrupt(slotObject, 0, "check %q, want %q", s.Check, want)
	}
	return &s, aad, nil
}

func (p *slotPayload) keyring() (*Keyring, error) {
	if n := len(p.Masters); p.Version != payloadVersion || n < 1 || n > maxMasters {
		return nil, corrupt(slotObject, 0, "keyring of version %d with %d keys", p.Version, n)
	}
	masters := make([][32]byte, len(p.Masters))
	for i, m := range p.Masters {
		if len(m) != len(masters[i]) {
			return nil, corrupt(slotObject, 0, "key %d has %d bytes, want %d", i, len(m), len(masters[i]))
		}
		copy(masters[i][:], m)
	}
	return newKeyring(masters)
}

// check bounds every figure that a slot gives (S4).
func (k *slotKDF) check() error {
	switch {
	case k.Name != kdfName:
		return fmt.Errorf("key derivation %q, want %q", k.Name, kdfName)
	case k.Time < 1 || k.Time > maxKDFTime:
		return fmt.Errorf("key derivation: time %d, want 1 to %d", k.Time, maxKDFTime)
	case k.Threads < 1 || k.Threads > maxKDFThreads:
		return fmt.Errorf("key derivation: %d threads, want 1 to %d", k.Threads, maxKDFThreads)
	case k.MemoryKiB < 8*uint32(k.Threads) || k.MemoryKiB > maxKDFMemory:
		return fmt.Errorf("key derivation: %d KiB of memory, want %d to %d", k.MemoryKiB, 8*uint32(k.Threads), maxKDFMemory)
	case uint64(k.Time)*uint64(k.MemoryKiB) > maxKDFWork:
		return fmt.Errorf("key derivation: %d passes over %d KiB, want at most %d in all", k.Time, k.MemoryKiB, maxKDFWork)
	case len(k.Salt) < minSalt || len(k.Salt) > maxSalt:
		return fmt.Errorf("key derivation: salt of %d bytes, want %d to %d", len(k.Salt), minSalt, maxSalt)
	}
	return nil
}

func (k *slotKDF) aad() ([]byte, error) {
	canonical, err := json.Marshal(k)
	return append([]byte(slotLabel), canonical...), err
}

func (k *slotKDF) stretch(passphrase []byte) [32]byte {
	return [32]byte(argon2.IDKey(passphrase, k.Salt, k.Time, k.MemoryKiB, k.Threads, 32))
}

func slotCheck(aad, wrapped []byte) string {
	sum := blake3.Sum256(append(bytes.Clone(aad), wrapped...))
	return hex.EncodeToString(sum[:8])
}

func configHash(config []byte) string {
	sum := blake3.Sum256(config)
	return hex.EncodeToString(sum[:])
}

// strictJSON reads exactly one object whose fields are all known.
func strictJSON(p []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(p))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows the first JSON value")
	}
	return nil
}

func jsonOffset(err error) int64 {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return e.Offset
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return e.Offset
	}
	return 0
}
