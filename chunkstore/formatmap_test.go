// SPDX-License-Identifier: Apache-2.0

package chunkstore_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// The part of the second reader that walks image maps: docs/format.md §8.

type pages map[int64][]byte

func (v pages) write(off int64, data []byte) {
	for len(data) > 0 {
		if v[off/4096] == nil {
			v[off/4096] = make([]byte, 4096)
		}
		n := copy(v[off/4096][off%4096:], data)
		data, off = data[n:], off+int64(n)
	}
}

func (r *reader) restore(p *point) pages {
	v := pages{}
	trees := append([]tree{p.Map.Base}, make([]tree, 0, len(p.Map.Runs))...)
	for _, run := range slices.Backward(p.Map.Runs) {
		trees = append(trees, run)
	}
	for _, t := range trees {
		if id := [32]byte(unhex(t.Root)); id != [32]byte{} {
			r.walk(id, t.Height, p, v)
		}
	}
	return v
}

// numbers reads a node.
type numbers struct{ b []byte }

func (n *numbers) next() int64 {
	v, size := binary.Uvarint(n.b)
	want(size > 0, "a number is cut off")
	n.b = n.b[size:]
	return int64(v)
}

func (n *numbers) zigzag() int64 {
	v := uint64(n.next())
	return int64(v>>1) ^ -int64(v&1)
}

func (n *numbers) take(size int) []byte {
	want(size <= len(n.b), "a node is cut off")
	b := n.b[:size]
	n.b = n.b[size:]
	return b
}

func (r *reader) walk(id [32]byte, height byte, p *point, v pages) {
	n := &numbers{r.chunk(id, "")}
	want(string(n.take(8)) == "TDIM\x01"+string([]byte{height, 0, 0}), "node %x", id)
	first := n.next()
	_ = n.next() // span
	count := n.next()
	if height == 0 {
		r.leaf(n, first, count, p, v)
		return
	}
	for range count {
		for range 6 { // gap, span, extents, bytes, stored, newest birth
			_ = n.next()
		}
		r.walk([32]byte(n.take(32)), height-1, p, v)
	}
}

func (r *reader) leaf(n *numbers, off, count int64, p *point, v pages) {
	_ = n.next() // bytes
	ids, births := make([][32]byte, n.next()), n.next()
	for range births {
		_ = n.zigzag()
	}
	for i := range ids {
		ids[i] = [32]byte(n.take(32))
	}
	ends := make([]int64, len(ids)) // where each chunk's last extent ended
	var length int64
	used, cur := 0, 0
	for range count {
		control := n.take(1)[0]
		unit := int64(4096)
		if control&(1<<6) != 0 {
			unit = 1
		}
		if control&(1<<3) != 0 {
			off += n.next() * unit
		}
		if control&(1<<4) != 0 {
			length = n.next() * unit
		}
		var at int64
		kind := control & 7
		switch kind {
		case 2, 3:
			cur = used
			used++
		case 4, 5:
			cur = used - 1 - int(n.next())
		}
		switch kind {
		case 0, 4:
			at = ends[cur]
		case 1, 5:
			at = ends[cur] + n.zigzag()*unit
		case 3:
			at = n.next() * unit
		}
		if control&(1<<5) != 0 {
			_ = n.next() // birth
		}
		data := make([]byte, length)
		if kind != 6 {
			ends[cur] = at + length
			data = r.chunk(ids[cur], p.Domain)[at:][:length]
		}
		if clip := p.Size - off; clip < length {
			data = data[:max(clip, 0)]
		}
		v.write(off, data)
		off += length
	}
	want(len(n.b) == 0 && used == len(ids), "%d bytes and %d ids are left of a leaf", len(n.b), len(ids)-used)
}

func hashOf(v pages, size int64) string {
	h := sha256.New()
	put := func(n int64) { h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	put(size)
	order := make([]int64, 0, len(v))
	for n := range v {
		order = append(order, n)
	}
	slices.Sort(order)
	for _, n := range order {
		if !bytes.Equal(v[n], make([]byte, 4096)) {
			put(n)
			h.Write(v[n])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
