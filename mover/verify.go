// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidemark-io/tidemark/chunkstore"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/index"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// VerifyOptions say how much to check.
type VerifyOptions struct {
	ReadData float64 // percent of the points' packs to read whole; 0: structure only
	Memory   int64   // bytes for the whole process; 0: DefaultMemory
	Seed     uint64  // of the choice of packs
	Now      func() time.Time
	Progress *Progress
}

// Problem is one thing that is wrong with the repository.
type Problem struct {
	Object string   `json:"object"`
	Offset int64    `json:"offset"`
	Detail string   `json:"detail"`
	Points []string `json:"points"` // ids of the points that suffer
}

// VerifyReport is what a verification ends with; the program prints it as JSON.
type VerifyReport struct {
	Points       int       `json:"points"`
	Nodes        int64     `json:"nodes"`  // of image maps, each counted once
	Chunks       int64     `json:"chunks"` // found in the index, once per leaf that names them
	Packs        int64     `json:"packs"`  // present, with the right size
	PacksRead    int64     `json:"packsRead"`
	FetchedBytes int64     `json:"fetchedBytes"`
	Problems     []Problem `json:"problems"`

	Seconds         float64 `json:"seconds"`
	CPUSeconds      float64 `json:"cpuSeconds"`
	PeakMemoryBytes int64   `json:"peakMemoryBytes"`
}

// ExitDamaged is the exit code of a verification that found problems.
const ExitDamaged = 3

// ExitCode is 0, or ExitDamaged where something is wrong.
func (r *VerifyReport) ExitCode() int {
	if len(r.Problems) > 0 {
		return ExitDamaged
	}
	return 0
}

// verify is one run.
type verify struct {
	repo     *chunkstore.Repository
	points   []*chunkstore.Point
	opt      VerifyOptions
	progress *Progress
	report   VerifyReport
	index    *index.Cache
	nodes    atomic.Int64
	chunks   atomic.Int64

	mu    sync.Mutex
	seen  map[chunk.ID]struct{}
	packs map[index.PackID]struct{}

	problems  map[problemPlace]*problem
	badNodes  map[chunk.ID]*problem
	badChunks map[chunk.ID]*problem
	badPacks  map[index.PackID]*problem
}

// problemPlace tells problems apart.
type problemPlace struct {
	object string
	offset int64
}

// problem is a Problem whose points are still being looked for.
type problem struct {
	Problem
	points map[string]bool
	// dormant problems count only if some point sees what they spoil: a map may
	// hold extents that newer ones hide, of packs that are gone for good reason.
	dormant bool
}

// Verify checks points and everything they need. It goes on after a problem;
// its error is only what kept it from looking. nil points are all retained ones.
func Verify(ctx context.Context, repo *chunkstore.Repository, points []*chunkstore.Point, opt VerifyOptions) (*VerifyReport, error) {
	v := &verify{
		repo: repo, points: points, opt: opt, progress: opt.Progress,
		seen: map[chunk.ID]struct{}{}, packs: map[index.PackID]struct{}{},
		problems: map[problemPlace]*problem{},
		badNodes: map[chunk.ID]*problem{}, badChunks: map[chunk.ID]*problem{}, badPacks: map[index.PackID]*problem{},
	}
	if opt.ReadData < 0 || opt.ReadData > 100 {
		return nil, fmt.Errorf("read %g percent of the packs: want 0 to 100", opt.ReadData)
	}
	if v.opt.Now == nil {
		v.opt.Now = time.Now //nolint:forbidigo // the default clock
	}
	if v.progress == nil {
		v.progress = new(Progress)
	}
	plan, err := planRestore(opt.Memory, maxChunkOf(repo))
	if err != nil {
		return nil, err
	}
	began, got := startUsage(v.opt.Now()), repo.Meter().Counts().GetBytes
	if err := v.run(ctx, plan); err != nil {
		return nil, err
	}
	v.finish()
	v.report.FetchedBytes = repo.Meter().Counts().GetBytes - got
	v.report.Seconds, v.report.CPUSeconds = began.seconds(v.opt.Now())
	v.report.PeakMemoryBytes = peakMemory()
	return &v.report, nil
}

