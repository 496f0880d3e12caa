// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-io/tidemark/blockdiff"
)

// TestMain lets the test's own program be the processes that cases start.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-op" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestByteSize(t *testing.T) {
	tests := []struct {
		text string
		want byteSize
		back string
	}{
		{"512M", 512 << 20, "512 MiB"},
		{"4GiB", 4 << 30, "4 GiB"},
		{"1536k", 1536 << 10, "1.5 MiB"},
		{"10T", 10 << 40, "10 TiB"},
		{"100", 100, "100 B"},
	}
	for _, tt := range tests {
		var got byteSize
		if err := got.Set(tt.text); err != nil || got != tt.want || got.String() != tt.back {
			t.Errorf("%q is %d, %q, error %v; want %d, %q", tt.text, got, got, err, tt.want, tt.back)
		}
	}
	for _, bad := range []string{"", "G", "-1M", "0", "many", "9999999999999T"} {
		if err := new(byteSize).Set(bad); err == nil {
			t.Errorf("%q was taken for a size", bad)
		}
	}
}

func TestChoose(t *testing.T) {
	all, err := choose("")
	if err != nil || len(all) != len(cases) {
		t.Errorf("no name chooses %d of %d cases: %v", len(all), len(cases), err)
	}
	two, err := choose("restore,full")
	if err != nil || len(two) != 2 || two[0].name != "restore" || two[1].name != "full" {
		t.Errorf("restore,full chooses %v: %v", two, err)
	}
	if _, err := choose("nonsense"); err == nil {
		t.Error("a case that is not there was chosen")
	}
}

// small is a bench over a volume that takes no time.
func small(t *testing.T) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), size: 24 << 20, synth: true, quick: true, series: 6, claims: 2, kdf: cheapKDF}
	if err := b.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVolumeIsFoundAndSurveyed(t *testing.T) {
	b := small(t)
	made := b.volume
	if err := b.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, b.volume, cmp.AllowUnexported(volume{})); diff != "" {
		t.Errorf("the second run has another volume: %s", diff)
	}
	want := b.size / 10 * 9 / (128 * pageSize) * (128 * pageSize)
	if b.volume.kind != kindSynthetic || b.volume.data != want || int64(len(b.volume.pages)) != want/pageSize {
		t.Errorf("%s with %d bytes in %d pages, want %d bytes", b.volume.kind, b.volume.data, len(b.volume.pages), want)
	}
	copied := b.path("copy.img")
	if err := b.volume.copyTo(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if err := sameContent(b.volume.path, copied); err != nil {
		t.Error(err)
	}
}

func TestRewriteIsTheSameEveryTimeAndAsClaimed(t *testing.T) {
	b := small(t)
	images := []string{b.path("a.img"), b.path("b.img")}
	var claims []blockdiff.Ranges
	for _, image := range images {
		if err := b.volume.copyTo(t.Context(), image); err != nil {
			t.Fatal(err)
		}
		r := newRewriter(b.volume.pages, 5)
		var all blockdiff.Ranges
		for range 3 {
			ranges, err := r.rewrite(image)
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(len(b.volume.pages) / 100 * pageSize); ranges.Total() != want {
				t.Errorf("%d bytes changed, want %d", ranges.Total(), want)
			}
			all = all.Union(ranges)
		}
		claims = append(claims, all)
	}
	if err := sameContent(images[0], images[1]); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(claims[0], claims[1]); diff != "" {
		t.Error(diff)
	}
	before, after := mustRead(t, b.volume.path), mustRead(t, images[0])
	for off := int64(0); off < b.size; off += pageSize {
		changed := !bytes.Equal(before[off:off+pageSize], after[off:off+pageSize])
		if claimed := claims[0].Contains(blockdiff.Range{Offset: off, Length: pageSize}); changed != claimed {
			t.Fatalf("page at %d: changed %v, claimed %v", off, changed, claimed)
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSameContentTellsDifferences(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	data := bytes.Repeat([]byte("x"), 2<<20)
	for _, other := range [][]byte{data[:len(data)-1], append(bytes.Clone(data[:1<<20]), bytes.Repeat([]byte("y"), 1<<20)...)} {
		if err := os.WriteFile(a, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b, other, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := sameContent(a, b); err == nil {
			t.Errorf("%d and %d bytes that differ pass for the same", len(data), len(other))
		}
		if err := sameContent(a, a); err != nil {
			t.Error(err)
		}
	}
}

// TestCases runs most cases on a tiny volume and checks what does not depend on speed.
func TestCases(t *testing.T) {
	b := small(t)
	for _, name := range []string{"full", "incremental", "restore", "fingerprint", "series", "cleaning"} {
		chosen, err := choose(name)
		if err != nil {
			t.Fatal(err)
		}
		b.current = name
		if err := chosen[0].run(t.Context(), b); err != nil {
			t.Fatalf("case %s: %v", name, err)
		}
		if err := b.clean(); err != nil {
			t.Fatal(err)
		}
	}
	exact := map[string]float64{
		"1 %: read / changed":                 1,
		"delta: written / changed":            1,
		"all kept: read / changed":            1,
		"fetched more than once":              0,
		"last 7 kept: fetched more than once": 0,
	}
	for i := range b.rows {
		r := &b.rows[i]
		if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) || r.Value < 0 {
			t.Errorf("%s, %s: %v", r.Case, r.What, r.Value)
		}
		if want, ok := exact[r.What]; ok && math.Abs(r.Value-want) > 1e-6 {
			t.Errorf("%s, %s: %v, want %v", r.Case, r.What, r.Value, want)
		}
		delete(exact, r.What)
	}
	if len(exact) > 0 {
		t.Errorf("rows not there: %v", exact)
	}
	checkPrint(t, b)
}

func checkPrint(t *testing.T, b *bench) {
	t.Helper()
	var text, data bytes.Buffer
	if err := b.print(&text, b.machine(), false); err != nil {
		t.Fatal(err)
	}
	if err := b.print(&data, b.machine(), true); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Rows   []row
		Missed int
	}
	if err := json.Unmarshal(data.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.rows, back.Rows); diff != "" || back.Missed != b.missed() {
		t.Errorf("JSON says something else: %s", diff)
	}
	if got := strings.Count(text.String(), "MISSED"); got != b.missed() {
		t.Errorf("the table shows %d bounds as missed, want %d", got, b.missed())
	}
}

func TestVerdicts(t *testing.T) {
	var b table
	b.atMost("most, kept", 1, 1, "", "")
	b.atMost("most, missed", 1.01, 1, "", "")
	b.atLeast("least, kept", 0.9, 0.9, "")
	b.atLeast("least, missed", 0.89, 0.9, "")
	b.atMost("none, kept", 0, zero, "B", "")
	b.atMost("none, missed", 1, zero, "B", "")
	b.info("info", 5, "MiB", "")
	want := []string{"ok", "MISSED", "ok", "MISSED", "ok", "MISSED", ""}
	for i, w := range want {
		if got := b.rows[i].verdict(); got != w {
			t.Errorf("%s: %q, want %q", b.rows[i].What, got, w)
		}
	}
	if b.missed() != 3 {
		t.Errorf("%d missed, want 3", b.missed())
	}
}
