// SPDX-License-Identifier: Apache-2.0

package mover

import (
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore"
)

// Sources of knowledge about what changed, as points record them.
const (
	SourceFull        = "full"        // everything was read
	SourceSparse      = "sparse"      // what the file has allocated was read
	SourceGiven       = "given"       // a list that the user gave
	SourceFingerprint = "fingerprint" // everything was compared with the base
)

// Trust in a point's difference from its base.
const (
	TrustRead    = "read"    // the mover saw every byte itself
	TrustAudited = "audited" // a claim, checked by sample
)

// ExitLied is the exit code of a backup that is complete and right, but whose
// claim was caught lying.
const ExitLied = 4

type mode int

const (
	modeFull    mode = iota // read all that may hold data; the map is new
	modeClaim               // read what is claimed, trust the rest
	modeCompare             // read all, ship what differs from the base
)

// facts is what is known before anything is read.
type facts struct {
	size         int64
	base         *chunkstore.Point // nil: none
	baseChosen   bool              // by the user, not as the volume's latest
	baseDamage   string            // why the latest point can't be read
	baseGone     bool              // it was forgotten meanwhile
	full         bool              // asked for
	claim        bool              // a claim was given
	baseSnapshot string            // the claim's base, where stated
	domain       string            // the backup's
	lie          string            // what a claim on this base was convicted of before; "": nothing
}

// verdict is how the backup goes on, with a reason for people and the point.
type verdict struct {
	mode   mode
	source string
	reason string
	// refused says why a given claim is not used; "" when it is, or none was given.
	refused string
}

// decide is pure: a base that can't serve makes the backup a full one, a claim
// that can't serve makes it compare.
func decide(f facts) verdict {
	v := verdict{mode: modeFull, source: SourceFull, reason: f.againstBase()}
	if v.reason == "" {
		v = verdict{mode: modeCompare, source: SourceFingerprint, reason: f.againstClaim()}
	}
	if v.reason != "" {
		if f.claim {
			v.refused = v.reason
		}
		return v
	}
	v = verdict{mode: modeClaim, source: SourceGiven, reason: "a list of changes since the base was given"}
	if f.size > f.base.Size {
		v.reason += fmt.Sprintf("; the volume grew from %d to %d bytes, the tail counts as changed", f.base.Size, f.size)
	}
	return v
}

// againstBase says why there is nothing to compare with: first match wins, "" is none.
func (f *facts) againstBase() string {
	switch {
	case f.full:
		return "asked for with --full"
	case f.baseDamage != "":
		return f.baseDamage
	case f.base == nil:
		return "first backup of this volume"
	case f.baseGone:
		return fmt.Sprintf("the base %.8s was forgotten meanwhile", f.base.ID)
	case f.base.Domain != f.domain: // a point's chunks are all named by one key
		return fmt.Sprintf("the base %.8s is in deduplication domain %q, this backup in %q", f.base.ID, f.base.Domain, f.domain)
	}
	return ""
}

// againstClaim says why no claim is used: first match wins, "" is none.
func (f *facts) againstClaim() string {
	switch {
	case f.size < f.base.Size:
		return fmt.Sprintf("the volume shrank from %d to %d bytes since its base", f.base.Size, f.size)
	case !f.claim:
		return "no list of changes was given"
	case f.lie != "":
		return f.lie
	case f.baseSnapshot != "" && f.base.Snapshot == "":
		return fmt.Sprintf("the list of changes is since snapshot %q, but the base %.8s recorded no snapshot", f.baseSnapshot, f.base.ID)
	case f.baseSnapshot == "" && f.base.Snapshot != "" && !f.baseChosen:
		return fmt.Sprintf("the base %.8s was taken from snapshot %q, and nothing says that the list of changes is since that one: name it with --base-snapshot, or choose the base with --base", f.base.ID, f.base.Snapshot)
	case f.baseSnapshot != "" && f.baseSnapshot != f.base.Snapshot:
		return fmt.Sprintf("the list of changes is since snapshot %q, the base %.8s was taken from %q", f.baseSnapshot, f.base.ID, f.base.Snapshot)
	}
	return ""
}
