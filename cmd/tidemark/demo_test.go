// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/tidemark-io/tidemark/blockdiff"
)

// Without e2fsprogs the image is made up, and still knows what changed in it.
func TestMadeUpImage(t *testing.T) {
	const data = 12 << 20
	m, err := newDemoImage(t.Context(), t.TempDir(), data, "")
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := m.changed(); err != nil || len(changed) != 0 {
		t.Fatalf("changed before anything changed: %v, %v", changed, err)
	}
	tail := m.tail
	if err := m.change(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	changed, err := m.changed()
	if err != nil {
		t.Fatal(err)
	}
	added := blockdiff.Range{Offset: tail, Length: m.tail - tail}
	if !changed.Contains(added) {
		t.Errorf("the new data at %+v is not in %v", added, changed)
	}
	rewritten := changed.Clip(tail)
	if got, want := rewritten.Total(), int64(data/100/demoPage*demoPage); got != want {
		t.Errorf("%d bytes were rewritten in place, want %d", got, want)
	}
	for _, r := range rewritten {
		if r.Offset%demoPage != 0 || r.Length%demoPage != 0 {
			t.Errorf("%+v is not made of pages", r)
		}
	}
	if got, err := m.fsck(t.Context(), m.path); err != nil || got != "no file system" {
		t.Errorf("fsck: %q, %v", got, err)
	}
}
