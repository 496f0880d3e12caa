// SPDX-License-Identifier: Apache-2.0

package chunk

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// FrameSize is how much plaintext of a chunk one frame of a pack holds; only
// the last frame of a chunk holds less.
const FrameSize = 64 << 10

// ID names a chunk by its plaintext: keyed BLAKE3.
type ID [32]byte

// String returns the name as 64 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 hexadecimal digits, for messages.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) }

// IsZero reports whether id is the zero ID, which names no chunk.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders names by their bytes, as bytes.Compare does.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// ParseID reads what String wrote and refuses anything else, upper case
// included, so that a name has one spelling.
func ParseID(s string) (ID, error) {
	var id ID
	if err := id.UnmarshalText([]byte(s)); err != nil {
		return ID{}, err
	}
	return id, nil
}

// MarshalText writes the name as in String, for JSON.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText wrote; on error id is unchanged.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("parse chunk name: %d characters, want %d", len(text), 2*len(id))
	}
	for i, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("parse chunk name: %q at %d is no lower-case hexadecimal digit", c, i)
		}
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// Class tells what a pack's chunks are for; all chunks of a pack are of one
// class, so that a pack dies as a whole.
type Class uint8

const (
	Base  Class = 1 // cut by content from long runs, shared between points and volumes
	Patch Class = 2 // scattered ranges gathered by an incremental
	Map   Class = 3 // nodes of image maps
)

// String returns the class's word, or its number where it has none.
func (c Class) String() string {
	switch c {
	case Base:
		return "base"
	case Patch:
		return "patch"
	case Map:
		return "map"
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// Valid reports whether c is a class that this version knows.
func (c Class) Valid() bool { return c >= Base && c <= Map }
