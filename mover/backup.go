// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/tidemark-io/tidemark/blockdiff"
	"github.com/tidemark-io/tidemark/blockio"
	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/cdc"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// BackupOptions say what to back up and how.
type BackupOptions struct {
	Source string            // path of a block device or file
	Volume string            // name in the repository
	Domain string            // deduplication domain
	Base   *chunkstore.Point // nil: the volume's latest point
	NoBase bool              // there is none, do not look for one
	Full   bool              // read everything; still deduplicates

	Snapshot     string    // id of the snapshot that the source is, recorded in the point
	Changes      io.Reader // a claim of what changed since the base; nil: none
	BaseSnapshot string    // the snapshot that the claim starts from

	AuditShare     float64 // share of the volume that the rolling audit compares; 0: DefaultAuditShare
	Memory         int64   // bytes for the whole process; 0: DefaultMemory
	Tags           map[string]string
	Chunker        cdc.Kind // "": rabin
	DigestSize     int      // bytes per digest piece of base chunks, 4 KiB to 64 KiB; 0: DefaultDigestSize
	SkipUnreadable bool
	Seed           uint64 // of the audit's choice; 0: drawn
	Now            func() time.Time
	Progress       *Progress

	tune func(*plan) // tests make slabs and packs small
}

// DefaultDigestSize is a database's page. Smaller than a frame, so that what a
// claimed incremental overwrote in part can still be compared without fetching
// it: docs/decisions/0004-digest-size.md.
const DefaultDigestSize = 8 << 10

// backup is one run.
type backup struct {
	opt    BackupOptions
	repo   *chunkstore.Repository
	source *blockio.Source
	size   int64
	base   *chunkstore.Point
	// baseDamage says why there is none although the volume has points.
	baseDamage string
	sparse     bool // the file told of holes, which were not read
	plan       plan
	slabBufs   *blockio.Arena
	chunkBufs  *blockio.Arena
	cutParams  cdc.Params
	progress   *Progress
	report     Report
	journal    *journal

	session *chunkstore.Session
	mode    mode
	moves   moves
	claimed blockdiff.Ranges // in whole pages; with the tail that grew
	start   int64            // offset from which the volume is read; above 0 after a resume

	lost        []blockdiff.Range
	lie         *lyingClaimError // what the claim was convicted of, in this run or the interrupted one
	spent       chunkstore.Stats // of a session that was given up
	auditCursor int64
	auditBytes  atomic.Int64
	changed     atomic.Int64
	moved       atomic.Int64
}

// Backup makes a restore point of a volume. The report is complete when the
// error is nil; ExitCode tells a claim that lied.
func Backup(ctx context.Context, repo *chunkstore.Repository, opt BackupOptions) (_ *Report, err error) {
	b := &backup{opt: opt, repo: repo, progress: opt.Progress}
	if err := b.defaults(); err != nil {
		return nil, err
	}
	began := startUsage(b.opt.Now())
	got := repo.Meter().Counts().GetBytes
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	p, err := b.run(ctx)
	if err != nil {
		return nil, err
	}
	b.fill(p)
	b.report.FetchedBytes = repo.Meter().Counts().GetBytes - got
	b.report.Seconds, b.report.CPUSeconds = began.seconds(b.opt.Now())
	b.report.PeakMemoryBytes = peakMemory()
	return &b.report, nil
}

// ExitCode is 0, or ExitLied where the claim was caught.
func (r *Report) ExitCode() int {
	if r.Audit.Missed > 0 {
		return ExitLied
	}
	return 0
}

func (b *backup) defaults() error {
	o := &b.opt
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the default of a clock that callers may give
	}
	if o.Chunker == "" {
		o.Chunker = cdc.Rabin
	}
	if o.DigestSize == 0 {
		o.DigestSize = DefaultDigestSize
	}
	if o.DigestSize < 4<<10 || o.DigestSize > 64<<10 || o.DigestSize&(o.DigestSize-1) != 0 {
		return fmt.Errorf("digest size %d is not a power of two from 4 KiB to 64 KiB", o.DigestSize)
	}
	if o.AuditShare < 0 || o.AuditShare > 1 {
		return fmt.Errorf("audit share %g is not between 0 and 1", o.AuditShare)
	}
	if o.Seed == 0 {
		var seed [8]byte
		if _, err := rand.Read(seed[:]); err != nil {
			return fmt.Errorf("draw the audit's seed: %w", err)
		}
		o.Seed = binary.LittleEndian.Uint64(seed[:])
	}
	if b.progress == nil {
		b.progress = new(Progress)
	}
	b.cutParams = b.repo.CutParams(o.Chunker)
	return b.cutParams.Validate()
}

