// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// epochView is an epoch with all that it binds.
type epochView struct {
	*EpochRecord
	condemned map[packKey]bool
	catalogue *CatalogueRecord // nil where it names none
}

// refreshEpochs puts the newest epoch in force. Numbers count as read only when
// it is: after an error, and where some are damaged, the same are read again. A
// damaged one leaves the newest good one in force, for readers: see writable.
// r.reading is held.
func (r *roster) refreshEpochs(ctx context.Context) error {
	r.mu.Lock()
	next, current := r.epochs, r.epoch
	r.mu.Unlock()
	var good []*EpochRecord
	var bad []*seal.CorruptError
	for ; ; next++ {
		e, err := r.readEpoch(ctx, next, current)
		if errors.Is(err, objstore.ErrNotExist) {
			break
		}
		if damage, ok := asDamage(epochName(next), err); ok {
			bad = append(bad[:min(len(bad), maxNoted)], damage)
			continue
		}
		if err != nil {
			return err
		}
		// A newer one that is good repeats all that a damaged one said.
		good, bad = append(good, e), nil
	}
	for _, e := range slices.Backward(good) {
		v, err := r.readView(ctx, e)
		if damage, ok := asDamage(epochName(e.Epoch), err); ok {
			bad = append(bad, damage)
			continue
		}
		if err != nil {
			return err
		}
		r.enterEpoch(v)
		break
	}
	r.mu.Lock()
	r.badEpochs = bad
	r.mu.Unlock()
	return nil
}

func (r *vault) readEpoch(ctx context.Context, n uint64, current *EpochRecord) (*EpochRecord, error) {
	name := epochName(n)
	data, err := objstore.ReadAll(ctx, r.store, name, maxRecordSize)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var e EpochRecord
	if err := r.openRecord(name, data, &e); err != nil {
		return nil, err
	}
	if e.Epoch != n || current != nil && e.Watermark < current.Watermark || e.Catalogue == nil && e.Watermark > 0 {
		return nil, &seal.CorruptError{Object: name, Detail: fmt.Sprintf("epoch %d with watermark %d makes no sense here", e.Epoch, e.Watermark)}
	}
	return &e, nil
}

// readView reads what an epoch binds: it is in force whole or not at all.
func (r *vault) readView(ctx context.Context, e *EpochRecord) (*epochView, error) {
	v := &epochView{EpochRecord: e, condemned: map[packKey]bool{}}
	for _, ref := range e.Condemned {
		var c CondemnedRecord
		if err := r.readRef(ctx, ref, &c); err != nil {
			return nil, err
		}
		for _, p := range c.Packs {
			k, err := parsePackKey(p)
			if err != nil {
				return nil, &seal.CorruptError{Object: ref.Name, Detail: err.Error()}
			}
			v.condemned[k] = true
		}
	}
	if e.Catalogue == nil {
		return v, nil
	}
	v.catalogue = new(CatalogueRecord)
	if err := r.readRef(ctx, *e.Catalogue, v.catalogue); err != nil {
		return nil, err
	}
	return v, v.catalogue.check(e.Catalogue.Name, e)
}

// enterEpoch makes a collector's decision the one in force.
func (r *roster) enterEpoch(v *epochView) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost := v.catalogue != nil && r.fold(v.catalogue)
	r.epoch, r.epochs, r.condemned = v.EpochRecord, v.Epoch+1, v.condemned
	r.onChange(lost)
}

// fold replaces the outcomes below the watermark by the catalogue's: one that
// it does not have is void. It tells whether an index segment that was in force
// no longer is. r.mu is held.
func (r *roster) fold(c *CatalogueRecord) (segmentsLost bool) {
	folded := make(map[uint64]*OutcomeRecord, len(c.Outcomes))
	segments := map[string]bool{}
	for i := range c.Outcomes {
		folded[c.Outcomes[i].Session] = &c.Outcomes[i]
		for _, s := range c.Outcomes[i].Segments {
			segments[s.Name] = true
		}
	}
	for n, o := range r.outcomes {
		if n >= c.Watermark {
			continue
		}
		for _, s := range o.Segments {
			segmentsLost = segmentsLost || !segments[s.Name]
		}
		delete(r.outcomes, n)
		if folded[n] == nil {
			delete(r.learnt, n)
		}
	}
	for _, o := range folded {
		r.learn(o)
	}
	r.end, r.dirty = max(r.end, c.Watermark), true
	return segmentsLost
}

// packKey is what tells one pack from all others: its name, decoded.
type packKey struct {
	session uint64
	seq     uint32
	hash    [32]byte
}

func keyOf(p *index.PackID) packKey { return packKey{p.Session, p.Seq, p.Hash} }

func parsePackKey(name string) (k packKey, err error) {
	k.session, k.seq, k.hash, err = pack.ParseName(name)
	return k, err
}

func (r *vault) readRef(ctx context.Context, ref ObjectRef, v any) error {
	data, err := objstore.ReadAll(ctx, r.store, ref.Name, ref.Size)
	if err != nil {
		return lost(ref.Name, 0, err)
	}
	if err := ref.check(data); err != nil {
		return err
	}
	return r.openRecord(ref.Name, data, v)
}

func (r *roster) watermark() uint64 {
	if r.epoch == nil {
		return 0
	}
	return r.epoch.Watermark
}