func (v *verify) run(ctx context.Context, plan restorePlan) error {
	v.progress.enter("checking records", 0)
	if err := v.readPoints(ctx); err != nil {
		return err
	}
	if err := v.records(ctx); err != nil {
		return err
	}
	var err error
	if v.index, err = v.repo.Index(ctx); err != nil {
		if isDamage(err) { // reported with the records; nothing can be found without
			v.found(err, v.all())
			return nil
		}
		return err
	}
	v.progress.enter("checking image maps", 0)
	if err := v.maps(ctx); err != nil {
		return err
	}
	v.progress.enter("checking packs", 0)
	if err := v.presence(ctx); err != nil {
		return err
	}
	if v.opt.ReadData > 0 {
		if err := v.readPacks(ctx, plan); err != nil {
			return err
		}
	}
	return v.blame(ctx)
}

// readPoints finds all points where none were given. One that can't be read is
// reported with the records.
func (v *verify) readPoints(ctx context.Context) error {
	if v.points == nil {
		metas, err := v.repo.Retained(ctx, "")
		if err != nil {
			return err
		}
		for _, m := range metas {
			p, err := v.repo.ReadPoint(ctx, m)
			switch {
			case err == nil:
				v.points = append(v.points, p)
			case !isDamage(err):
				return err
			}
		}
	}
	v.report.Points = len(v.points)
	return nil
}

func (v *verify) records(ctx context.Context) error {
	return v.repo.CheckRecords(ctx, func(object string, err error) {
		var suffer []string
		var session uint64
		if _, serr := fmt.Sscanf(object, "sessions/%d/", &session); serr == nil {
			for _, p := range v.points {
				if p.Session == session {
					suffer = append(suffer, p.ID)
				}
			}
		} else if id, ok := pointOf(object); ok {
			suffer = []string{id}
		} else {
			suffer = v.all()
		}
		v.found(err, suffer)
	})
}

// pointOf gives the id of the point that an object is.
func pointOf(object string) (id string, ok bool) {
	var volume string
	n, _ := fmt.Sscanf(object, "points/%32s/%32s", &volume, &id)
	return id, n == 2
}

func (v *verify) all() []string {
	ids := make([]string, len(v.points))
	for i, p := range v.points {
		ids[i] = p.ID
	}
	return ids
}

// found records a problem, one for each object and offset.
func (v *verify) found(err error, points []string) *problem {
	n := &problem{Problem: Problem{Detail: err.Error()}, points: map[string]bool{}}
	var bad *seal.CorruptError
	var node *imagemap.CorruptError
	var gone *chunkstore.MissingChunkError
	switch {
	case errors.As(err, &bad):
		n.Object, n.Offset, n.Detail = bad.Object, bad.Offset, bad.Detail
	case errors.As(err, &node):
		n.Object, n.Offset, n.Detail = "image map node "+node.Node.String(), node.Offset, node.Detail
	case errors.As(err, &gone):
		n.Object, n.Detail = "chunk "+gone.ID.String(), "is in no index"
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	at := problemPlace{n.Object, n.Offset}
	if known := v.problems[at]; known != nil {
		n = known
	} else {
		v.problems[at] = n
	}
	for _, id := range points {
		n.points[id] = true
	}
	return n
}

// maps walks the trees of all points, each node once, several at a time.
func (v *verify) maps(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * runtime.GOMAXPROCS(0))
	for _, p := range v.points {
		for _, n := range p.Map.Roots() {
			g.Go(func() error { return v.node(ctx, g, n) })
		}
	}
	return g.Wait()
}