// open opens the source, takes the memory and the journal, and finds the base.
func (b *backup) open(ctx context.Context) (err error) {
	if b.source, err = blockio.OpenSource(b.opt.Source); err != nil {
		return err
	}
	b.size = b.source.Size()
	if by := b.source.Writer(); by != "" {
		b.warn(fmt.Sprintf("the source is %s: unless that is frozen, the point mixes what was there at different moments; back up a snapshot", by))
	}
	maxChunk := max(b.cutParams.Max, patchBytes)
	if b.plan, err = planMemory(b.opt.Memory, maxChunk); err != nil {
		return err
	}
	if b.opt.tune != nil {
		b.opt.tune(&b.plan)
	}
	if b.slabBufs, err = blockio.NewArena(b.plan.slabBytes, b.plan.slabs); err != nil {
		return err
	}
	if b.chunkBufs, err = blockio.NewArena(maxChunk, b.plan.chunkBufs); err != nil {
		return err
	}
	if b.journal, err = openJournal(b.repo.Dir(), b.repo.VolumeKey(b.opt.Volume)); err != nil {
		return err
	}
	return b.findBase(ctx)
}

// findBase takes the volume's latest point unless another was chosen or none is
// wanted. A damaged one must not stand in the way of the backup that heals it.
func (b *backup) findBase(ctx context.Context) error {
	b.base = b.opt.Base
	if b.base != nil || b.opt.NoBase || b.opt.Full {
		return nil
	}
	latest, err := b.repo.Latest(ctx, b.opt.Volume)
	if bad, damaged := errors.AsType[*seal.CorruptError](err); damaged {
		b.baseDamage = "the volume's latest point is damaged: " + bad.Error()
		b.warn(b.baseDamage + "; everything is read")
		return nil
	}
	b.base = latest
	return err
}

func (b *backup) close() error {
	var errs []error
	if b.session != nil {
		errs = append(errs, b.session.Close())
	}
	if b.journal != nil {
		errs = append(errs, b.journal.close())
	}
	if b.chunkBufs != nil {
		errs = append(errs, b.chunkBufs.Close())
	}
	if b.slabBufs != nil {
		errs = append(errs, b.slabBufs.Close())
	}
	if b.source != nil {
		errs = append(errs, b.source.Close())
	}
	return errors.Join(errs...)
}

// run decides how to go about it, moves the bytes and commits the point.
func (b *backup) run(ctx context.Context) (*chunkstore.Point, error) {
	claim, err := b.readClaim()
	if err != nil {
		return nil, err
	}
	old, err := b.journal.readHeader(b.repo.Config().ID)
	if err != nil {
		return nil, err
	}
	if err := b.begin(ctx, old); err != nil {
		return nil, err
	}
	v := b.decide(old)
	if v.refused != "" {
		b.warn("the list of changes is not used: " + v.refused)
	}
	m, err := b.attempt(ctx, v, claim, old)
	if lie, ok := errors.AsType[*lyingClaimError](err); ok { // make it right by fingerprint, loudly (M2)
		b.convict(lie)
		b.warn(lie.Error() + "; the whole volume is compared instead")
		head := resumption{b}.journalHeader(nil) // whoever goes on after a kill must know
		if err := b.journal.begin(&head); err != nil {
			return nil, err
		}
		if err := b.restart(ctx); err != nil {
			return nil, err
		}
		v = b.decide(nil)
		m, err = b.attempt(ctx, v, nil, nil)
	}
	if err != nil {
		return nil, err
	}
	return b.commit(ctx, v, m)
}

// decide puts the facts together. An interrupted backup may have caught a claim
// on the same base lying.
func (b *backup) decide(old *journalHeader) verdict {
	f := facts{
		size: b.size, base: b.base, baseGone: b.base != nil && b.session.BaseForgotten, full: b.opt.Full,
		baseChosen: b.opt.Base != nil, baseDamage: b.baseDamage,
		claim: b.opt.Changes != nil, baseSnapshot: b.opt.BaseSnapshot, domain: b.opt.Domain,
	}
	if old != nil && old.Lie != nil && b.base != nil && old.Volume == b.opt.Volume && old.Base == b.base.ID {
		b.lie = old.Lie
		if f.claim {
			b.convict(old.Lie)
		}
	}
	if b.lie != nil {
		f.lie = b.lie.Error()
	}
	return decide(f)
}

func (b *backup) convict(lie *lyingClaimError) {
	b.lie = lie
	b.report.Audit.Missed = max(1, lie.Missed)
}

func (b *backup) warn(s string) { b.report.Warnings = append(b.report.Warnings, s) }

