// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/meter"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// OpenOptions tune one process's view of a repository.
type OpenOptions struct {
	CacheDir   string           // local cache; empty: a private one that Close removes
	NodeBytes  int              // memory for map nodes and tables of contents; 0: 16 MiB
	Now        func() time.Time // nil: time.Now
	Host       string           // recorded in sessions
	Program    string           // recorded in sessions
	RangeBytes int              // smallest ranged read of metadata in bytes; 0: 128 KiB
}

// Repository is an open repository. It is safe for concurrent use.
type Repository struct {
	store     *meter.Store // counts what this process reads and writes
	config    *Config
	configRaw []byte // as stored
	keyring   *seal.Keyring
	opt       OpenOptions
	dir       string // the cache's folder for this repository
	private   bool   // dir is ours alone and goes with Close
	now       func() time.Time
	condemned map[string]bool
	epoch     *EpochRecord // newest in force; nil before the first
	meta      *metaCache

	nodeReaders sync.Pool // of *Reader

	mu       sync.Mutex
	outcomes map[uint64]*OutcomeRecord // decided sessions
	pins     map[uint64]*SessionRecord // open records read so far
	end      uint64                    // the first session number that did not exist
	epochs   uint64                    // the first epoch number that did not exist
	proven   bool                      // the store was seen to refuse a second creation
	dirty    bool                      // outcomes has news for the cache
	index    *index.Cache
}

// Open reads the config and unwraps the master secret with passphrase. It
// fails with ErrNoRepository, ErrNewerVersion or seal.ErrWrongPassphrase.
func Open(ctx context.Context, store objstore.Store, passphrase []byte, opt OpenOptions) (*Repository, error) {
	data, err := objstore.ReadAll(ctx, store, configName, maxConfigSize)
	if errors.Is(err, objstore.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", store, ErrNoRepository)
	}
	if err != nil {
		return nil, fmt.Errorf("read repository config: %w", err)
	}
	config, err := decodeConfig(data)
	if err != nil {
		return nil, err
	}
	keyring, err := openSlots(ctx, store, passphrase, data)
	if err != nil {
		return nil, err
	}
	if opt.NodeBytes == 0 {
		opt.NodeBytes = 16 << 20
	}
	if opt.RangeBytes == 0 {
		opt.RangeBytes = 128 << 10
	}
	r := &Repository{
		store: meter.Wrap(store), config: config, configRaw: data, keyring: keyring, opt: opt, now: clock(opt.Now),
		outcomes: map[uint64]*OutcomeRecord{}, pins: map[uint64]*SessionRecord{}, condemned: map[string]bool{},
		meta: newMetaCache(opt.NodeBytes),
	}
	if err := r.openDir(); err != nil {
		return nil, err
	}
	r.loadOutcomes()
	if err := r.Refresh(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// openSlots tries the passphrase on every slot that is there and not removed.
func openSlots(ctx context.Context, store objstore.Store, passphrase, config []byte) (*seal.Keyring, error) {
	last := error(seal.ErrWrongPassphrase)
	for n := range maxSlots {
		slot, err := objstore.ReadAll(ctx, store, slotName(n), maxSlotSize)
		_, gone := store.Stat(ctx, slotRemovedName(n))
		if gone != nil && !errors.Is(gone, objstore.ErrNotExist) {
			return nil, fmt.Errorf("read key slot %d: %w", n, gone)
		}
		if gone == nil {
			continue // removed; its number stays taken
		}
		if errors.Is(err, objstore.ErrNotExist) {
			if n == 0 {
				return nil, &seal.CorruptError{Object: slotName(0), Detail: "is missing: the repository was never finished or lost its keys; `tidemark init` finishes an empty one"}
			}
			return nil, last
		}
		if err != nil {
			return nil, fmt.Errorf("read key slot %d: %w", n, err)
		}
		keyring, err := seal.OpenSlot(slot, passphrase, config)
		if err == nil {
			return keyring, nil
		}
		if !errors.Is(err, seal.ErrWrongPassphrase) {
			last = fmt.Errorf("key slot %d: %w", n, err)
		}
	}
	return nil, last
}

// openDir finds this repository's folder in the cache. Its key binds it to the
// repository, so that a cache of another one under the same id is refused.
func (r *Repository) openDir() error {
	if r.opt.CacheDir == "" {
		dir, err := os.MkdirTemp("", "tidemark-cache-")
		if err != nil {
			return fmt.Errorf("make a private cache: %w", err)
		}
		r.dir, r.private = dir, true
		return nil
	}
	r.dir = filepath.Join(r.opt.CacheDir, r.config.ID)
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("make the cache folder: %w", err)
	}
	return nil
}

// Index is the local, memory-mapped index of all committed sessions, brought
// up to date with what Refresh found. Only what is new is downloaded.
func (r *Repository) Index(ctx context.Context) (*index.Cache, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index == nil {
		c, err := r.openIndex()
		if err != nil {
			return nil, err
		}
		r.index = c
		r.hideCondemned()
	}
	for _, n := range sortedKeys(r.outcomes) {
		for _, s := range r.outcomes[n].Segments {
			if r.index.Has(s.Name) {
				continue
			}
			plain, err := r.readSegment(ctx, s)
			if err != nil {
				return nil, err
			}
			if err := r.index.Add(ctx, s.Name, plain); err != nil {
				return nil, fmt.Errorf("add %s to the local index: %w", s.Name, err)
			}
		}
	}
	return r.index, nil
}

// hideCondemned makes chunks of condemned packs absent (C6). r.mu is held.
func (r *Repository) hideCondemned() {
	if r.index == nil {
		return
	}
	condemned := r.condemned
	if len(condemned) == 0 {
		r.index.Exclude(nil)
		return
	}
	r.index.Exclude(func(p index.PackID) bool { return condemned[p.Name()] })
}

func (r *Repository) openIndex() (*index.Cache, error) {
	dir := filepath.Join(r.dir, "index")
	key := r.keyring.Current().CacheKey()
	c, err := index.OpenCache(dir, key)
	if errors.Is(err, index.ErrCacheDamaged) { // it is only a copy: start again
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("drop the damaged local index: %w", err)
		}
		c, err = index.OpenCache(dir, key)
	}
	if err != nil {
		return nil, fmt.Errorf("open the local index: %w", err)
	}
	return c, nil
}

