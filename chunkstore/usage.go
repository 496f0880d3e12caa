// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

// Usage tells, as the newest epoch published it, how much of each of the
// volume's packs no retained point needs. nil: nothing was published.
func (r *Repository) Usage(ctx context.Context, volume string) (*VolumeUsage, error) {
	r.mu.Lock()
	e := r.epoch
	r.mu.Unlock()
	if e == nil || e.Usage == nil {
		return nil, nil
	}
	var u UsageRecord
	if err := r.readRef(ctx, *e.Usage, &u); err != nil {
		return nil, err
	}
	v, ok := u.Volumes[r.VolumeKey(volume)]
	if !ok {
		return nil, nil
	}
	return &v, nil
}

// Survey computes what the given points need of each pack, by bytes: a byte is
// live when an extent of one of them maps it. Points of one volume only pay
// for what they do not share.
func (r *Repository) Survey(ctx context.Context, points []*Point) (*UsageRecord, error) {
	s := survey{repo: r, live: map[ChunkID]*liveBytes{}}
	newest := map[string]*Point{}
	for _, p := range points {
		if n := newest[p.Volume]; n == nil || n.Session < p.Session {
			newest[p.Volume] = p
		}
	}
	for _, p := range points {
		if err := s.point(ctx, p, newest[p.Volume] == p); err != nil {
			return nil, fmt.Errorf("survey point %.8s: %w", p.ID, err)
		}
	}
	return s.record(ctx)
}

// PublishUsage makes a survey the one in force by creating the next epoch. It
// condemns nothing; what the epoch before had in force stays so.
func (r *roster) PublishUsage(ctx context.Context, u *UsageRecord) error {
	name := "gc/usage/" + rand.Text()
	data, err := r.sealRecord(name, u)
	if err != nil {
		return err
	}
	if err := r.store.Put(ctx, name, objstore.Body{data}); err != nil {
		return fmt.Errorf("store usage: %w", err)
	}
	ref := refOf(name, data)
	for {
		if err := r.refreshToWrite(ctx); err != nil {
			return err
		}
		e := r.nextEpoch()
		e.Usage = &ref
		data, err := r.sealRecord(epochName(e.Epoch), e)
		if err != nil {
			return err
		}
		err = r.store.Put(ctx, epochName(e.Epoch), objstore.Body{data})
		if err != nil && !errors.Is(err, objstore.ErrExists) {
			return fmt.Errorf("store epoch: %w", err)
		}
		if rerr := r.refreshToWrite(ctx); rerr != nil || err == nil {
			return rerr
		}
		// Another collector was faster: build on its epoch. One that can't be read
		// is not there, and the store lies.
		if r.nextEpoch().Epoch == e.Epoch {
			return fmt.Errorf("store epoch %d: %w, and can't be read", e.Epoch, err)
		}
	}
}

// refreshToWrite puts the newest epoch in force and refuses a damaged one.
func (r *roster) refreshToWrite(ctx context.Context) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	if err := r.refreshEpochs(ctx); err != nil {
		return err
	}
	return r.writable()
}

// nextEpoch is an epoch that leaves in force what is.
func (r *roster) nextEpoch() EpochRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := EpochRecord{Epoch: r.epochs, Created: r.now().UTC()}
	if r.epoch != nil {
		e.Condemned, e.Catalogue, e.Watermark = r.epoch.Condemned, r.epoch.Catalogue, r.epoch.Watermark
	}
	return e
}

// survey collects, per chunk, which of its bytes extents map.
type survey struct {
	repo *Repository
	live map[ChunkID]*liveBytes
}

type liveBytes struct {
	volume string // hash of the first volume that used it
	shared bool
	newest int64  // bytes that the newest point of its volume maps
	spans  []span // ascending, disjoint once normalized
}

type span struct{ from, to uint32 }

func (s *survey) point(ctx context.Context, p *Point, newest bool) error {
	key := s.repo.VolumeKey(p.Volume)
	it := imagemap.NewIterator(s.repo, p.Map, 0, p.Map.Size, imagemap.Options{})
	for {
		e, ok, err := it.Next(ctx)
		if err != nil || !ok {
			return err
		}
		l := s.live[e.Chunk]
		if l == nil {
			l = &liveBytes{volume: key}
			s.live[e.Chunk] = l
		}
		l.shared = l.shared || l.volume != key
		if newest {
			l.newest += e.Len
		}
		l.add(span{e.ChunkOff, e.ChunkOff + uint32(e.Len)})
	}
}

// add keeps the spans short: points share most extents, so most additions are
// inside what is there.
func (l *liveBytes) add(n span) {
	i, _ := slices.BinarySearchFunc(l.spans, n.from, func(s span, from uint32) int { return cmp.Compare(s.to, from) })
	j := i
	for j < len(l.spans) && l.spans[j].from <= n.to {
		n.from, n.to = min(n.from, l.spans[j].from), max(n.to, l.spans[j].to)
		j++
	}
	l.spans = slices.Replace(l.spans, i, j, n)
}

func (l *liveBytes) total() (n int64) {
	for _, s := range l.spans {
		n += int64(s.to - s.from)
	}
	return n
}

type packTally struct {
	PackUsage
	volume string
}

// record turns live plaintext into live stored bytes: a pack's stored bytes in
// the proportion in which its plaintext is live.
func (s *survey) record(ctx context.Context) (*UsageRecord, error) {
	packs := map[index.PackID]*packTally{}
	for id, l := range s.live {
		loc, err := s.repo.Locate(ctx, id)
		if err != nil {
			return nil, err
		}
		t := packs[loc.Pack]
		if t == nil {
			t = &packTally{PackUsage: PackUsage{Name: loc.Pack.Name(), Stored: int64(loc.Pack.Size)}, volume: l.volume}
			packs[loc.Pack] = t
		}
		t.Shared = t.Shared || l.shared || t.volume != l.volume
		live := l.total()
		t.Live += live * int64(loc.Stored) / int64(loc.Plain)
		// A chunk that a point maps twice is needed once.
		t.Newest += min(l.newest, live) * int64(loc.Stored) / int64(loc.Plain)
	}
	u := &UsageRecord{Volumes: map[string]VolumeUsage{}}
	for id, t := range packs {
		if id.Class == chunk.Map {
			continue
		}
		v := u.Volumes[t.volume]
		v.Stored += t.Stored
		v.Needed += t.Live
		if t.Newest > 0 {
			v.Pinned += t.Stored
		}
		v.Newest += t.Newest
		if t.Newest < t.Stored-t.Stored/16 { // nearly whole ones are nothing to clean
			v.Packs = append(v.Packs, t.PackUsage)
		}
		u.Volumes[t.volume] = v
	}
	for k, v := range u.Volumes {
		slices.SortFunc(v.Packs, func(a, b PackUsage) int {
			return cmp.Or(cmp.Compare(a.Live*b.Stored, b.Live*a.Stored), cmp.Compare(a.Name, b.Name))
		})
		u.Volumes[k] = v
	}
	return u, nil
}