func (b *backup) readClaim() (blockdiff.Ranges, error) {
	if b.opt.Changes == nil {
		return nil, nil
	}
	if b.base == nil && (b.opt.Full || b.baseDamage != "") {
		return nil, nil // it will be refused, with the reason
	}
	if b.base == nil {
		return nil, fmt.Errorf("a list of changes needs a base, and volume %q has no restore point yet: back it up once without", b.opt.Volume)
	}
	claim, err := blockdiff.ParseClaim(b.opt.Changes, b.size)
	if err != nil {
		return nil, fmt.Errorf("list of changes: %w", err)
	}
	return claim, nil
}

// begin resumes the interrupted session, if its base is ours and it is still
// undecided, or starts one.
func (b *backup) begin(ctx context.Context, old *journalHeader) (err error) {
	opt := chunkstore.SessionOptions{Volume: b.opt.Volume, Domain: b.opt.Domain, Base: b.base, Budget: b.plan.session, OnPack: b.onPack}
	if old != nil && old.Volume == b.opt.Volume && old.Domain == b.opt.Domain && old.Base == baseID(b.base) {
		b.session, err = b.repo.Resume(ctx, old.Session, old.Nonce, opt, b.journal.packs)
		if err == nil {
			b.report.Resumed = "what was shipped before is not shipped again"
			return nil
		}
		over := errors.Is(err, chunkstore.ErrDecided) || errors.Is(err, chunkstore.ErrForeign) || errors.Is(err, objstore.ErrNotExist)
		if !over {
			return err
		}
	}
	b.session, err = b.repo.Begin(ctx, opt)
	return err
}

// restart begins a fresh session: what was in flight in the old one is undefined.
func (b *backup) restart(ctx context.Context) error {
	err := errors.Join(b.session.Abandon(ctx), b.session.Close())
	b.spent = b.session.Stats()
	b.session = nil
	if err != nil {
		return err
	}
	return b.begin(ctx, nil)
}

func baseID(p *chunkstore.Point) string {
	if p == nil {
		return ""
	}
	return p.ID
}

func (b *backup) onPack(p chunkstore.PackReport) error {
	b.progress.out.Add(int64(p.Pack.Size))
	return b.journal.pack(p)
}

// attempt moves the bytes one way and returns the new map.
func (b *backup) attempt(ctx context.Context, v verdict, claim blockdiff.Ranges, old *journalHeader) (imagemap.Map, error) {
	b.mode, b.moves, b.start, b.lost = v.mode, nil, 0, nil
	b.changed.Store(0)
	b.moved.Store(0)
	if v.mode == modeClaim { // what the base could not read is unknown, whatever the claim says
		for _, l := range b.base.Lost {
			claim = claim.Union(blockdiff.Ranges{blockdiff.Range(l)})
		}
	}
	ranges, holes, err := b.ranges(ctx, claim)
	if err != nil {
		return imagemap.Map{}, err
	}
	if v.mode == modeClaim {
		b.progress.enter("auditing", 0)
		if err := b.audit(ctx, claim); err != nil {
			return imagemap.Map{}, err
		}
	}
	out := imagemap.NewWriter(b.session, v.mode == modeFull)
	if err := (resumption{b}).resume(ctx, old, ranges, out); err != nil {
		return imagemap.Map{}, err
	}
	below := blockdiff.Ranges{{Offset: 0, Length: b.start}}
	ranges, holes = ranges.Subtract(below), holes.Subtract(below)
	b.progress.enter(map[mode]string{modeFull: "reading", modeClaim: "reading changes", modeCompare: "comparing"}[v.mode], ranges.Total())
	if err := b.move(ctx, ranges, holes, out); err != nil {
		return imagemap.Map{}, err
	}
	if err := b.source.CheckUnchanged(); err != nil {
		return imagemap.Map{}, err
	}
	run, err := out.Close(ctx)
	if err != nil {
		return imagemap.Map{}, fmt.Errorf("write the image map: %w", err)
	}
	return b.merge(ctx, run)
}

