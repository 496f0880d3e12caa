// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/chunkstore/cdc"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// ChunkID is a chunk's name.
type ChunkID = chunk.ID

const maxPointSize = 16 << 20

// Point is a restore point: the root of one volume's image map and the facts
// about how it was made. What the map does not cover reads as zeros.
type Point struct {
	ID       string            `json:"id"`      // 32 hex digits; a unique prefix names it
	Session  uint64            `json:"session"` // the session that committed it; the birth of what it changed
	Volume   string            `json:"volume"`
	Domain   string            `json:"domain"`
	Created  time.Time         `json:"created"`
	Snapshot string            `json:"snapshot,omitempty"` // id of the snapshot it was taken from
	Size     int64             `json:"size"`               // of the volume in bytes
	Tags     map[string]string `json:"tags,omitempty"`

	Base     *PointRef     `json:"base,omitempty"`
	Line     string        `json:"line"`               // random; points of one line descend from each other
	Ancestry []Ancestor    `json:"ancestry,omitempty"` // older lines it descends from, newest first
	Map      imagemap.Map  `json:"map"`
	Root     string        `json:"root"` // digest of the map: binds every byte of the volume
	Source   string        `json:"source"`
	Reason   string        `json:"reason"`
	Trust    string        `json:"trust"`
	Chunker  cdc.Kind      `json:"chunker"`
	Digests  int           `json:"digests"`              // bytes per frame digest of base chunks
	Lost     []VolumeRange `json:"unreadable,omitempty"` // could not be read from the source; read as zeros
	Skipped  []VolumeRange `json:"skipped,omitempty"`    // free space that was not read; reads as zeros
	Audit    Audit         `json:"audit"`
	Counts   PointCounts   `json:"counts"`
}

// VolumeRange is [Offset, Offset+Length) of a volume, in bytes.
type VolumeRange struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// Ancestor says that the points of a line up to a session are ancestors.
type Ancestor struct {
	Line string `json:"line"`
	Upto uint64 `json:"upto"`
}

// Audit is the state of the check on what change sources claim.
type Audit struct {
	Cursor  int64 `json:"cursor"`  // where the rolling part goes on
	Sampled int64 `json:"sampled"` // bytes compared for this point
	Missed  int64 `json:"missed"`  // bytes found changed though not claimed
}

// PointCounts are the exact figures of the backup that made the point, in bytes.
type PointCounts struct {
	Changed   int64 `json:"changed"`
	Read      int64 `json:"read"`
	New       int64 `json:"new"`
	Data      int64 `json:"data"` // sealed data frames shipped
	Mapped    int64 `json:"mapped"`
	Cleaned   int64 `json:"cleaned"`
	Chunks    int64 `json:"chunks"`
	NewChunks int64 `json:"newChunks"`
}

// maxAncestry bounds a point's memory of older lines; beyond it a difference
// is found by comparing maps.
const maxAncestry = 64

// Descends tells whether a is p or an ancestor of p, so that extents of p born
// after a's session are exactly what changed since a.
func (p *Point) Descends(a *Point) bool {
	if a.Line == p.Line {
		return a.Session <= p.Session
	}
	return slices.ContainsFunc(p.Ancestry, func(l Ancestor) bool { return l.Line == a.Line && a.Session <= l.Upto })
}

// Extend makes p the next point of base's line, or of a line of its own where
// another session extends the same base.
func (p *Point) Extend(base *Point, branch bool, newLine string) {
	p.Base = &PointRef{ID: base.ID, Session: base.Session}
	p.Line, p.Ancestry = base.Line, base.Ancestry
	if branch {
		p.Line = newLine
		p.Ancestry = append([]Ancestor{{Line: base.Line, Upto: base.Session}}, base.Ancestry...)
		p.Ancestry = p.Ancestry[:min(len(p.Ancestry), maxAncestry)]
	}
}