// node checks one node and what is below it.
func (v *verify) node(ctx context.Context, g *errgroup.Group, n imagemap.Node) error {
	v.mu.Lock()
	_, known := v.seen[n.ID()]
	v.seen[n.ID()] = struct{}{}
	v.mu.Unlock()
	if known {
		return nil
	}
	v.nodes.Add(1)
	loc, err := v.repo.Locate(ctx, n.ID())
	if err == nil {
		v.needs(loc.Pack)
		leaf := leafCheck{v: v}
		err = imagemap.Visit(ctx, v.repo, n, func(c imagemap.Node) error {
			if g.TryGo(func() error { return v.node(ctx, g, c) }) {
				return nil
			}
			return v.node(ctx, g, c)
		}, func(e imagemap.Extent) error { return leaf.extent(ctx, &e) })
		err = sealedStrangely(loc.Pack, err)
	}
	if !badNode(err) {
		return err
	}
	p := v.found(err, nil)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.badNodes[n.ID()] = p
	return nil
}

func badNode(err error) bool {
	var node *imagemap.CorruptError
	return isDamage(err) || errors.As(err, &node) || errors.Is(err, seal.ErrUnknownKey) || errors.Is(err, seal.ErrNewerVersion)
}

// sealedStrangely makes damage of a pack whose header asks for a key or a
// program that there is none of: the repository's other objects opened.
func sealedStrangely(id index.PackID, err error) error {
	if errors.Is(err, seal.ErrUnknownKey) || errors.Is(err, seal.ErrNewerVersion) {
		return &seal.CorruptError{Object: id.Name(), Detail: err.Error()}
	}
	return err
}

func (v *verify) needs(p index.PackID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.packs[p] = struct{}{}
}

// leafCheck checks the extents of a leaf, which come chunk by chunk, mostly.
type leafCheck struct {
	v     *verify
	last  index.Location
	known bool
	bad   chunk.ID
}

func (l *leafCheck) extent(ctx context.Context, e *imagemap.Extent) error {
	if e.Hole || e.Chunk == l.bad {
		return nil
	}
	if !l.known || l.last.ID != e.Chunk {
		loc, err := l.v.repo.Locate(ctx, e.Chunk)
		if _, gone := errors.AsType[*chunkstore.MissingChunkError](err); gone {
			l.bad = e.Chunk
			l.v.missing(e.Chunk, err)
			return nil
		}
		if err != nil {
			return err
		}
		if !l.known || l.last.Pack != loc.Pack {
			l.v.needs(loc.Pack)
		}
		l.last, l.known = loc, true
		l.v.chunks.Add(1)
	}
	if end := int64(e.ChunkOff) + e.Len; end > int64(l.last.Plain) {
		return &seal.CorruptError{Object: "an image map", Offset: e.Off, Detail: fmt.Sprintf("maps %d bytes of chunk %s, which has %d", end, e.Chunk.Short(), l.last.Plain)}
	}
	return nil
}

func (v *verify) missing(id chunk.ID, err error) {
	p := v.found(err, nil)
	v.mu.Lock()
	defer v.mu.Unlock()
	p.dormant = true
	v.badChunks[id] = p
}

// finish turns what was found into the report.
func (v *verify) finish() {
	v.report.Nodes, v.report.Chunks = v.nodes.Load(), v.chunks.Load()
	v.report.Problems = []Problem{}
	for _, p := range v.problems {
		if p.dormant && len(p.points) == 0 {
			continue
		}
		p.Points = []string{}
		for _, q := range v.points {
			if p.points[q.ID] {
				p.Points = append(p.Points, q.ID)
				delete(p.points, q.ID)
			}
		}
		for id := range p.points { // that could not be read
			p.Points = append(p.Points, id)
		}
		v.report.Problems = append(v.report.Problems, p.Problem)
	}
	slices.SortFunc(v.report.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Offset, b.Offset))
	})
}