// ranges finds what to read, and for a comparison what the source knows to be
// zeros without reading.
func (b *backup) ranges(ctx context.Context, claim blockdiff.Ranges) (ranges, holes blockdiff.Ranges, err error) {
	whole := blockdiff.Ranges{{Offset: 0, Length: b.size}}.Clip(b.size)
	if b.mode == modeClaim {
		tail := whole.Subtract(blockdiff.Ranges{{Offset: 0, Length: b.base.Size}})
		ranges = claim.Union(tail).AlignOut(pageSize, b.size)
		b.claimed = ranges
		b.moves, err = planMoves(ctx, b.repo, b.base, max(16<<20, 2*ranges.Total()))
		if err != nil {
			return nil, nil, err
		}
		b.moves = b.moves.subtract(ranges)
		return ranges.Union(b.moves.ranges()).AlignOut(pageSize, b.size), nil, nil
	}
	ranges = whole
	if !b.source.IsDevice() && !b.opt.Full {
		allocated, err := blockdiff.Allocated(b.source.File(), b.size)
		if err != nil && !errors.Is(err, blockdiff.ErrNoHoles) {
			return nil, nil, fmt.Errorf("find holes of the source: %w", err)
		}
		if err == nil {
			ranges = allocated.AlignOut(pageSize, b.size)
			holes = whole.Subtract(ranges)
			b.sparse = len(holes) > 0
		}
	}
	if b.mode == modeFull {
		return ranges, nil, nil
	}
	b.moves, err = planMoves(ctx, b.repo, b.base, 16<<20)
	return ranges, holes, err
}

// merge lays the run over the base's map.
func (b *backup) merge(ctx context.Context, run imagemap.Ref) (imagemap.Map, error) {
	if b.mode == modeFull {
		return imagemap.Map{Size: b.size, Birth: b.session.Number(), Base: run}, nil
	}
	m := b.base.Map
	m.Size = b.size
	m.Runs = append([]imagemap.Ref(nil), m.Runs...)
	if !run.IsZero() {
		m.Runs = append([]imagemap.Ref{run}, m.Runs...)
	}
	m, _, err := imagemap.Compact(ctx, b.session, b.session, m, imagemap.Policy{})
	if err != nil {
		return m, fmt.Errorf("merge the image map: %w", err)
	}
	return m, nil
}

func (b *backup) commit(ctx context.Context, v verdict, m imagemap.Map) (*chunkstore.Point, error) {
	b.progress.enter("committing", 0)
	id, err := randomHex(16)
	if err != nil {
		return nil, err
	}
	line, err := randomHex(8)
	if err != nil {
		return nil, err
	}
	if v.source == SourceFull && b.sparse {
		v.source = SourceSparse
	}
	p := &chunkstore.Point{
		ID: id, Volume: b.opt.Volume, Domain: b.opt.Domain, Created: b.opt.Now().UTC().Truncate(time.Millisecond),
		Snapshot: b.opt.Snapshot, Size: b.size, Tags: b.opt.Tags, Line: line, Map: m,
		Source: v.source, Reason: v.reason, Trust: TrustRead, Chunker: b.opt.Chunker, Digests: b.opt.DigestSize,
		Audit: chunkstore.Audit{Cursor: b.auditCursor, Sampled: b.report.Audit.Sampled, Missed: b.report.Audit.Missed},
	}
	if v.mode == modeClaim {
		p.Trust = TrustAudited
	}
	if v.mode != modeFull {
		p.Extend(b.base, b.session.Branched, line)
		if v.mode == modeCompare { // the rolling audit goes on where it was
			p.Audit.Cursor = b.base.Audit.Cursor
		}
	}
	for _, l := range blockdiff.Normalize(b.lost) {
		p.Lost = append(p.Lost, chunkstore.VolumeRange(l))
		b.report.Unreadable += l.Length
	}
	s := b.session.Stats()
	p.Counts = chunkstore.PointCounts{
		Changed: b.changed.Load(), Read: b.source.BytesRead() - b.auditBytes.Load(), New: s.NewBytes,
		Cleaned: b.moved.Load(), Chunks: s.Chunks, NewChunks: s.NewChunks,
	}
	if err := b.session.Commit(ctx, p); err != nil {
		return nil, err
	}
	return p, b.journal.finish()
}

func (b *backup) fill(p *chunkstore.Point) {
	s := b.session.Stats()
	r := &b.report
	r.Point, r.Volume, r.Source, r.Reason, r.Trust = p.ID, p.Volume, p.Source, p.Reason, p.Trust
	if p.Base != nil {
		r.Base = p.Base.ID
	}
	r.VolumeBytes, r.ChangedBytes, r.MovedBytes = b.size, b.changed.Load(), b.moved.Load()
	r.AuditBytes = b.auditBytes.Load()
	r.ReadBytes = b.source.BytesRead() - r.AuditBytes
	r.NewBytes, r.Chunks, r.NewChunks = s.NewBytes, s.Chunks, s.NewChunks
	r.ShippedBytes = b.spent.ShippedBytes + s.ShippedBytes
	r.MetadataBytes = r.ShippedBytes - b.spent.DataBytes - s.DataBytes
}

func randomHex(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("draw an id: %w", err)
	}
	return hex.EncodeToString(b), nil
}
