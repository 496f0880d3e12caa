// SPDX-License-Identifier: Apache-2.0

package imagemap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/zeebo/blake3"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// Limits that hold for every node, whoever wrote it.
const (
	MaxNode    = 1 << 20 // bytes of a node's plaintext
	MaxExtents = 1 << 16 // extents of a leaf
	MaxFanout  = 512     // children of an inner node
	MaxHeight  = 6
	MaxChunk   = 8 << 20 // an extent ends at most here in its chunk
)

const maxOffset = math.MaxInt64

// Extent maps a range of a volume to bytes of a chunk, or, when Hole is set, to
// zeros; then Chunk and ChunkOff mean nothing.
type Extent struct {
	Off, Len int64
	Chunk    chunk.ID
	ChunkOff uint32
	Hole     bool
	Birth    uint64 // session in which the content last changed
}

// End is the first offset behind the extent.
func (e *Extent) End() int64 { return e.Off + e.Len }

func (e *Extent) check() error {
	switch {
	case e.Off < 0 || e.Len <= 0 || e.Len > maxOffset-e.Off:
		return fmt.Errorf("extent at %d has length %d", e.Off, e.Len)
	case e.Hole:
		return nil
	case e.Len > MaxChunk || int64(e.ChunkOff)+e.Len > MaxChunk:
		return fmt.Errorf("extent at %d ends at %d of its chunk, limit %d", e.Off, int64(e.ChunkOff)+e.Len, MaxChunk)
	case e.Chunk.IsZero():
		return fmt.Errorf("extent at %d has no chunk", e.Off)
	}
	return nil
}

// joins reports whether n goes on exactly where e ends, in place, bytes and birth.
func (e *Extent) joins(n *Extent) bool {
	if e.Off+e.Len != n.Off || e.Hole != n.Hole || e.Birth != n.Birth {
		return false
	}
	return e.Hole || int64(e.ChunkOff)+e.Len == int64(n.ChunkOff) && e.Chunk == n.Chunk
}

// clip cuts e to [lo, hi), which it must touch.
func (e *Extent) clip(lo, hi int64) {
	end := min(e.End(), hi)
	if lo > e.Off {
		if !e.Hole {
			e.ChunkOff += uint32(lo - e.Off)
		}
		e.Off = lo
	}
	e.Len = end - e.Off
}

// Ref names a tree. The zero Ref is the empty tree.
type Ref struct {
	Root    chunk.ID `json:"root"`
	Height  uint8    `json:"height"`
	Extents uint64   `json:"extents"`
	Bytes   int64    `json:"bytes"`  // sum of the lengths of all extents that are not holes
	Stored  int64    `json:"stored"` // plaintext bytes of all nodes
}

// IsZero reports whether the tree is empty.
func (r Ref) IsZero() bool { return r.Root.IsZero() }

// Map is the image of a volume at one point in time.
type Map struct {
	Size int64 `json:"size"`
	// Birth is the session that began the line, that is the one which wrote the
	// volume in full: what no extent covers has this birth. Every incremental
	// hands it on.
	Birth uint64 `json:"birth"`
	Base  Ref    `json:"base"`
	Runs  []Ref  `json:"runs,omitempty"` // newest first
}

// Digest binds everything that the map says: size, birth and, through the names
// of nodes and chunks, every byte of the volume. It is no content hash: maps of
// equal volumes may differ in it.
func (m Map) Digest() [32]byte {
	b := make([]byte, 0, 128+32*len(m.Runs))
	b = append(b, "tidemark v1 image map\x00"...)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Size))
	b = binary.LittleEndian.AppendUint64(b, m.Birth)
	b = append(b, m.Base.Root[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(m.Runs)))
	for i := range m.Runs {
		b = append(b, m.Runs[i].Root[:]...)
	}
	return blake3.Sum256(b)
}

// layers lists the trees that hold anything, newest first, base last.
func (m Map) layers() []Ref {
	refs := make([]Ref, 0, len(m.Runs)+1)
	for _, r := range m.Runs {
		if !r.IsZero() {
			refs = append(refs, r)
		}
	}
	if !m.Base.IsZero() {
		refs = append(refs, m.Base)
	}
	return refs
}

// Source reads nodes by name. It has checked that the bytes have that name. The
// slice stays valid and unchanged for as long as the caller holds it; the caller
// does not write to it.
type Source interface {
	ReadNode(ctx context.Context, id chunk.ID) ([]byte, error)
}

// Sink stores a node and tells its name. It keeps no reference to plain, which
// is used again after the call. A node that exists already is stored once.
type Sink interface {
	WriteNode(ctx context.Context, plain []byte) (chunk.ID, error)
}

// ErrVerify means that a node did not decode to what went into it, before it was
// stored: a fault of memory or of this program.
var ErrVerify = errors.New("image map node does not decode to what was encoded: memory or program fault")

// CorruptError says what is wrong in which node. Its name was right, so it was
// written so.
type CorruptError struct {
	Node   chunk.ID
	Offset int64 // in the node's plaintext
	Detail string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("image map node %s: offset %d: %s", e.Node, e.Offset, e.Detail)
}
