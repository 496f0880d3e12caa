// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/imagemap"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// records are one full value of each kind of record. Their JSON is the format:
// a change of a golden file is a change of the format.
func records() map[string]any {
	at := time.Date(2026, 11, 22, 10, 0, 0, 123000000, time.UTC)
	ref := func(name string) ObjectRef {
		return ObjectRef{Name: name, Digest: hexID(0xd1) + hexID(0xd2), Size: 321}
	}
	pin := &PointRef{ID: hexID(0xaa), Session: 3}
	meta := PointMeta{ObjectRef: ref("points/" + hexID(0xbb) + "/" + hexID(0xcc)), ID: hexID(0xcc), Volume: "db", Base: hexID(0xaa), Created: at}
	outcome := OutcomeRecord{
		Session: 4, Nonce: hexID(0x11), State: StateCommitted, Points: []PointMeta{meta},
		Segments: []Segment{{ref("index/0000000004/000000-" + hexID(1) + hexID(2))}}, Packs: 2, Bytes: 4096, Epochs: 1, Finished: at,
	}
	usage := VolumeUsage{Stored: 100, Needed: 80, Newest: 60, Pinned: 90, Packs: []PackUsage{{Name: "packs/0000000004/000000-" + hexID(1) + hexID(2), Stored: 100, Live: 80, Newest: 60, Shared: true}}}
	catalogue, usageRef := ref("gc/catalogue/x"), ref("gc/usage/x")
	tree := func(b byte) imagemap.Ref {
		return imagemap.Ref{Root: chunk.ID(bytes.Repeat([]byte{b}, 32)), Height: 1, Extents: 5, Bytes: 20480, Stored: 200}
	}
	return map[string]any{
		"open":          SessionRecord{Session: 4, Nonce: hexID(0x11), Volume: "db", Domain: "tenant", Base: pin, Host: "host", Program: "tidemark 1", Started: at},
		"outcome":       outcome,
		"outcome-least": OutcomeRecord{Session: 5, Nonce: hexID(0x12), State: StateFenced, Finished: at},
		"epoch":         EpochRecord{Epoch: 1, Created: at, Condemned: []ObjectRef{ref("gc/condemned/x")}, Catalogue: &catalogue, Watermark: 5, Usage: &usageRef},
		"condemned":     CondemnedRecord{Packs: []string{"packs/0000000001/000000-" + hexID(3) + hexID(4)}},
		"catalogue":     CatalogueRecord{Watermark: 5, Outcomes: []OutcomeRecord{outcome}},
		"usage":         UsageRecord{Volumes: map[string]VolumeUsage{hexID(0xbb): usage}},
		"tombstone":     TombstoneRecord{Point: *pin, Reason: "expired", Created: at},
		"point": Point{
			ID: hexID(0xcc), Session: 4, Volume: "db", Domain: "tenant", Created: at, Snapshot: "snap-1", Size: 1 << 30, Tags: map[string]string{"k": "v"},
			Base: pin, Line: "0011223344556677", Ancestry: []Ancestor{{Line: "8899aabbccddeeff", Upto: 2}},
			Map:  imagemap.Map{Size: 1 << 30, Birth: 1, Base: tree(1), Runs: []imagemap.Ref{tree(2)}},
			Root: hexID(0xee) + hexID(0xef), Source: "given", Reason: "a list was given", Trust: "audited", Chunker: "rabin", Digests: 65536,
			Lost: []VolumeRange{{Offset: 4096, Length: 4096}}, Skipped: []VolumeRange{{Offset: 8192, Length: 4096}},
			Audit: Audit{Cursor: 1, Sampled: 2, Missed: 3}, Counts: PointCounts{Changed: 1, Read: 2, New: 3, Data: 4, Mapped: 5, Cleaned: 6, Chunks: 7, NewChunks: 8},
		},
	}
}

func TestGoldenRecords(t *testing.T) {
	for name, v := range records() {
		t.Run(name, func(t *testing.T) {
			plain, err := json.MarshalIndent(v, "", "  ")
			must(t, err)
			golden(t, "record-"+name+".json", append(plain, '\n'))
			back := reflect.New(reflect.TypeOf(v))
			must(t, json.Unmarshal(plain, back.Interface()))
			if d := gocmp.Diff(v, back.Elem().Interface()); d != "" {
				t.Errorf("it does not come back (-want +got):\n%s", d)
			}
		})
	}
}

