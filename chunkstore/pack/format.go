// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// Limits of the format. Writers keep them and readers refuse what breaks them.
const (
	MaxPlain  = 8 << 20   // plaintext of one chunk
	MaxPack   = 256 << 20 // stored bytes of a pack
	MaxTOC    = 32 << 20  // sealed table of contents
	MaxDomain = 64        // bytes of a deduplication domain's name
)

// HeaderSize is how many bytes of a pack ParseHeader and Cipher need.
const HeaderSize = 56

const (
	magic        = "TIDEPACK"
	endMagic     = "KCAPEDIT"
	version      = 1
	trailerSize  = 24
	frameHeader  = 8 + seal.Overhead
	frameCost    = frameHeader + seal.Overhead // what a frame adds to its bytes at most
	minDigestLog = 12
	maxDigestLog = 16
)

// Header says what a pack holds. Session and Seq are those of the session
// that first wrote it.
type Header struct {
	Class   chunk.Class
	Domain  string
	Volume  [16]byte
	Session uint64
	Seq     uint32
}

func (h Header) check() error {
	if !h.Class.Valid() {
		return fmt.Errorf("class %d is unknown", uint8(h.Class))
	}
	if len(h.Domain) > MaxDomain {
		return fmt.Errorf("domain of %d bytes, at most %d are allowed", len(h.Domain), MaxDomain)
	}
	return nil
}

// Entry says where a chunk lies in its pack.
type Entry struct {
	ID     chunk.ID
	Offset uint32 // of the first frame's header
	Stored uint32 // bytes of all frames, headers and payloads
	Frame  uint32 // number of the first frame
	Plain  uint32 // bytes of plaintext
}

// frameCount is how many frames hold a chunk of n bytes.
func frameCount(n int) int { return (n + chunk.FrameSize - 1) / chunk.FrameSize }

func makeHeader(class chunk.Class, key seal.KeyID, salt [32]byte) []byte {
	dst := append(make([]byte, 0, HeaderSize), magic...)
	dst = append(dst, version, byte(class), 0, 0, 0, 0, 0, 0)
	dst = append(dst, key[:]...)
	return append(dst, salt[:]...)
}

// ParseHeader reads the first HeaderSize bytes of a pack. The error is a
// *seal.CorruptError, whose Object the caller may set, or seal.ErrNewerVersion.
func ParseHeader(b []byte) (chunk.Class, seal.KeyID, [32]byte, error) {
	return parseHeader("pack", b)
}

func parseHeader(object string, b []byte) (class chunk.Class, key seal.KeyID, salt [32]byte, err error) {
	if len(b) < HeaderSize {
		return 0, key, salt, corrupt(object, int64(len(b)), "ends in its header, which has %d bytes", HeaderSize)
	}
	if !bytes.Equal(b[:8], []byte(magic)) {
		return 0, key, salt, corrupt(object, 0, "magic %q, want %q", b[:8], magic)
	}
	switch {
	case b[8] > version:
		return 0, key, salt, fmt.Errorf("open %s: pack version %d: %w", object, b[8], seal.ErrNewerVersion)
	case b[8] < version:
		return 0, key, salt, corrupt(object, 8, "version %d, want %d", b[8], version)
	}
	if class = chunk.Class(b[9]); !class.Valid() {
		return 0, key, salt, corrupt(object, 9, "class %d, want 1 to 3", b[9])
	}
	if err := wantZero(object, b[10:16], 10); err != nil {
		return 0, key, salt, err
	}
	return class, seal.KeyID(b[16:24]), [32]byte(b[24:56]), nil
}

// Cipher returns the cipher of the pack that begins with these HeaderSize
// bytes. The error is as of ParseHeader, or seal.ErrUnknownKey.
func Cipher(keyring *seal.Keyring, header []byte) (*seal.PackCipher, error) {
	_, key, salt, err := ParseHeader(header)
	if err != nil {
		return nil, err
	}
	keys, err := keyring.Find(key)
	if err != nil {
		return nil, fmt.Errorf("open pack: %w", err)
	}
	return keys.PackCipher(salt)
}

type trailer struct{ toc, frames uint32 }

func (t trailer) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, t.toc)
	dst = binary.LittleEndian.AppendUint32(dst, t.frames)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	return append(dst, endMagic...)
}

// parseTrailer reads the last bytes of a pack of the given size and checks
// that what they announce fits in.
func parseTrailer(object string, b []byte, size int64) (trailer, error) {
	at := size - trailerSize
	if size < HeaderSize+trailerSize || size > MaxPack {
		return trailer{}, corrupt(object, size, "has %d bytes, want %d to %d", size, HeaderSize+trailerSize, MaxPack)
	}
	b = b[len(b)-trailerSize:]
	if !bytes.Equal(b[16:], []byte(endMagic)) {
		return trailer{}, corrupt(object, at+16, "closing magic %q, want %q", b[16:], endMagic)
	}
	if err := wantZero(object, b[8:16], at+8); err != nil {
		return trailer{}, err
	}
	t := trailer{toc: binary.LittleEndian.Uint32(b), frames: binary.LittleEndian.Uint32(b[4:])}
	room := min(at-HeaderSize, MaxTOC)
	if n := int64(t.toc); n < seal.Overhead || n > room {
		return trailer{}, corrupt(object, at, "table of contents of %d bytes, want %d to %d", n, seal.Overhead, room)
	}
	if least, room := int64(t.frames)*(frameCost+1), at-HeaderSize-int64(t.toc); least > room {
		return trailer{}, corrupt(object, at+4, "%d frames in %d bytes", t.frames, room)
	}
	return t, nil
}

func wantZero(object string, b []byte, at int64) error {
	for i, v := range b {
		if v != 0 {
			return corrupt(object, at+int64(i), "byte %#x, want zero", v)
		}
	}
	return nil
}

func corrupt(object string, offset int64, format string, args ...any) error {
	return &seal.CorruptError{Object: object, Offset: offset, Detail: fmt.Sprintf(format, args...)}
}
