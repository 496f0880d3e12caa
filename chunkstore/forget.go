// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// Forget writes a point's tombstone.
func (r *Repository) Forget(ctx context.Context, p PointRef, reason string) error {
	name := forgottenName(p.ID)
	data, err := r.sealRecord(name, TombstoneRecord{Point: p, Reason: reason, Created: r.now().UTC()})
	if err != nil {
		return err
	}
	err = r.store.Put(ctx, name, objstore.Body{data})
	if errors.Is(err, objstore.ErrExists) {
		return nil
	}
	return err
}

// Forgotten tells whether a point has a tombstone that who holds the key wrote.
// Whatever else lies under that name counts for nothing, and is reported.
func (r *vault) Forgotten(ctx context.Context, id string) (bool, error) {
	there, bad, err := r.tombstone(ctx, id)
	return there && bad == nil, err
}

// tombstone reads a point's, past memory where it was not read before. bad says
// why it counts for nothing.
func (r *vault) tombstone(ctx context.Context, id string) (there bool, bad *seal.CorruptError, err error) {
	if _, ok := r.buried.Load(id); ok {
		return true, nil, nil
	}
	name := forgottenName(id)
	data, err := objstore.ReadAll(ctx, r.store, name, maxOpenSize)
	if errors.Is(err, objstore.ErrNotExist) {
		return false, nil, nil
	}
	var t TombstoneRecord
	if err == nil {
		err = r.openRecord(name, data, &t)
	}
	if err == nil && t.Point.ID != id {
		err = &seal.CorruptError{Object: name, Detail: fmt.Sprintf("is of point %.8s", t.Point.ID)}
	}
	if bad, ok := asDamage(name, err); ok {
		r.damage.note(name, bad)
		return true, bad, nil
	}
	if err != nil {
		return false, nil, fmt.Errorf("read the tombstone of point %.8s: %w", id, err)
	}
	r.buried.Store(id, struct{}{})
	return true, nil, nil
}

// Retained is Metas without the forgotten points. Tombstones are found by a
// list, which may lag, so a point may appear for a while after it was forgotten;
// what must be sure asks Forgotten by name.
func (r *roster) Retained(ctx context.Context, volume string) ([]PointMeta, error) {
	metas := r.Metas(volume)
	listed, err := r.listForgotten(ctx)
	if err != nil {
		return nil, err
	}
	// Only names of points that there are: anybody may have made up others.
	var mu sync.Mutex
	gone := map[string]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(probeWidth)
	for _, m := range metas {
		if !listed[m.ID] {
			continue
		}
		g.Go(func() error {
			forgotten, err := r.Forgotten(gctx, m.ID)
			mu.Lock()
			defer mu.Unlock()
			gone[m.ID] = forgotten
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(metas, func(m PointMeta) bool { return gone[m.ID] }), nil
}

func (r *vault) listForgotten(ctx context.Context) (map[string]bool, error) {
	listed := map[string]bool{}
	prefix := forgottenName("")
	err := r.store.List(ctx, prefix, func(i objstore.Info) error {
		if id, ok := strings.CutPrefix(i.Name, prefix); ok {
			listed[id] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list forgotten points: %w", err)
	}
	return listed, nil
}
