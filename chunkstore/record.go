// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeebo/blake3"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// ObjectRef names an object and binds its bytes: Digest is the BLAKE3 of what is stored.
type ObjectRef struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// SessionRecord is what a writer announces under sessions/<n>/open.
type SessionRecord struct {
	Session uint64    `json:"session"`
	Nonce   string    `json:"nonce"`          // random; proves to its writer that the number is its own
	Volume  string    `json:"volume"`         // the volume's name
	Domain  string    `json:"domain"`         // deduplication domain
	Base    *PointRef `json:"base,omitempty"` // pinned: must not be collected while the session is undecided
	Host    string    `json:"host,omitempty"`
	Program string    `json:"program,omitempty"`
	Started time.Time `json:"started"`
}

// PointRef names a restore point and the session that committed it.
type PointRef struct {
	ID      string `json:"id"`
	Session uint64 `json:"session"`
}

// Session outcomes.
const (
	StateCommitted = "committed"
	StateFenced    = "fenced"    // ended by a collector: whatever it uploaded does not count
	StateAbandoned = "abandoned" // ended by its writer without a point
)

// OutcomeRecord decides a session; it is created once (C5).
type OutcomeRecord struct {
	Session  uint64      `json:"session"`
	Nonce    string      `json:"nonce"` // the session's, or the collector's own for a fenced one
	State    string      `json:"state"`
	Points   []PointMeta `json:"points,omitempty"`
	Segments []Segment   `json:"segments,omitempty"`
	Packs    int         `json:"packs"`
	Bytes    int64       `json:"bytes"` // stored bytes of the session's packs
	Epochs   uint64      `json:"epochs"`
	Finished time.Time   `json:"finished"`
}

// PointMeta is what a list of points shows without reading each one.
type PointMeta struct {
	ObjectRef
	ID      string    `json:"id"`
	Volume  string    `json:"volume"`
	Base    string    `json:"base,omitempty"` // id of the point it extends
	Created time.Time `json:"created"`
}

// Segment is an index segment of a committed session.
type Segment struct {
	ObjectRef
}

// EpochRecord is one decision of the collector. Epochs are numbered densely
// from 0 and read by name; each names everything that is in force, so the
// newest one alone counts.
type EpochRecord struct {
	Epoch     uint64      `json:"epoch"`
	Created   time.Time   `json:"created"`
	Condemned []ObjectRef `json:"condemned,omitempty"` // lists of packs that no writer may use any more
	Catalogue *ObjectRef  `json:"catalogue,omitempty"`
	Watermark uint64      `json:"watermark"` // sessions below it are decided by the catalogue alone
	Usage     *ObjectRef  `json:"usage,omitempty"`
}

// CondemnedRecord lists packs that are condemned whole.
type CondemnedRecord struct {
	Packs []string `json:"packs"`
}

// CatalogueRecord holds the outcomes of all sessions below a watermark. An
// outcome object that appears later under a folded number is void for ever.
type CatalogueRecord struct {
	Watermark uint64          `json:"watermark"`
	Outcomes  []OutcomeRecord `json:"outcomes"`
}

// UsageRecord says, per volume and pack, how many stored bytes no retained point needs.
type UsageRecord struct {
	Volumes map[string]VolumeUsage `json:"volumes"` // by volume hash
}

// VolumeUsage is one volume's part of a UsageRecord.
type VolumeUsage struct {
	Stored int64       `json:"stored"` // bytes of data packs that hold at least one needed byte
	Needed int64       `json:"needed"` // of those, the bytes that retained points need
	Newest int64       `json:"newest"` // bytes that the newest point needs
	Pinned int64       `json:"pinned"` // stored bytes of the packs in which they lie
	Packs  []PackUsage `json:"packs"`  // those that are not wholly the newest point's, most dead share first
}

// PackUsage is one pack's stored size in bytes, and what of it retained points need.
type PackUsage struct {
	Name   string `json:"name"`
	Stored int64  `json:"stored"`
	Live   int64  `json:"live"`
	Newest int64  `json:"newest"`           // needed by the volume's newest point
	Shared bool   `json:"shared,omitempty"` // other volumes use it too: never emptied for space
}

// TombstoneRecord marks a point as forgotten.
type TombstoneRecord struct {
	Point   PointRef  `json:"point"`
	Reason  string    `json:"reason"`
	Created time.Time `json:"created"`
}

