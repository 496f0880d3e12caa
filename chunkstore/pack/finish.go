// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"fmt"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

// Finished is a whole pack in memory.
type Finished struct {
	Body      [][]byte
	Size      int64
	Hash      [32]byte // plain BLAKE3 of all stored bytes
	Header    Header
	Entries   []Entry // in stored order
	DataBytes int64   // sealed frames of base and patch chunks; 0 in a map pack

	memory slabSet
}

// Name returns the object name of the pack.
func (f *Finished) Name() string { return Name(f.Header.Session, f.Header.Seq, f.Hash) }

// Release gives the memory of Body back. Nobody may read Body any more.
func (f *Finished) Release() {
	f.Body = nil
	f.memory.release()
}

// Finish closes the pack when every ticket has been added: it writes the table
// of contents, opens what it sealed and compares, and completes the hash.
func (b *Builder) Finish() (*Finished, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.hashing {
		b.hashIdle.Wait()
	}
	if b.closed || len(b.slots) == 0 || b.hashed != len(b.slots) {
		return nil, fmt.Errorf("finish pack: %d chunks reserved, %d added in order, finished before: %v", len(b.slots), b.hashed, b.closed)
	}
	b.closed = true
	f := &Finished{Header: b.header, Entries: make([]Entry, len(b.slots))}
	records := 0
	for i := range b.slots {
		records += len(b.slots[i].enc.record)
	}
	f.Body = make([][]byte, 0, 2*len(b.slots)+3)
	f.append(b.head)
	plain := appendTOCHead(make([]byte, 0, maxTOCHead+records), b.header, len(b.slots))
	for i := range b.slots {
		enc := &b.slots[i].enc
		f.Entries[i] = Entry{ID: enc.id, Offset: uint32(f.Size), Stored: enc.stored, Frame: enc.ticket.frame, Plain: uint32(enc.ticket.plain)}
		for part := range enc.parts() {
			f.append(part)
		}
		plain = append(plain, enc.record...)
	}
	if b.header.Class != chunk.Map {
		f.DataBytes = f.Size - HeaderSize
	}
	if err := b.sealTOC(f, plain); err != nil {
		return nil, fmt.Errorf("finish pack: %w", err)
	}
	b.hash.Sum(f.Hash[:0])
	f.memory, b.memory, b.slots = b.memory, slabSet{}, nil
	return f, nil
}

func (f *Finished) append(part []byte) {
	f.Body = append(f.Body, part)
	f.Size += int64(len(part))
}

// sealTOC appends the sealed table of contents and the trailer to the pack.
func (b *Builder) sealTOC(f *Finished, plain []byte) error {
	if n := len(plain) + seal.Overhead; n > MaxTOC || f.Size+int64(n)+trailerSize > MaxPack {
		return fmt.Errorf("a table of contents of %d bytes behind %d bytes of pack, at most %d and %d are allowed", n, f.Size, MaxTOC, MaxPack)
	}
	end := trailer{toc: uint32(len(plain) + seal.Overhead), frames: b.frames}.append(nil)
	aad := append(b.head[:HeaderSize:HeaderSize], end...)
	sealed := b.cipher.Seal(make([]byte, 0, len(plain)+seal.Overhead), plain, aad, seal.FrameTOC, 0)
	opened, err := b.cipher.Open(nil, sealed, aad, seal.FrameTOC, 0)
	if err != nil {
		return fmt.Errorf("%w: table of contents: %w", ErrVerify, err)
	}
	if !bytes.Equal(opened, plain) {
		return fmt.Errorf("%w: table of contents", ErrVerify)
	}
	toc, err := decodeTOC("new pack", f.Size, opened, b.header.Class, b.frames)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrVerify, err)
	}
	if toc.Header != f.Header || len(toc.Chunks) != len(f.Entries) {
		return fmt.Errorf("%w: table of contents", ErrVerify)
	}
	for i := range toc.Chunks {
		if toc.Chunks[i].Entry != f.Entries[i] {
			return fmt.Errorf("%w: table of contents: chunk %d is %+v, want %+v", ErrVerify, i, toc.Chunks[i].Entry, f.Entries[i])
		}
	}
	f.append(sealed)
	f.append(end)
	b.hash.Write(sealed)
	b.hash.Write(end)
	return nil
}
