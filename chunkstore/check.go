// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// Undecided lists the sessions that have no outcome yet: running, or killed.
func (r *Repository) Undecided() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []uint64
	for n := r.watermark(); n < r.end; n++ {
		if r.outcomes[n] == nil {
			out = append(out, n)
		}
	}
	return out
}

// Segments lists the index segments of all committed sessions.
func (r *Repository) Segments() []ObjectRef {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []ObjectRef
	for _, n := range sortedKeys(r.outcomes) {
		if r.outcomes[n].State != StateCommitted {
			continue
		}
		for _, s := range r.outcomes[n].Segments {
			out = append(out, s.ObjectRef)
		}
	}
	return out
}

// CheckRecords reads every record that the repository needs again from the
// store, past all caches: the config, outcomes and announcements of sessions,
// points, index segments, epochs and what they bind. It calls bad for each that
// is missing or damaged, from several goroutines, and returns other errors.
func (r *Repository) CheckRecords(ctx context.Context, bad func(object string, err error)) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(probeWidth)
	check := func(name string, fn func(ctx context.Context) error) {
		g.Go(func() error {
			err := fn(gctx)
			switch {
			case errors.Is(err, seal.ErrUnknownKey), errors.Is(err, seal.ErrNewerVersion):
				err = &seal.CorruptError{Object: name, Detail: err.Error()} // the repository opened, so it is the record
			case err != nil:
				err = lost(name, 0, err)
			}
			if _, damaged := errors.AsType[*seal.CorruptError](err); damaged {
				bad(name, err)
				return nil
			}
			return err
		})
	}
	for _, lost := range r.damagedRecords() {
		bad(lost.Object, lost)
	}
	check(configName, r.checkConfig)
	for _, n := range r.decidedByObject() {
		check(outcomeName(n), func(ctx context.Context) error { return r.checkOutcome(ctx, n) })
		check(sessionName(n), func(ctx context.Context) error {
			return r.checkSealed(ctx, sessionName(n), maxOpenSize, new(SessionRecord))
		})
	}
	points, err := r.Retained(ctx, "")
	if err != nil {
		return errors.Join(err, g.Wait())
	}
	for _, m := range points {
		check(m.Name, func(ctx context.Context) error { return r.checkPoint(ctx, m) })
	}
	for _, ref := range r.bound() {
		check(ref.Name, func(ctx context.Context) error { return r.checkRef(ctx, ref) })
	}
	return g.Wait()
}

// checkPoint forgives a point that was forgotten since it was listed.
func (r *Repository) checkPoint(ctx context.Context, m PointMeta) error {
	_, err := r.ReadPoint(ctx, m)
	if err == nil {
		return nil
	}
	if gone, ferr := r.Forgotten(ctx, m.ID); gone || ferr != nil {
		return ferr
	}
	return err
}

// decidedByObject lists the sessions whose outcome is an object of its own.
func (r *Repository) decidedByObject() (out []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range sortedKeys(r.outcomes) {
		if n >= r.watermark() {
			out = append(out, n)
		}
	}
	return out
}

// bound lists the segments, and what the epoch in force names.
func (r *Repository) bound() []ObjectRef {
	out := r.Segments()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch == nil {
		return out
	}
	out = append(out, r.epoch.Condemned...)
	for _, ref := range []*ObjectRef{r.epoch.Catalogue, r.epoch.Usage} {
		if ref != nil {
			out = append(out, *ref)
		}
	}
	return out
}

func (r *Repository) checkConfig(ctx context.Context) error {
	data, err := objstore.ReadAll(ctx, r.store, configName, maxConfigSize)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, r.configRaw) {
		return &seal.CorruptError{Object: configName, Detail: "is not what it was when the repository was opened"}
	}
	return nil
}

func (r *Repository) checkOutcome(ctx context.Context, n uint64) error {
	o, err := r.readOutcome(ctx, n)
	if err != nil {
		return err
	}
	if o == nil {
		return &seal.CorruptError{Object: outcomeName(n), Detail: "the object is missing, though it was read before"}
	}
	r.mu.Lock()
	known := r.outcomes[n]
	r.mu.Unlock()
	if known != nil && (known.State != o.State || known.Nonce != o.Nonce) {
		return &seal.CorruptError{Object: outcomeName(n), Detail: fmt.Sprintf("says %s, though it said %s before", o.State, known.State)}
	}
	return nil
}

func (r *Repository) checkSealed(ctx context.Context, name string, limit int64, v any) error {
	data, err := objstore.ReadAll(ctx, r.store, name, limit)
	if err != nil {
		return err
	}
	return r.openRecord(name, data, v)
}

// checkRef reads an object that another one binds by its digest.
func (r *Repository) checkRef(ctx context.Context, ref ObjectRef) error {
	data, err := objstore.ReadAll(ctx, r.store, ref.Name, ref.Size)
	if err != nil {
		return err
	}
	return ref.check(data)
}