// check holds an outcome against the number it was read under.
func (o *OutcomeRecord) check(name string, n uint64) error {
	switch o.State {
	case StateCommitted, StateFenced, StateAbandoned:
	default:
		return &seal.CorruptError{Object: name, Detail: fmt.Sprintf("outcome %q is unknown", o.State)}
	}
	if o.Session != n {
		return &seal.CorruptError{Object: name, Detail: fmt.Sprintf("is of session %d, want %d", o.Session, n)}
	}
	return nil
}

// same tells whether both are one writer's, with one result.
func (o *OutcomeRecord) same(p *OutcomeRecord) bool {
	return o.Nonce == p.Nonce && o.State == p.State && slices.EqualFunc(o.Points, p.Points, func(a, b PointMeta) bool { return a.ObjectRef == b.ObjectRef })
}

// names tells whether a segment is the session's and counts.
func (o *OutcomeRecord) names(segment string) bool {
	return o.State == StateCommitted && slices.ContainsFunc(o.Segments, func(s Segment) bool { return s.Name == segment })
}

// check holds a catalogue against the epoch that names it.
func (c *CatalogueRecord) check(name string, e *EpochRecord) error {
	if c.Watermark != e.Watermark {
		return &seal.CorruptError{Object: name, Detail: fmt.Sprintf("has watermark %d, its epoch says %d", c.Watermark, e.Watermark)}
	}
	for i := range c.Outcomes {
		o := &c.Outcomes[i]
		if o.Session >= c.Watermark || i > 0 && o.Session <= c.Outcomes[i-1].Session {
			return &seal.CorruptError{Object: name, Detail: fmt.Sprintf("session %d is out of order or not below %d", o.Session, c.Watermark)}
		}
		if err := o.check(name, o.Session); err != nil {
			return err
		}
	}
	return nil
}

func sessionName(n uint64) string    { return fmt.Sprintf("sessions/%010d/open", n) }
func outcomeName(n uint64) string    { return fmt.Sprintf("sessions/%010d/outcome", n) }
func epochName(n uint64) string      { return fmt.Sprintf("gc/epochs/%010d", n) }
func forgottenName(id string) string { return "gc/forgotten/" + id }
func slotName(n int) string          { return fmt.Sprintf("keys/%d/slot", n) }
func slotRemovedName(n int) string   { return fmt.Sprintf("keys/%d/removed", n) }

func segmentName(session uint64, seq int, digest [32]byte) string {
	return fmt.Sprintf("index/%010d/%06d-%x", session, seq, digest)
}

// sealRecord encodes v and binds it to name; refOf of the result names the object.
func (r *vault) sealRecord(name string, v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	return r.keyring.SealRecord(r.config.repoID(), name, plain)
}

func (r *vault) openRecord(name string, sealed []byte, v any) error {
	plain, err := r.keyring.OpenRecord(r.config.repoID(), name, sealed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return &seal.CorruptError{Object: name, Detail: "sealed by this repository's key, but not the record it should be: " + err.Error()}
	}
	return nil
}

// lost says why an object that another one names could not be read. One that is
// missing, short or long is damage: objects are immutable, nothing else explains it.
func lost(name string, off int64, err error) error {
	switch {
	case errors.Is(err, objstore.ErrNotExist):
		return &seal.CorruptError{Object: name, Detail: "the object is missing"}
	case errors.Is(err, objstore.ErrShort), errors.Is(err, objstore.ErrTooLarge):
		return &seal.CorruptError{Object: name, Offset: off, Detail: err.Error()}
	}
	return fmt.Errorf("read %s: %w", name, err)
}

func refOf(name string, data []byte) ObjectRef {
	sum := blake3.Sum256(data)
	return ObjectRef{Name: name, Digest: fmt.Sprintf("%x", sum), Size: int64(len(data))}
}

// check refuses bytes that are not those the reference binds.
func (o ObjectRef) check(data []byte) error {
	if got := refOf(o.Name, data); got.Digest != o.Digest {
		return &seal.CorruptError{Object: o.Name, Detail: fmt.Sprintf("stored bytes have BLAKE3 %.16s…, what names it says %.16s…", got.Digest, o.Digest)}
	}
	return nil
}
