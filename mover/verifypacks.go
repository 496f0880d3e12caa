// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// statWidth is how many requests are in flight while packs are looked for.
const statWidth = 16

// presence checks that every pack is there with the right size. A list answers
// for nearly all; what it does not show, or shows otherwise, is asked for by name.
func (v *verify) presence(ctx context.Context) error {
	byName := make(map[string]index.PackID, len(v.packs))
	for p := range v.packs {
		byName[p.Name()] = p
	}
	err := v.repo.Store().List(ctx, "packs/", func(i objstore.Info) error {
		if p, ok := byName[i.Name]; ok && int64(p.Size) == i.Size {
			delete(byName, i.Name)
			v.report.Packs++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list packs: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(statWidth)
	for name, p := range byName {
		g.Go(func() error {
			info, err := v.repo.Store().Stat(gctx, name)
			switch {
			case errors.Is(err, objstore.ErrNotExist):
				v.badPack(p, &seal.CorruptError{Object: name, Detail: "the object is missing"}, true)
				return nil
			case err != nil:
				return fmt.Errorf("look for %s: %w", name, err)
			case info.Size != int64(p.Size):
				v.badPack(p, &seal.CorruptError{Object: name, Offset: min(info.Size, int64(p.Size)), Detail: fmt.Sprintf("has %d bytes, its index says %d", info.Size, p.Size)}, false)
				return nil
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			v.report.Packs++
			return nil
		})
	}
	return g.Wait()
}

func (v *verify) badPack(id index.PackID, err error, dormant bool) {
	p := v.found(err, nil)
	v.mu.Lock()
	defer v.mu.Unlock()
	p.dormant = dormant
	v.badPacks[id] = p
}

// sample chooses the packs to read, in the order of their names.
func (v *verify) sample() []index.PackID {
	var all []index.PackID
	for p := range v.packs {
		if v.badPacks[p] == nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, index.PackID.Compare)
	r := rand.New(rand.NewPCG(v.opt.Seed, 0x76657269))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	n := int(math.Ceil(float64(len(all)) * v.opt.ReadData / 100))
	chosen := all[:min(n, len(all))]
	slices.SortFunc(chosen, index.PackID.Compare)
	return chosen
}

// readPacks reads packs whole and checks everything in them. At most half of
// the memory holds packs.
func (v *verify) readPacks(ctx context.Context, plan restorePlan) (err error) {
	chosen := v.sample()
	largest, total := 0, int64(0)
	for _, p := range chosen {
		largest, total = max(largest, int(p.Size)), total+int64(p.Size)
	}
	if len(chosen) == 0 {
		return nil
	}
	workers := max(1, min(2*runtime.GOMAXPROCS(0), int(plan.limit/2)/largest, len(chosen)))
	bufs, err := blockio.NewArena(largest, workers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bufs.Close()) }()
	v.progress.enter("reading packs", total)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, p := range chosen {
		g.Go(func() error {
			buf, err := bufs.Get(gctx)
			if err != nil {
				return err
			}
			err = v.readPack(gctx, p, buf.Bytes()[:p.Size])
			return errors.Join(err, buf.Release())
		})
	}
	return g.Wait()
}

func (v *verify) readPack(ctx context.Context, id index.PackID, b []byte) error {
	err := v.repo.FetchInto(ctx, id, 0, b)
	if err == nil {
		err = pack.Verify(v.repo.Keyring(), id.Name(), b) //nolint:contextcheck // the pack is in memory: nothing waits
	}
	if err == nil {
		err = v.indexed(ctx, id, b)
	}
	v.mu.Lock()
	v.report.PacksRead++
	v.mu.Unlock()
	v.progress.read.Add(int64(id.Size))
	if err = sealedStrangely(id, err); isDamage(err) {
		v.badPack(id, err, false)
		return nil
	}
	return err
}

// indexed checks that the index finds every chunk of a pack where its table of
// contents says that it is.
func (v *verify) indexed(ctx context.Context, id index.PackID, b []byte) error {
	toc, err := pack.ReadTOC(ctx, v.repo.Keyring(), id.Name(), int64(len(b)), func(_ context.Context, off, n int64) ([]byte, error) {
		return b[off : off+n], nil
	})
	if err != nil {
		return err
	}
	for i := range toc.Chunks {
		c := &toc.Chunks[i]
		locs, err := v.index.LookupAll(c.ID)
		if err != nil {
			return fmt.Errorf("look up chunk %s: %w", c.ID.Short(), err)
		}
		if !slices.ContainsFunc(locs, func(l index.Location) bool { return l.Pack == id && l.Entry == c.Entry }) {
			return &seal.CorruptError{Object: id.Name(), Offset: int64(c.Offset), Detail: fmt.Sprintf("the index does not find chunk %s here", c.ID.Short())}
		}
	}
	return nil
}