// No field of a full record is left at its zero value, or the goldens would say
// nothing of it.
func TestGoldenRecordsAreFull(t *testing.T) {
	for name, v := range records() {
		if name == "outcome-least" {
			continue
		}
		for i := range reflect.TypeOf(v).NumField() {
			if f := reflect.TypeOf(v).Field(i); reflect.ValueOf(v).Field(i).IsZero() {
				t.Errorf("%s: field %s is not in its golden file", name, f.Name)
			}
		}
	}
}

func TestGoldenConfig(t *testing.T) {
	c := Config{Version: 1, ID: hexID(0xab), Created: fixedClock()(), Chunker: DefaultChunker, Features: []string{}}
	data, err := json.MarshalIndent(c, "", "  ")
	must(t, err)
	golden(t, "config.json", append(data, '\n'))
	if _, err := decodeConfig(data); err != nil {
		t.Error(err)
	}
}

// Fields that a later minor change may add are no damage to this reader.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	sealed, err := r.keyring.SealRecord(r.config.repoID(), "x", []byte(`{"session":7,"news":{"a":[1]}}`))
	must(t, err)
	var o OutcomeRecord
	if err := r.openRecord("x", sealed, &o); err != nil || o.Session != 7 {
		t.Errorf("%+v, %v", o, err)
	}
}

// FuzzRecords feeds authentic records of hostile content to what reads them.
func FuzzRecords(f *testing.F) {
	for _, v := range records() {
		plain, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
	}
	for _, s := range []string{"", "null", "[]", "{}", "[null]", `{"session":-1}`, `{"points":[null]}`, `{"size":-1,"map":{"size":-1}}`, `{"map":{"runs":[null,{}]}}`} {
		f.Add([]byte(s))
	}
	s := mem.New()
	if _, err := Init(f.Context(), s, passphrase, InitOptions{KDF: cheapKDF}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		s := s.Clone()
		r, err := tryOpen(t.Context(), s, "")
		must(t, err)
		defer r.Close()
		raw := func(name string) ObjectRef {
			data, err := r.keyring.SealRecord(r.config.repoID(), name, plain)
			must(t, err)
			put(t, s, name, string(data))
			return refOf(name, data)
		}
		raw(sessionName(0))
		raw(outcomeName(0))
		point := PointMeta{ObjectRef: raw("points/x"), ID: hexID(1), Volume: "v"}
		if p, err := r.ReadPoint(t.Context(), point); err == nil {
			_, _ = read(t.Context(), r, &Point{Size: min(p.Size, 1<<20), Map: p.Map})
		}
		_, _ = r.readOpen(t.Context(), 0)
		catalogue, usage := raw("gc/catalogue/x"), raw("gc/usage/x")
		condemned := raw("gc/condemned/x")
		for _, e := range []*EpochRecord{{Condemned: []ObjectRef{condemned}}, {Catalogue: &catalogue, Usage: &usage, Watermark: 5}} {
			if v, err := r.readView(t.Context(), e); err == nil {
				r.enterEpoch(v)
			}
		}
		_, _ = r.Usage(t.Context(), "v")
		raw(epochName(0))
		_ = r.Refresh(t.Context())
		_, _ = r.Index(t.Context())
		_, _ = r.Points(t.Context(), "")
	})
}

func FuzzConfig(f *testing.F) {
	c, err := json.Marshal(Config{Version: 1, ID: hexID(1), Chunker: DefaultChunker, Features: []string{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c)
	for _, s := range []string{"", "{}", "null", `{"version":2}`, `{"version":1,"features":["x"]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeConfig(data)
		if err != nil {
			return
		}
		if c.Version != FormatVersion || len(c.Features) > 0 || c.Chunker.Validate() != nil || c.repoID() == [16]byte{} && c.ID != hexID(0) {
			t.Errorf("%+v is accepted", c)
		}
	})
}
