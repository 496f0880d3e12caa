// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// newChunks backs data up in full and tells how many chunks were stored.
func newChunks(t testing.TB, r *Repository, data []byte) (p *Point, n int64) {
	t.Helper()
	p = backup{repo: r, volume: "w", data: data, ready: func(s *Session, _ *Point) error {
		n = s.Stats().NewChunks
		return nil
	}}.must(t)
	return p, n
}

func TestCondemnedPacks(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	data := noise(1, 4*testChunk)
	want := history{}
	want[backup{repo: r, volume: "v", data: data}.must(t).ID] = data
	collector := openRepo(t, s, "")
	condemn(t, collector, 0, packNames(s)...)

	// Absent for a writer that has the repository open already, nodes too.
	p, n := newChunks(t, r, data)
	want[p.ID] = data
	if n != 4 {
		t.Fatalf("%d chunks stored again, want 4", n)
	}
	// Readers still get what lies in condemned packs only.
	want.checkIn(t, r)
	want.check(t, s)
	for _, loc := range locations(t, r, data) {
		if loc.session != 1 {
			t.Errorf("a chunk is found in a condemned pack of session %d though another has it", loc.session)
		}
	}
	// The second copy counts for writers.
	p, n = newChunks(t, r, data)
	want[p.ID] = data
	if n != 0 {
		t.Errorf("%d chunks stored a third time", n)
	}
	// The condemned packs can go; what was stored since stands alone.
	for _, name := range packNames(s) {
		if k, err := parsePackKey(name); err == nil && k.session == 0 {
			del(t, s, name)
		}
	}
	points := openRepo(t, s, "").Metas("w")
	fresh := openRepo(t, s, "")
	for _, m := range points {
		p, err := fresh.ReadPoint(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(t.Context(), fresh, p); err != nil || !bytes.Equal(got, data) {
			t.Errorf("point %.8s: %v", p.ID, err)
		}
	}
	// And packs that an epoch takes back count again.
	putRecord(t, collector, epochName(1), EpochRecord{Epoch: 1})
	if err := r.Refresh(t.Context()); err != nil || len(r.condemned) != 0 {
		t.Errorf("%d packs stay condemned (%v)", len(r.condemned), err)
	}
}

func locations(t testing.TB, r *Repository, data []byte) (out []packKey) {
	t.Helper()
	for off := 0; off < len(data); off += testChunk {
		loc, err := r.Locate(t.Context(), idOf(r, data[off:off+testChunk]))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, keyOf(&loc.Pack))
	}
	return out
}