func (r *vault) pointName(p *Point) string {
	return "points/" + r.VolumeKey(p.Volume) + "/" + p.ID
}

// Commit makes everything durable, stores the point and decides the session
// (C4). On ErrFenced a collector was faster and nothing counts.
func (s *Session) Commit(ctx context.Context, p *Point) error {
	p.Session, p.Root = s.rec.Session, hexDigest(p.Map.Digest())
	if err := s.rec.admit(p, s.BaseForgotten); err != nil {
		return fmt.Errorf("commit point %.8s: %w", p.ID, err)
	}
	if err := s.flush(chunk.Base, chunk.Patch, chunk.Map); err != nil {
		return err
	}
	if err := s.fresh.Flush(ctx); err != nil {
		return err
	}
	name := s.repo.pointName(p)
	data, err := s.repo.sealRecord(name, p)
	if err != nil {
		return err
	}
	if len(data) > maxPointSize {
		return fmt.Errorf("store point: it has %d bytes, at most %d can be read back", len(data), maxPointSize)
	}
	if err := s.store.Put(ctx, name, objstore.Body{data}); err != nil {
		if err := s.repo.stored(ctx, name, objstore.Body{data}, err); err != nil {
			return fmt.Errorf("store point: %w", err)
		}
	}
	meta := PointMeta{ObjectRef: refOf(name, data), ID: p.ID, Volume: p.Volume, Created: p.Created}
	if p.Base != nil {
		meta.Base = p.Base.ID
	}
	return s.decide(ctx, StateCommitted, []PointMeta{meta})
}

// admit refuses a point that this session must not commit.
func (s *SessionRecord) admit(p *Point, baseForgotten bool) error {
	if err := p.check(); err != nil {
		return err
	}
	switch {
	case p.Volume != s.Volume || p.Domain != s.Domain:
		return fmt.Errorf("it is of volume %q and domain %q, its session of %q and %q", p.Volume, p.Domain, s.Volume, s.Domain)
	case p.Base == nil:
		return nil
	case s.Base == nil || *p.Base != *s.Base:
		return fmt.Errorf("it extends point %.8s, which its session did not pin", p.Base.ID)
	case baseForgotten:
		return fmt.Errorf("it extends point %.8s, which was forgotten", p.Base.ID)
	}
	return nil
}

// check tells whether a point's facts fit together.
func (p *Point) check() error {
	if raw, err := hex.DecodeString(p.ID); err != nil || len(raw) != 16 {
		return fmt.Errorf("its id %.40q is not of 32 hexadecimal digits", p.ID)
	}
	if p.Size < 0 || p.Map.Size != p.Size || p.Root != hexDigest(p.Map.Digest()) {
		return fmt.Errorf("its facts contradict each other: size %d, map of %d bytes, root %.16s", p.Size, p.Map.Size, p.Root)
	}
	return nil
}

// Abandon ends the session without a point; what it stored is garbage.
func (s *Session) Abandon(ctx context.Context) error { return s.decide(ctx, StateAbandoned, nil) }

func (s *Session) decide(ctx context.Context, state string, points []PointMeta) error {
	r := s.repo
	r.mu.Lock()
	epochs := r.epochs
	r.mu.Unlock()
	o := &OutcomeRecord{
		Session: s.rec.Session, Nonce: s.rec.Nonce, State: state, Points: points,
		Packs: int(s.packs.Load()), Bytes: s.packBytes.Load(), Epochs: epochs, Finished: r.now().UTC(),
	}
	if state == StateCommitted {
		o.Segments = s.segments
	}
	name := outcomeName(o.Session)
	data, err := r.sealRecord(name, o)
	if err != nil {
		return err
	}
	if len(data) > maxOutcomeSize {
		return fmt.Errorf("decide session %d: the outcome has %d bytes, at most %d can be read back", o.Session, len(data), maxOutcomeSize)
	}
	if err := s.store.Put(ctx, name, objstore.Body{data}); err != nil {
		if err := r.decided(ctx, o, err); err != nil {
			return fmt.Errorf("decide session %d: %w", o.Session, err)
		}
	}
	return r.enter(ctx, o)
}

