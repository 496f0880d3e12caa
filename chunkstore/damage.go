// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// damageLog keeps what was found damaged, or forged, and gone on without: by
// object, so that what is looked at again is told once.
type damageLog struct {
	mu    sync.Mutex
	found map[string]*seal.CorruptError
}

// maxNoted bounds the log: who can create objects can create many.
const maxNoted = 1024

func (d *damageLog) note(name string, bad *seal.CorruptError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.found == nil {
		d.found = map[string]*seal.CorruptError{}
	}
	if len(d.found) < maxNoted {
		d.found[name] = bad
	}
}

// drop forgets what is about to be looked at again.
func (d *damageLog) drop(stale func(name string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.found, func(name string, _ *seal.CorruptError) bool { return stale(name) })
}

func (d *damageLog) list() []*seal.CorruptError {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.found), func(a, b *seal.CorruptError) int { return cmp.Compare(a.Object, b.Object) })
}

// Damaged lists what was found damaged or forged so far and is gone on without:
// outcomes (nothing of their sessions counts), epochs (the one before stays in
// force, and nothing is written), tombstones and marks of removed key slots
// (they count for nothing). Each is a *seal.CorruptError.
func (r *Repository) Damaged() []error {
	var out []error
	for _, bad := range append(r.damagedEpochs(), r.damage.list()...) {
		out = append(out, bad)
	}
	return out
}

func (r *roster) damagedEpochs() []*seal.CorruptError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.badEpochs)
}

// writable refuses to write while the newest epoch can't be read: it may
// condemn packs, or void this very session.
func (r *roster) writable() error {
	if bad := r.damagedEpochs(); len(bad) > 0 {
		return bad[0]
	}
	return nil
}

// damagedRecords lists what a repository lost for being damaged; what was
// forged under a name of its own took nothing away.
func (r *roster) damagedRecords() []*seal.CorruptError {
	out := r.damagedEpochs()
	for _, bad := range r.damage.list() {
		if isOutcome(bad.Object) {
			out = append(out, bad)
		}
	}
	return out
}

func isOutcome(name string) bool {
	return strings.HasPrefix(name, "sessions/") && strings.HasSuffix(name, "/outcome")
}

// asDamage says whether an object is there and is not what it should be: whoever
// can create objects can leave any bytes under a free name, a plausible header
// of another key or version among them.
func asDamage(name string, err error) (*seal.CorruptError, bool) {
	if bad, ok := errors.AsType[*seal.CorruptError](err); ok {
		return bad, true
	}
	for _, kind := range []error{seal.ErrUnknownKey, seal.ErrNewerVersion, objstore.ErrShort, objstore.ErrTooLarge} {
		if errors.Is(err, kind) {
			return &seal.CorruptError{Object: name, Detail: err.Error()}, true
		}
	}
	return nil, false
}
