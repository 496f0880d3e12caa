// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/cdc"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// FormatVersion is the version of the repository format that this program writes and the newest it reads.
const FormatVersion = 1

const (
	configName    = "config"
	proofName     = "probe/once" // see proveCreateOnce
	maxConfigSize = 64 << 10
)

// Errors of opening a repository. A caller tells the user; none is retryable.
var (
	ErrNoRepository  = errors.New("no repository here: create one with `tidemark init`")
	ErrNewerVersion  = errors.New("repository was written by a newer Tidemark: update this program")
	ErrOverwrites    = errors.New("the store overwrites objects instead of refusing a second creation: no repository is safe there")
	ErrUnknownConfig = errors.New("repository has features that this program does not know: update this program")
)

// Config is a repository's only plain object; immutable once written. The key
// slots bind its bytes, so a changed config is noticed before anything is read.
type Config struct {
	Version  int       `json:"version"`
	ID       string    `json:"id"` // 16 random bytes, hex
	Created  time.Time `json:"created"`
	Chunker  Chunker   `json:"chunker"`
	Features []string  `json:"features"` // each must be known to a reader
}

// Chunker holds the repository's chunking parameters; sizes in bytes. The
// polynomial is secret and comes from the master secret.
type Chunker struct {
	Bits int `json:"bits"` // a cut falls every 2^bits bytes after min on average
	Min  int `json:"min"`
	Max  int `json:"max"`
}

// DefaultChunker is the choice of docs/decisions/0003-chunking-defaults.md.
var DefaultChunker = Chunker{Bits: 18, Min: 256 << 10, Max: 1 << 20}

// MaxChunkSize bounds Chunker.Max; every buffer is sized by it.
const MaxChunkSize = 8 << 20

// Validate refuses parameters that no reader could serve.
func (c Chunker) Validate() error {
	switch {
	case c.Bits < 12 || c.Bits > 24:
		return fmt.Errorf("average chunk size 2^%d is outside 4 KiB to 16 MiB", c.Bits)
	case c.Min < 4096 || c.Min%4096 != 0:
		return fmt.Errorf("smallest chunk %d is not a multiple of 4 KiB", c.Min)
	case c.Max < c.Min || c.Max > MaxChunkSize || c.Max%4096 != 0:
		return fmt.Errorf("largest chunk %d is not a multiple of 4 KiB from %d to %d", c.Max, c.Min, MaxChunkSize)
	}
	return nil
}

// CutParams gives the parameters of the cutter of that kind for this repository.
func (r *vault) CutParams(kind cdc.Kind) cdc.Params {
	c := r.config.Chunker
	return cdc.Params{Kind: kind, Polynomial: r.keyring.Current().Polynomial(), Bits: c.Bits, Min: c.Min, Max: c.Max}
}

func (c *Config) repoID() [16]byte {
	var id [16]byte
	raw, err := hex.DecodeString(c.ID)
	if err == nil {
		copy(id[:], raw)
	}
	return id
}

func decodeConfig(data []byte) (*Config, error) {
	// Version and features first, alone: the rest of a newer config may have
	// another shape, and that is no damage.
	var head struct {
		Version  int      `json:"version"`
		Features []string `json:"features"`
	}
	var c Config
	err := json.Unmarshal(data, &head)
	switch {
	case err == nil && head.Version > FormatVersion:
		return nil, fmt.Errorf("%w (it has version %d, this program knows up to %d)", ErrNewerVersion, head.Version, FormatVersion)
	case err == nil && len(head.Features) > 0:
		return nil, fmt.Errorf("%w (%q)", ErrUnknownConfig, head.Features)
	case err == nil:
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return nil, &seal.CorruptError{Object: configName, Detail: "not a repository's config: " + err.Error()}
	}
	if raw, err := hex.DecodeString(c.ID); c.Version < 1 || err != nil || len(raw) != 16 {
		return nil, &seal.CorruptError{Object: configName, Detail: "has no valid version or id"}
	}
	if err := c.Chunker.Validate(); err != nil {
		return nil, &seal.CorruptError{Object: configName, Detail: err.Error()}
	}
	return &c, nil
}

