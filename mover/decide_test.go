// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore"
)

func TestDecide(t *testing.T) {
	base := &chunkstore.Point{ID: "0123456789abcdef", Size: 1000, Snapshot: "snap-1", Domain: "d"}
	bare := &chunkstore.Point{ID: "0123456789abcdef", Size: 1000, Domain: "d"}
	tests := []struct {
		name    string
		facts   facts
		mode    mode
		source  string
		reason  string // must be in it
		refused bool
	}{
		{"first", facts{size: 1000, domain: "d"}, modeFull, SourceFull, "first backup", false},
		{"asked for", facts{size: 1000, base: base, full: true, domain: "d"}, modeFull, SourceFull, "--full", false},
		{"asked for, with a claim", facts{size: 1000, base: base, full: true, claim: true, domain: "d"}, modeFull, SourceFull, "--full", true},
		{"base forgotten", facts{size: 1000, base: base, baseGone: true, domain: "d"}, modeFull, SourceFull, "01234567 was forgotten", false},
		{"base forgotten, with a claim", facts{size: 1000, base: base, baseGone: true, claim: true, domain: "d"}, modeFull, SourceFull, "forgotten", true},
		{"another domain", facts{size: 1000, base: base, claim: true, domain: "e"}, modeFull, SourceFull, `domain "d", this backup in "e"`, true},
		{"no claim", facts{size: 1000, base: base, domain: "d"}, modeCompare, SourceFingerprint, "no list of changes", false},
		{"shrunk", facts{size: 999, base: base, domain: "d"}, modeCompare, SourceFingerprint, "shrank from 1000 to 999", false},
		{"shrunk, with a claim", facts{size: 999, base: base, claim: true, domain: "d"}, modeCompare, SourceFingerprint, "shrank from 1000 to 999", true},
		{"a claim", facts{size: 1000, base: bare, claim: true, domain: "d"}, modeClaim, SourceGiven, "list of changes", false},
		{"a claim since who knows which snapshot", facts{size: 1000, base: base, claim: true, domain: "d"}, modeCompare, SourceFingerprint, "--base-snapshot", true},
		{"a claim since a base that was chosen", facts{size: 1000, base: base, baseChosen: true, claim: true, domain: "d"}, modeClaim, SourceGiven, "list of changes", false},
		{"a damaged latest point", facts{size: 1000, baseDamage: "it is damaged", claim: true, domain: "d"}, modeFull, SourceFull, "it is damaged", true},
		{"a claim of the base's snapshot", facts{size: 1000, base: base, claim: true, baseSnapshot: "snap-1", domain: "d"}, modeClaim, SourceGiven, "list of changes", false},
		{"grown, with a claim", facts{size: 1001, base: bare, claim: true, domain: "d"}, modeClaim, SourceGiven, "grew from 1000 to 1001", false},
		{"a claim of another snapshot", facts{size: 1000, base: base, claim: true, baseSnapshot: "snap-0", domain: "d"}, modeCompare, SourceFingerprint, `since snapshot "snap-0", the base 01234567 was taken from "snap-1"`, true},
		{"a claim of a snapshot, a base of none", facts{size: 1000, base: bare, claim: true, baseSnapshot: "snap-0", domain: "d"}, modeCompare, SourceFingerprint, "recorded no snapshot", true},
		{"a claim that was convicted", facts{size: 1000, base: base, claim: true, domain: "d", lie: "it lied"}, modeCompare, SourceFingerprint, "it lied", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := decide(tt.facts)
			if v.mode != tt.mode || v.source != tt.source || !strings.Contains(v.reason, tt.reason) {
				t.Errorf("got %+v", v)
			}
			if tt.refused != (v.refused != "") || tt.refused && v.refused != v.reason {
				t.Errorf("refused: %q", v.refused)
			}
		})
	}
}