// decided finds out what became of an outcome whose put failed: it may be there
// all the same, or another one.
func (r *vault) decided(ctx context.Context, o *OutcomeRecord, failure error) error {
	there, err := r.readOutcome(ctx, o.Session)
	switch {
	case err != nil:
		return fmt.Errorf("%w; read it back: %w", failure, err)
	case there == nil:
		return failure
	case there.same(o):
		return nil
	case there.Nonce == o.Nonce:
		return ErrDecided // an earlier call, or another process that resumed the session
	}
	return ErrFenced
}

// enter counts the session's outcome, unless its number was folded before: a
// collector that fenced the session may have removed its own outcome after the
// epoch that says so, and only then could this one be created. It is void.
func (r *roster) enter(ctx context.Context, o *OutcomeRecord) error {
	if err := r.refreshToWrite(ctx); err != nil {
		return fmt.Errorf("decide session %d: it may count or not: %w", o.Session, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.Session >= r.watermark() {
		r.learn(o)
		return nil
	}
	if there := r.outcomes[o.Session]; there == nil || !there.same(o) {
		return fmt.Errorf("decide session %d: %w", o.Session, ErrFenced)
	}
	return nil
}

// Metas lists the committed points, oldest session first, of one volume or of
// all ("").
func (r *roster) Metas(volume string) []PointMeta {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []PointMeta
	for _, n := range sortedKeys(r.outcomes) {
		o := r.outcomes[n]
		if o.State != StateCommitted {
			continue
		}
		for _, p := range o.Points {
			if volume == "" || p.Volume == volume {
				out = append(out, p)
			}
		}
	}
	return out
}

// Points reads the retained points (those without a tombstone), oldest first.
// Points that can't be read are left out and named by the error, which comes
// with the others: one damaged point must not hide the rest.
func (r *Repository) Points(ctx context.Context, volume string) ([]*Point, error) {
	metas, err := r.Retained(ctx, volume)
	if err != nil {
		return nil, err
	}
	out := make([]*Point, len(metas))
	errs := make([]error, len(metas))
	var g errgroup.Group
	g.SetLimit(probeWidth)
	for i, m := range metas {
		g.Go(func() error {
			out[i], errs[i] = r.ReadPoint(ctx, m)
			return nil
		})
	}
	_ = g.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out, func(p *Point) bool { return p == nil }), errors.Join(errs...)
}

// Latest is the newest retained point of a volume, or nil.
func (r *Repository) Latest(ctx context.Context, volume string) (*Point, error) {
	metas, err := r.Retained(ctx, volume)
	if err != nil || len(metas) == 0 {
		return nil, err
	}
	return r.ReadPoint(ctx, metas[len(metas)-1])
}

// ReadPoint reads one point and checks it against its session's outcome.
func (r *Repository) ReadPoint(ctx context.Context, m PointMeta) (*Point, error) {
	data, err := objstore.ReadAll(ctx, r.store, m.Name, maxPointSize)
	if err != nil {
		return nil, fmt.Errorf("point %.8s of volume %s: %w", m.ID, m.Volume, lost(m.Name, 0, err))
	}
	if err := m.check(data); err != nil {
		return nil, err
	}
	var p Point
	if err := r.openRecord(m.Name, data, &p); err != nil {
		return nil, err
	}
	err = p.check()
	if err == nil && (p.ID != m.ID || p.Volume != m.Volume) {
		err = fmt.Errorf("it is point %.8s of volume %q, its outcome says %.8s of %q", p.ID, p.Volume, m.ID, m.Volume)
	}
	if err != nil {
		return nil, &seal.CorruptError{Object: m.Name, Detail: err.Error()}
	}
	return &p, nil
}

func hexDigest(d [32]byte) string { return hex.EncodeToString(d[:]) }