// InitOptions are the choices that a repository keeps for ever.
type InitOptions struct {
	Chunker Chunker  // zero: DefaultChunker
	KDF     seal.KDF // zero: seal's default
	Now     func() time.Time
}

// Init creates a repository and says whether it did: one that is there already
// is left as it is. It first proves that the store really refuses a second
// creation of one name, on which everything rests.
//
// Who makes the first key slot has created the repository; the config before it
// may have been another's.
func Init(ctx context.Context, store objstore.Store, passphrase []byte, opt InitOptions) (created bool, err error) {
	if len(passphrase) == 0 { // noticed here, or it would leave a config behind
		return false, errors.New("the passphrase is empty")
	}
	if err := objstore.Probe(ctx, store, "probe/"); err != nil {
		return false, err
	}
	data, err := objstore.ReadAll(ctx, store, configName, maxConfigSize)
	if errors.Is(err, objstore.ErrNotExist) {
		data, err = createConfig(ctx, store, opt)
	}
	if err != nil {
		return false, fmt.Errorf("read repository config: %w", err)
	}
	if _, err := decodeConfig(data); err != nil {
		return false, err
	}
	// A crash between config and first slot leaves a repository that nobody
	// could have written to; finish it. One that was written to has lost its
	// keys, and new ones would only hide that.
	for _, name := range []string{slotName(0), slotRemovedName(0)} {
		if there, err := exists(ctx, store, name); err != nil || there {
			return false, err
		}
	}
	if written, err := exists(ctx, store, sessionName(0)); err != nil || written {
		return false, errors.Join(err, &seal.CorruptError{Object: slotName(0), Detail: "is missing, though the repository holds sessions: it lost its keys"})
	}
	keyring, err := seal.NewKeyring()
	if err != nil {
		return false, err
	}
	slot, err := seal.NewSlot(keyring, passphrase, data, opt.KDF)
	if err != nil {
		return false, err
	}
	err = store.Put(ctx, slotName(0), objstore.Body{slot})
	if errors.Is(err, objstore.ErrExists) {
		return false, nil // another init was faster with the same step
	}
	if err != nil {
		return false, fmt.Errorf("write first key slot: %w", err)
	}
	return true, nil
}

// exists asks for an object by name, which is as sure as reading it.
func exists(ctx context.Context, store objstore.Store, name string) (bool, error) {
	_, err := store.Stat(ctx, name)
	if errors.Is(err, objstore.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func createConfig(ctx context.Context, store objstore.Store, opt InitOptions) ([]byte, error) {
	if there, err := exists(ctx, store, slotName(0)); err != nil || there {
		// Whoever made the slot made the config before it. So another init was
		// faster, or this repository lost its config.
		data, rerr := objstore.ReadAll(ctx, store, configName, maxConfigSize)
		if errors.Is(rerr, objstore.ErrNotExist) {
			rerr = &seal.CorruptError{Object: configName, Detail: "is missing, though there are keys: a new one would not open what they open"}
		}
		return data, errors.Join(err, rerr)
	}
	if opt.Chunker == (Chunker{}) {
		opt.Chunker = DefaultChunker
	}
	if err := opt.Chunker.Validate(); err != nil {
		return nil, err
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("draw repository id: %w", err)
	}
	c := Config{Version: FormatVersion, ID: hex.EncodeToString(id[:]), Created: clock(opt.Now)().UTC(), Chunker: opt.Chunker, Features: []string{}}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode config: %w", err)
	}
	data = append(data, '\n')
	err = store.Put(ctx, configName, objstore.Body{data})
	if errors.Is(err, objstore.ErrExists) {
		return objstore.ReadAll(ctx, store, configName, maxConfigSize)
	}
	return data, err
}

func clock(now func() time.Time) func() time.Time {
	if now != nil {
		return now
	}
	return time.Now //nolint:forbidigo // the one place that gives a caller without a clock the system's
}