// A list of condemned packs that can't be read once is read the next time, and
// nothing is stored in between that relies on it.
func TestEpochIsEnteredWholeOrNot(t *testing.T) {
	for _, object := range []string{"gc/condemned/0", epochName(1)} {
		s := mem.New()
		initRepo(t, s)
		data := noise(1, 2*testChunk)
		backup{repo: openRepo(t, s, ""), volume: "v", data: data}.must(t)
		f := wrapFault(t, s, "get "+object+" nth=1 error=retryable")
		r := openRepo(t, f, "")
		condemn(t, openRepo(t, s, ""), 0, packNames(s)...)
		failed := 0
		for range 3 {
			if r.Refresh(t.Context()) != nil {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%s: %d refreshes fail, want 1", object, failed)
		}
		if _, n := newChunks(t, r, data); n != 2 {
			t.Errorf("%s: %d chunks stored, want 2: the condemned packs were used", object, n)
		}
	}
}

// publish folds everything below a watermark as a collector does.
func publish(t testing.TB, r *Repository, epoch, watermark uint64, outcomes ...OutcomeRecord) {
	t.Helper()
	ref := putRecord(t, r, fmt.Sprintf("gc/catalogue/%d", epoch), CatalogueRecord{Watermark: watermark, Outcomes: outcomes})
	putRecord(t, r, epochName(epoch), EpochRecord{Epoch: epoch, Watermark: watermark, Catalogue: &ref})
}

func outcomeOf(t testing.TB, r *Repository, n uint64) OutcomeRecord {
	t.Helper()
	o, err := r.readOutcome(t.Context(), n)
	if err != nil || o == nil {
		t.Fatalf("outcome %d: %v, %v", n, o, err)
	}
	return *o
}

func TestCatalogue(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	cache := t.TempDir()
	want := history{}
	var points []*Point
	for i := range uint64(3) {
		data := noise(i, testChunk)
		p := backup{repo: r, volume: "v", data: data}.must(t)
		points = append(points, p)
		want[p.ID] = data
	}
	old := openRepo(t, s, cache) // knows the outcomes from their objects
	if _, err := old.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	// Session 3 never ends; the collector fences it. Point 1 was collected: the
	// catalogue no longer has its session.
	slow, err := openRepo(t, s, "").Begin(t.Context(), SessionOptions{Volume: "v"})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	publish(t, r, 0, 4, outcomeOf(t, r, 0), outcomeOf(t, r, 2), OutcomeRecord{Session: 3, Nonce: hexID(9), State: StateFenced})
	delete(want, points[1].ID)

	// An outcome object under a folded number is void, whoever wrote it when.
	putRecord(t, r, outcomeName(3), &OutcomeRecord{Session: 3, Nonce: slow.Nonce(), State: StateCommitted, Points: []PointMeta{{ID: hexID(3), Volume: "v"}}})
	want.check(t, s)
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	want.checkIn(t, r)

	// The local index of the one that knew more forgets the segment that went.
	again := openRepo(t, s, cache)
	want.checkIn(t, again)
	if _, known, err := again.find(t.Context(), idOf(again, noise(1, testChunk)), true); known || err != nil {
		t.Errorf("a chunk of a collected session is known: %v, %v", known, err)
	}
	// Folded objects may go; numbers go on behind the watermark.
	for n := range uint64(4) {
		del(t, del(t, s, outcomeName(n)), sessionName(n))
	}
	want.check(t, s)
	data := noise(7, testChunk)
	p := backup{repo: openRepo(t, s, ""), volume: "v", data: data}.must(t)
	want[p.ID] = data
	if p.Session != 4 {
		t.Errorf("the next session is %d, want 4", p.Session)
	}
	want.check(t, s)
}

// The collector fences a sleeping session, folds its number and removes its own
// outcome. Only then does the writer wake up: its outcome can be created, and
// must not count.
func TestVoidOutcome(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	collector := openRepo(t, s, "")
	data := noise(1, testChunk)
	b := backup{repo: r, volume: "v", data: data, ready: func(*Session, *Point) error {
		fence(t, collector, 0)
		publish(t, collector, 0, 1, outcomeOf(t, collector, 0))
		del(t, s, outcomeName(0))
		return nil
	}}
	if _, err := b.run(t.Context()); !errors.Is(err, ErrFenced) {
		t.Fatalf("%v, want %v", err, ErrFenced)
	}
	if there, _ := exists(t.Context(), s, outcomeName(0)); !there {
		t.Fatal("the outcome was not created: this test shows nothing")
	}
	history{}.check(t, s)
	history{}.checkIn(t, r)
}

// A commit that the collector folds before the writer looks counts.
func TestFoldedCommitCounts(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	collector := openRepo(t, s, "")
	rec := &recorder{Store: s}
	r := openRepo(t, rec, "")
	data := noise(1, testChunk)
	b := backup{repo: r, volume: "v", data: data, ready: func(*Session, *Point) error {
		rec.hook = func(op, name string) {
			if op == "get" && name == epochName(0) {
				rec.hook = nil
				publish(t, collector, 0, 1, outcomeOf(t, collector, 0))
				del(t, s, outcomeName(0))
			}
		}
		return nil
	}}
	history{b.must(t).ID: data}.check(t, s)
	if rec.hook != nil {
		t.Error("nothing was folded")
	}
}

// A process that slept wins a number that was folded meanwhile and its open
// record removed; the session goes on under one that counts.
func TestBeginUnderFoldedNumber(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	slow := openRepo(t, s, "")
	r := openRepo(t, s, "")
	var outcomes []OutcomeRecord
	for n := range uint64(5) {
		backup{repo: r, volume: "v", data: noise(n, testChunk)}.must(t)
		outcomes = append(outcomes, outcomeOf(t, r, n))
		del(t, del(t, s, sessionName(n)), outcomeName(n))
	}
	publish(t, r, 0, 5, outcomes...)
	data := noise(9, testChunk)
	p := backup{repo: slow, volume: "w", data: data}.must(t)
	if p.Session < 5 {
		t.Errorf("session %d is below the watermark", p.Session)
	}
	fresh := openRepo(t, s, "")
	if got := fresh.Metas("w"); len(got) != 1 || got[0].ID != p.ID {
		t.Errorf("points of w: %v", got)
	}
}

func TestResumeOfFoldedSession(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	session, err := r.Begin(t.Context(), SessionOptions{Volume: "v"})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	fence(t, r, 0)
	publish(t, r, 0, 1, outcomeOf(t, r, 0))
	del(t, del(t, s, sessionName(0)), outcomeName(0))
	if _, err := openRepo(t, s, "").Resume(t.Context(), 0, session.Nonce(), SessionOptions{Volume: "v"}, nil); !errors.Is(err, ErrDecided) {
		t.Errorf("%v, want %v", err, ErrDecided)
	}
}

func TestSenselessEpochs(t *testing.T) {
	committed := OutcomeRecord{Session: 0, State: StateCommitted}
	tests := []struct {
		name   string
		object string
		write  func(t *testing.T, r *Repository)
	}{
		{"other number", epochName(0), func(t *testing.T, r *Repository) { putRecord(t, r, epochName(0), EpochRecord{Epoch: 1}) }},
		{"watermark without catalogue", epochName(0), func(t *testing.T, r *Repository) { putRecord(t, r, epochName(0), EpochRecord{Watermark: 1}) }},
		{"watermark falls", epochName(1), func(t *testing.T, r *Repository) {
			publish(t, r, 0, 1, committed)
			if err := r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			putRecord(t, r, epochName(1), EpochRecord{Epoch: 1})
		}},
		{"outcome above the watermark", "gc/catalogue/0", func(t *testing.T, r *Repository) { publish(t, r, 0, 0, committed) }},
		{"outcomes out of order", "gc/catalogue/0", func(t *testing.T, r *Repository) { publish(t, r, 0, 2, committed, committed) }},
		{"unknown state", "gc/catalogue/0", func(t *testing.T, r *Repository) { publish(t, r, 0, 2, OutcomeRecord{State: "maybe"}) }},
		{"no pack name", "gc/condemned/0", func(t *testing.T, r *Repository) { condemn(t, r, 0, "packs/x") }},
		{"outcome of another session", outcomeName(0), func(t *testing.T, r *Repository) {
			putRecord(t, r, sessionName(0), &SessionRecord{})
			putRecord(t, r, outcomeName(0), &OutcomeRecord{Session: 4, State: StateFenced})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mem.New()
			initRepo(t, s)
			r := openRepo(t, s, "")
			tt.write(t, r)
			must(t, r.Refresh(t.Context())) // what is good can be read
			wantDamaged(t, r, tt.object)
			if strings.HasPrefix(tt.object, "sessions/") {
				return
			}
			before := len(s.Objects())
			_, err := r.Begin(t.Context(), SessionOptions{Volume: "v"})
			wantCorrupt(t, err, tt.object)
			wantCorrupt(t, r.PublishUsage(t.Context(), &UsageRecord{}), tt.object)
			if n := len(s.Objects()); n > before+1 { // the list of usage
				t.Errorf("%d objects were created", n-before)
			}
		})
	}
}

// Collectors that publish at once all succeed, each on top of the one before,
// and none takes back what was condemned.
func TestPublishUsageRaces(t *testing.T) {
	const collectors = 16
	s := mem.New()
	initRepo(t, s)
	first := openRepo(t, s, "")
	data := noise(1, 4*testChunk)
	p := backup{repo: first, volume: "v", data: data}.must(t)
	packs := packNames(s)
	condemn(t, first, 0, packs...)
	publish(t, first, 1, 1, outcomeOf(t, first, 0))
	ref := func(name string) ObjectRef {
		data, err := objstore.ReadAll(t.Context(), s, name, maxRecordSize)
		if err != nil {
			t.Fatal(err)
		}
		return refOf(name, data)
	}
	catalogue := ref("gc/catalogue/1")
	putRecord(t, first, epochName(2), EpochRecord{Epoch: 2, Watermark: 1, Catalogue: &catalogue, Condemned: []ObjectRef{ref("gc/condemned/0")}})
	if err := first.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	u, err := first.Survey(t.Context(), []*Point{p})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range collectors {
		r := first
		if i%2 == 0 {
			r = openRepo(t, s, "")
		}
		wg.Go(func() {
			if err := r.PublishUsage(t.Context(), u); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r := openRepo(t, s, "")
	if r.epochs != 3+collectors || len(r.condemned) != len(packs) || r.watermark() != 1 {
		t.Errorf("%d epochs, %d condemned packs, watermark %d", r.epochs, len(r.condemned), r.watermark())
	}
	got, err := r.Usage(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	want := u.Volumes[r.VolumeKey("v")]
	if d := gocmp.Diff(&want, got); d != "" {
		t.Errorf("usage (-want +got):\n%s", d)
	}
	history{p.ID: data}.checkIn(t, r)
}

// A usage that was stored but reported otherwise does no harm.
func TestPublishUsageLostAnswers(t *testing.T) {
	for _, script := range []string{"put gc/epochs/* nth=1 taken", "put gc/epochs/* nth=1 lost", "put gc/usage/* nth=1 lost", "put gc/epochs/* error=exists"} {
		s := mem.New()
		initRepo(t, s)
		r := openRepo(t, wrapFault(t, s, script), "")
		_ = r.PublishUsage(t.Context(), &UsageRecord{}) // may fail; must end
		fresh := openRepo(t, s, "")
		if err := fresh.PublishUsage(t.Context(), &UsageRecord{Volumes: map[string]VolumeUsage{fresh.VolumeKey("v"): {Stored: 7}}}); err != nil {
			t.Errorf("%s: %v", script, err)
		}
		if u, err := fresh.Usage(t.Context(), "v"); err != nil || u == nil || u.Stored != 7 {
			t.Errorf("%s: %v, %v", script, u, err)
		}
	}
}

// A survey's figures are those of the bytes that points map.
func TestSurvey(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	data := noise(1, 8*testChunk)
	base := backup{repo: r, volume: "v", data: data}.must(t)
	next := backup{repo: r, volume: "v", base: base, old: data, data: edited(data, 5, 0, 1, 2, 3)}.must(t)
	all, err := r.Survey(t.Context(), []*Point{base, next})
	if err != nil {
		t.Fatal(err)
	}
	v := all.Volumes[r.VolumeKey("v")]
	if v.Stored == 0 || v.Needed > v.Stored || v.Newest > v.Needed || v.Needed < v.Stored*9/10 {
		t.Errorf("with all points: %+v", v)
	}
	last, err := r.Survey(t.Context(), []*Point{next})
	if err != nil {
		t.Fatal(err)
	}
	w := last.Volumes[r.VolumeKey("v")]
	// One chunk of eight is wholly overwritten: its bytes are dead.
	if dead := v.Needed - w.Needed; w.Stored != v.Stored || dead < testChunk/2 || dead > testChunk*3/2 {
		t.Errorf("with the newest point: %+v, dead %d", w, dead)
	}
	other := backup{repo: r, volume: "shares", data: data[testChunk : 3*testChunk]}.must(t)
	both, err := r.Survey(t.Context(), []*Point{next, other})
	if err != nil {
		t.Fatal(err)
	}
	shared := 0
	for _, v := range both.Volumes {
		for _, p := range v.Packs {
			if p.Shared {
				shared++
			}
		}
	}
	if shared == 0 {
		t.Errorf("no pack is shared: %+v", both)
	}
}