func (r *Repository) readSegment(ctx context.Context, s Segment) ([]byte, error) {
	sealed, err := objstore.ReadAll(ctx, r.store, s.Name, s.Size)
	if err != nil {
		return nil, fmt.Errorf("read index segment %s: %w", s.Name, err)
	}
	if err := s.check(sealed); err != nil {
		return nil, err
	}
	return r.keyring.OpenRecord(r.config.repoID(), s.Name, sealed)
}

// Locate finds a chunk. A miss brings the index up to date with the sessions
// that are known by now before it is a *MissingChunkError.
func (r *Repository) Locate(ctx context.Context, id ChunkID) (index.Location, error) {
	r.mu.Lock()
	c := r.index
	r.mu.Unlock()
	for fresh := c == nil; ; fresh = true {
		if fresh {
			var err error
			if c, err = r.Index(ctx); err != nil {
				return index.Location{}, err
			}
		}
		loc, ok, err := c.Lookup(id)
		if err != nil {
			return loc, fmt.Errorf("look up chunk %s: %w", id.Short(), err)
		}
		if ok {
			return loc, nil
		}
		if fresh {
			return loc, &MissingChunkError{ID: id}
		}
	}
}

// MissingChunkError says that no committed index knows a chunk that a map names.
type MissingChunkError struct{ ID ChunkID }

func (e *MissingChunkError) Error() string {
	return fmt.Sprintf("chunk %s is in no index: the repository is damaged", e.ID.Short())
}

// Meter counts the bytes and requests of this process.
func (r *Repository) Meter() *meter.Store { return r.store }

// Store is the object store below, metered.
func (r *Repository) Store() objstore.Store { return r.store }

// Keyring gives access to the repository's keys.
func (r *Repository) Keyring() *seal.Keyring { return r.keyring }

// Config is the repository's configuration; not to be changed.
func (r *Repository) Config() Config { return *r.config }

// Dir is the local cache folder of this repository; journals live beside the index.
func (r *Repository) Dir() string { return r.dir }

// VolumeKey is the keyed hash under which a volume's points are stored.
func (r *Repository) VolumeKey(volume string) string {
	return r.keyring.Current().VolumeHash(volume)
}

// Close releases the local index and saves what was learnt. It does not close the store.
func (r *Repository) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.saveOutcomes()
	if r.index != nil {
		err = errors.Join(err, r.index.Close())
		r.index = nil
	}
	if r.private {
		err = errors.Join(err, os.RemoveAll(r.dir))
	}
	return err
}

func digestOf(b []byte) [32]byte { return blake3.Sum256(b) }
