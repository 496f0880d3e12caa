// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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

// Repository is an open repository. It is safe for concurrent use. Its layers,
// each built on the one before: vault (what is stored, and its keys), roster
// (which sessions and points there are), packs (where chunks are and what they
// hold).
type Repository struct {
	*packs
	private bool // the cache folder is ours alone and goes with Close
}

// vault is the store and the keys to what lies in it.
type vault struct {
	store     *meter.Store // counts what this process reads and writes
	config    *Config
	configRaw []byte // as stored
	keyring   *seal.Keyring
	now       func() time.Time
	damage    damageLog
	buried    sync.Map    // ids of points whose tombstones were read
	proven    atomic.Bool // the store was seen to refuse a second creation
}

// roster is what is known of sessions and epochs; see Refresh.
type roster struct {
	*vault
	dir string // the local cache's folder for this repository
	// onChange is called with mu held when another epoch comes into force. lost
	// says that index segments were in force and no longer are.
	onChange func(lost bool)

	// reading is held by whoever asks the store for news, so that mu, which
	// every lookup takes, never waits for the network. It comes before mu.
	reading sync.Mutex

	mu        sync.Mutex
	outcomes  map[uint64]*OutcomeRecord // decided sessions
	learnt    map[uint64]uint64         // when each became known: see cachedOutcome
	looks     uint64                    // complete looks for outcomes that something was learnt by
	learning  bool                      // something was learnt since the last of them
	pins      map[uint64]*SessionRecord // open records read so far
	end       uint64                    // the first session number that did not exist
	epochs    uint64                    // the first epoch number that did not exist
	epoch     *EpochRecord              // newest in force; nil before the first
	badEpochs []*seal.CorruptError      // damaged ones after it
	condemned map[packKey]bool          // packs that writers must not use; replaced, never changed
	dirty     bool                      // outcomes has news for the cache
}

// packs finds and reads chunks.
type packs struct {
	*roster
	opt         OpenOptions
	ledger      ledger       // what the index may hold
	building    sync.Mutex   // held while the index is brought up to date; comes before mu
	index       *index.Cache // nil until it is asked for; guarded by mu, as are the next two
	retired     []*index.Cache
	stale       bool // the folder of the index must go before it is used
	meta        *metaCache
	nodeReaders sync.Pool // of *Reader
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
	v := &vault{store: meter.Wrap(store), config: config, configRaw: data, now: clock(opt.Now)}
	if err := v.unlock(ctx, store, passphrase); err != nil {
		return nil, err
	}
	if opt.NodeBytes == 0 {
		opt.NodeBytes = 16 << 20
	}
	if opt.RangeBytes == 0 {
		opt.RangeBytes = 128 << 10
	}
	dir, private, err := cacheDir(opt.CacheDir, config.ID)
	if err != nil {
		return nil, err
	}
	ro := &roster{vault: v, dir: dir, outcomes: map[uint64]*OutcomeRecord{}, learnt: map[uint64]uint64{}, pins: map[uint64]*SessionRecord{}}
	r := &Repository{packs: &packs{roster: ro, opt: opt, ledger: ledger{v, dir}, meta: newMetaCache(opt.NodeBytes)}, private: private}
	ro.onChange = r.reconsider
	err = r.loadOutcomes(ctx)
	if err == nil {
		err = r.Refresh(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// cacheDir finds a repository's folder in the cache, or makes a private one.
func cacheDir(root, id string) (dir string, private bool, err error) {
	if root == "" {
		dir, err = os.MkdirTemp("", "tidemark-cache-")
		if err != nil {
			return "", false, fmt.Errorf("make a private cache: %w", err)
		}
		return dir, true, nil
	}
	dir = filepath.Join(root, id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", false, fmt.Errorf("make the cache folder: %w", err)
	}
	return dir, false, nil
}

func (r *packs) readSegment(ctx context.Context, s Segment) ([]byte, error) {
	sealed, err := objstore.ReadAll(ctx, r.store, s.Name, s.Size)
	if err != nil {
		return nil, lost(s.Name, 0, err)
	}
	if err := s.check(sealed); err != nil {
		return nil, err
	}
	return r.keyring.OpenRecord(r.config.repoID(), s.Name, sealed)
}

// Locate finds a chunk. A miss brings the index up to date with the sessions
// that are known by now before it is a *MissingChunkError.
func (r *packs) Locate(ctx context.Context, id ChunkID) (index.Location, error) {
	k := metaKey{kind: metaLocation, id: id}
	if loc, ok := r.meta.get(k); ok {
		return loc.(index.Location), nil
	}
	loc, ok, err := r.find(ctx, id, true)
	if err == nil && !ok {
		if _, err = r.Index(ctx); err == nil {
			loc, ok, err = r.find(ctx, id, true)
		}
	}
	if ok && err == nil {
		r.meta.put(k, loc, locationBytes)
		return loc, nil
	}
	// A condemned pack is good enough to read, and not to be remembered.
	if err == nil {
		loc, ok, err = r.find(ctx, id, false)
	}
	if err == nil && !ok {
		err = &MissingChunkError{ID: id, Damaged: r.damagedRecords()}
	}
	return loc, err
}

// locationBytes is what a remembered location takes in memory, roughly.
const locationBytes = 256

// MissingChunkError says that no committed index knows a chunk that a map names.
type MissingChunkError struct {
	ID      ChunkID
	Damaged []*seal.CorruptError // records that could not be read: one may have told of it
}

// Unwrap gives the damage that may be the cause.
func (e *MissingChunkError) Unwrap() []error {
	out := make([]error, len(e.Damaged))
	for i, bad := range e.Damaged {
		out[i] = bad
	}
	return out
}

func (e *MissingChunkError) Error() string {
	if len(e.Damaged) > 0 {
		return fmt.Sprintf("chunk %s is in no index that can be found: %v", e.ID.Short(), e.Damaged[0])
	}
	return fmt.Sprintf("chunk %s is in no index: the repository is damaged", e.ID.Short())
}

// Meter counts the bytes and requests of this process.
func (r *vault) Meter() *meter.Store { return r.store }

// Store is the object store below, metered.
func (r *vault) Store() objstore.Store { return r.store }

// Keyring gives access to the repository's keys.
func (r *vault) Keyring() *seal.Keyring { return r.keyring }

// Config is the repository's configuration; not to be changed.
func (r *vault) Config() Config { return *r.config }

// Dir is the local cache folder of this repository; journals live beside the index.
func (r *Repository) Dir() string { return r.dir }

// VolumeKey is the keyed hash under which a volume's points are stored.
func (r *vault) VolumeKey(volume string) string {
	return r.keyring.Current().VolumeHash(volume)
}

// Close releases the local index and saves what was learnt. It does not close the store.
func (r *Repository) Close() error {
	r.building.Lock()
	defer r.building.Unlock()
	var err error
	if !r.private {
		err = r.saveOutcomes() // a stale index is found out by its ledger
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index != nil {
		r.retired = append(r.retired, r.index)
		r.index = nil
	}
	for _, c := range r.retired {
		err = errors.Join(err, c.Close())
	}
	r.retired = nil
	if r.private {
		err = errors.Join(err, os.RemoveAll(r.dir))
	}
	return err
}

func digestOf(b []byte) [32]byte { return blake3.Sum256(b) }
