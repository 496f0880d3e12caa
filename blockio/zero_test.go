// SPDX-License-Identifier: Apache-2.0

package blockio

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// One set bit anywhere, at any length and any misalignment, is found by every way that was measured.
func TestIsZeroAgree(t *testing.T) {
	back := make([]byte, 9000)
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.IntRange(0, 70).Draw(t, "start")
		b := back[start : start+rapid.IntRange(0, 8900).Draw(t, "len")]
		at := -1
		if len(b) > 0 {
			at = rapid.IntRange(-1, len(b)-1).Draw(t, "set")
		}
		if at >= 0 {
			b[at] = 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			defer func() { b[at] = 0 }()
		}
		for _, f := range zeroFinders {
			if got := f.fn(b); got != (at < 0) {
				t.Fatalf("%s of %d bytes with byte %d set = %v", f.name, len(b), at, got)
			}
		}
	})
}

func TestDataRunsAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		page := rapid.SampledFrom([]int{1, 8, 64, 512, 4096}).Draw(t, "page")
		b := make([]byte, rapid.IntRange(0, 12*page).Draw(t, "len"))
		for _, at := range rapid.SliceOfN(rapid.IntRange(0, 12*page), 0, 12).Draw(t, "set") {
			if at < len(b) {
				b[at] = 0xff
			}
		}
		type run struct{ Off, Len int }
		var want, got []run
		for off := 0; off < len(b); off += page {
			end := min(off+page, len(b))
			data := false
			for _, c := range b[off:end] {
				data = data || c != 0
			}
			if n := len(want); data && n > 0 && want[n-1].Off+want[n-1].Len == off {
				want[n-1].Len = end - want[n-1].Off
			} else if data {
				want = append(want, run{off, end - off})
			}
		}
		DataRuns(b, page, func(off, n int) { got = append(got, run{off, n}) })
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("runs (-want +got):\n%s", d)
		}
	})
}

func TestZeroSearchDoesNotAllocate(t *testing.T) {
	b := make([]byte, 1<<20)
	b[70000], b[900000] = 1, 1
	total := 0
	if n := testing.AllocsPerRun(20, func() { DataRuns(b, PageSize, func(_, n int) { total += n }) }); n != 0 {
		t.Errorf("DataRuns allocates %v times", n)
	}
	if total == 0 {
		t.Error("nothing found")
	}
}
