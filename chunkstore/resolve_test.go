// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
)

// inZone makes times without a zone mean those of a place for one test.
func inZone(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Skipf("no time zones on this machine: %v", err)
	}
	old := time.Local
	time.Local = zone
	t.Cleanup(func() { time.Local = old })
	return zone
}

func meta(volume, id string, at time.Time) PointMeta {
	return PointMeta{ID: id + strings.Repeat("0", 32-len(id)), Volume: volume, Created: at}
}

func TestResolve(t *testing.T) {
	zone := inZone(t, "Europe/Berlin")
	at := func(s string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04:05.999", s, zone)
		if err != nil {
			t.Fatal(err)
		}
		return v.UTC()
	}
	metas := []PointMeta{
		meta("db", "a1", at("2026-03-28 23:30:00")), // the night of 28 March loses an hour:
		meta("db", "a2", at("2026-03-29 01:59:59")), // 02:00 is 03:00
		meta("db", "a3", at("2026-03-29 23:30:00")),
		meta("db", "a4", at("2026-03-30 00:30:00")),
		meta("web@prod", "b1", at("2026-11-22 10:00:00")),
		meta("web@prod", "b2", at("2026-11-22 10:00:59.999")),
		meta("web@prod", "b3", at("2026-11-22 10:01:00")),
		meta("", "ab", at("2026-11-22 10:01:00")),
	}
	tests := []struct{ spec, want string }{ // an id, or a part of the error
		{"a1", "a1"},
		{"A1", "a1"},
		{"a10000", "a1"},
		{"b", "beginning of 3 ids"},
		{"a", "beginning of 5 ids"},
		{"c", "no beginning"},
		{"", "no beginning"},
		{"a1" + strings.Repeat("0", 31), "no beginning"},
		{"db@latest", "a4"},
		{"db@-0", "a4"},
		{"db@-1", "a3"},
		{"db@-3", "a1"},
		{"db@-4", "reaches the oldest"},
		{"db@-9223372036854775808", "reaches the oldest"},
		{"db@-99999999999999999999999", "reaches the oldest"},
		{"db@--1", "no number"},
		{"db@-", "no number"},
		{"db@-x", "no number"},
		{"db@1", "no time"},
		{"db@", "no time"},
		{"db@Latest", "no time"},
		{"other@latest", "has none"},
		{"@latest", "ab"},
		{"@", "no time"},
		{"web@prod@latest", "b3"},
		{"web@prod", `volume "web" has none`},
		// A date is its whole day, which is 23 hours long on 29 March.
		{"db@2026-03-29", "a3"},
		{"db@2026-03-28", "a1"},
		{"db@2026-03-30", "a4"},
		{"db@2026-03-27", "the oldest of volume"},
		{"db@2099-01-01", "a4"},
		{"db@2026-03-29T01:59", "a2"},
		{"db@2026-03-29T01:58", "a1"},
		{"db@2026-03-29T01:59:58", "a1"},
		{"db@2026-03-29T01:59:59", "a2"},
		{"db@2026-03-29T02:30", "a2"}, // a time that the clocks skipped
		// With a zone.
		{"db@2026-03-29T00:59Z", "a2"},
		{"db@2026-03-29T00:58Z", "a1"},
		{"db@2026-03-29T00:59:59Z", "a2"},
		{"db@2026-03-29T02:59:59+02:00", "a2"},
		{"db@2026-03-28T19:30-03:00", "a1"},
		// To the minute, the second, the millisecond.
		{"web@prod@2026-11-22T10:00", "b2"},
		{"web@prod@2026-11-22T10:00:00", "b1"},
		{"web@prod@2026-11-22T10:00:59", "b2"},
		{"web@prod@2026-11-22T10:00:59.999", "b2"},
		{"web@prod@2026-11-22T10:00:59.998", "b1"},
		{"web@prod@2026-11-22T10:01", "b3"},
		{"web@prod@2026-11-22T09:59:59", "the oldest"},
		{"db@2026-03", "no time"},
		{"db@2026-13-01", "no time"},
		{"db@10:00", "no time"},
		{"db@2026-03-29 01:59", "no time"},
	}
	for _, tt := range tests {
		t.Run(tt.spec, func(t *testing.T) {
			m, err := resolve(metas, tt.spec)
			switch {
			case err == nil && !strings.HasPrefix(m.ID, tt.want+"0"):
				t.Errorf("%.4s, want %s", m.ID, tt.want)
			case err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// The hour that comes twice in autumn: whichever of them is meant, what was made
// before both is found, and nothing made after both.
func TestResolveInDoubleHour(t *testing.T) {
	inZone(t, "Europe/Berlin")
	metas := []PointMeta{
		meta("db", "a1", time.Date(2026, 10, 24, 23, 59, 0, 0, time.UTC)),
		meta("db", "a2", time.Date(2026, 10, 25, 1, 31, 0, 0, time.UTC)), // 02:31 winter time
	}
	m, err := resolve(metas, "db@2026-10-25T02:30")
	if err != nil || !strings.HasPrefix(m.ID, "a1") {
		t.Errorf("%.4s, %v", m.ID, err)
	}
	if m, err := resolve(metas, "db@2026-10-25"); err != nil || !strings.HasPrefix(m.ID, "a2") {
		t.Errorf("%.4s, %v", m.ID, err)
	}
}

func TestResolveInRepository(t *testing.T) {
	s := mem.New()
	initRepo(t, s)
	r := openRepo(t, s, "")
	if _, err := r.Resolve(t.Context(), "v@latest"); !errors.Is(err, ErrNoPoint) {
		t.Errorf("%v, want %v", err, ErrNoPoint)
	}
	if p, err := r.Latest(t.Context(), "v"); p != nil || err != nil {
		t.Errorf("latest of nothing: %v, %v", p, err)
	}
	var points []*Point
	for i := range uint64(3) {
		points = append(points, backup{repo: r, volume: "v", data: noise(i, testChunk)}.must(t))
	}
	resolve := func(spec string, want *Point) {
		t.Helper()
		if p, err := r.Resolve(t.Context(), spec); err != nil || p.ID != want.ID {
			t.Errorf("%s: %v, %v", spec, p, err)
		}
	}
	resolve("v@latest", points[2])
	resolve("v@-2", points[0])
	resolve(points[1].ID, points[1])
	must(t, r.Forget(t.Context(), PointRef{ID: points[2].ID, Session: points[2].Session}, "test"))
	must(t, r.Forget(t.Context(), PointRef{ID: points[2].ID, Session: points[2].Session}, "again"))
	resolve("v@latest", points[1])
	if _, err := r.Resolve(t.Context(), points[2].ID); !errors.Is(err, ErrNoPoint) {
		t.Errorf("a forgotten point: %v, want %v", err, ErrNoPoint)
	}
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"", "@", "a", "v@latest", "v@-1", "v@-9223372036854775808", "v@2026-11-22T10:00", "v@2026-11-22T10:00:00.5+01:00", "v@9999-12-31", "v@0000-01-01", "a@b@2026-01-01"} {
		f.Add(s)
	}
	metas := []PointMeta{meta("v", "ab", time.Unix(0, 0)), meta("v", "ac", time.Unix(1e9, 0)), meta("a@b", "ad", time.Unix(2e9, 0))}
	f.Fuzz(func(t *testing.T, spec string) {
		m, err := resolve(metas, spec)
		if err == nil && m.ID == "" {
			t.Errorf("%q finds nothing and says nothing", spec)
		}
	})
}
