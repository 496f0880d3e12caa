// SPDX-License-Identifier: Apache-2.0

package chunkstore_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/zeebo/blake3"
	"golang.org/x/crypto/argon2"
)

// This is the second reader that docs/format.md promises: written from that
// page, with nothing of Tidemark's but its bytes. Where it and the page differ,
// the page is wrong. It reads a small folder, so it holds everything in memory.

const (
	formatRepository = "testdata/repository-1"
	formatPassphrase = "correct horse"
)

type reader struct {
	repoID   []byte
	masters  map[[8]byte][]byte // by key id
	outcomes []outcome
	chunks   map[[32]byte]place
}

type reference struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Size   int    `json:"size"`
}

type outcome struct {
	Session  uint64 `json:"session"`
	State    string `json:"state"`
	Segments []reference
	Points   []struct {
		reference
		ID     string `json:"id"`
		Volume string `json:"volume"`
	}
}

type place struct {
	pack                         string
	offset, stored, frame, plain int
}

type tree struct {
	Root   string `json:"root"`
	Height byte   `json:"height"`
}

type point struct {
	ID     string `json:"id"`
	Volume string `json:"volume"`
	Domain string `json:"domain"`
	Size   int64  `json:"size"`
	Root   string `json:"root"`
	Map    struct {
		Size  int64  `json:"size"`
		Birth uint64 `json:"birth"`
		Base  tree   `json:"base"`
		Runs  []tree `json:"runs"`
	} `json:"map"`
}

// fail ends the reading from any depth; restoreAll catches it.
type fail struct{ error }

func check(err error) {
	if err != nil {
		panic(fail{err})
	}
}

func want(ok bool, format string, args ...any) {
	if !ok {
		check(fmt.Errorf(format, args...))
	}
}

func object(name string) []byte {
	b, err := os.ReadFile(filepath.Join(formatRepository, name))
	check(err)
	return b
}

func absent(name string) bool {
	_, err := os.Stat(filepath.Join(formatRepository, name))
	return errors.Is(err, fs.ErrNotExist)
}

func sum(b []byte) string {
	s := blake3.Sum256(b)
	return hex.EncodeToString(s[:])
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	check(err)
	return b
}

func derive(context string, material ...[]byte) []byte {
	out := make([]byte, 32)
	blake3.DeriveKey("tidemark v1 "+context, bytes.Join(material, nil), out)
	return out
}

func keyed(key []byte, b []byte) []byte {
	h, err := blake3.NewKeyed(key)
	check(err)
	_, _ = h.Write(b)
	return h.Sum(nil)
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	check(err)
	a, err := cipher.NewGCM(block)
	check(err)
	return a
}

// §2 and §3
func (r *reader) open() {
	raw := object("config")
	var config struct {
		Version  int      `json:"version"`
		ID       string   `json:"id"`
		Features []string `json:"features"`
	}
	check(json.Unmarshal(raw, &config))
	want(config.Version == 1 && len(config.Features) == 0, "config %+v", config)
	r.repoID = unhex(config.ID)

	var slot struct {
		Version int             `json:"version"`
		KDF     json.RawMessage `json:"kdf"`
		Wrapped []byte          `json:"wrapped"`
		Check   string          `json:"check"`
	}
	check(json.Unmarshal(object("keys/0/slot"), &slot))
	var kdf struct {
		Name      string `json:"name"`
		Time      uint32 `json:"time"`
		MemoryKiB uint32 `json:"memoryKiB"`
		Threads   uint8  `json:"threads"`
		Salt      []byte `json:"salt"`
	}
	check(json.Unmarshal(slot.KDF, &kdf))
	want(slot.Version == 1 && kdf.Name == "argon2id" && absent("keys/0/removed"), "slot %s", slot.KDF)
	compact, err := json.Marshal(kdf)
	check(err)
	aad := append([]byte("tidemark slot v1"), compact...)
	want(sum(append(slices.Clone(aad), slot.Wrapped...))[:16] == slot.Check, "slot is damaged")
	key := argon2.IDKey([]byte(formatPassphrase), kdf.Salt, kdf.Time, kdf.MemoryKiB, kdf.Threads, 32)
	plain, err := gcm(key).Open(nil, slot.Wrapped[:12], slot.Wrapped[12:], aad)
	check(err)
	var payload struct {
		Version int      `json:"version"`
		Masters [][]byte `json:"masters"`
		Config  string   `json:"config"`
	}
	check(json.Unmarshal(plain, &payload))
	want(payload.Version == 1 && payload.Config == sum(raw), "slot of another config")
	r.masters = map[[8]byte][]byte{}
	for _, m := range payload.Masters {
		var id [8]byte
		blake3.DeriveKey("tidemark v1 key id", m, id[:])
		r.masters[id] = m
	}
}

func (r *reader) master(id []byte) []byte {
	m := r.masters[[8]byte(id)]
	want(m != nil, "key %x is unknown", id)
	return m
}

// §4
func (r *reader) record(name string) []byte {
	b := object(name)
	want(len(b) >= 64 && string(b[:8]) == "TDMR\x01\x00\x00\x00", "%s is no record", name)
	key := keyed(derive("record", r.master(b[8:16])), b[16:48])
	plain, err := gcm(key).Open(nil, make([]byte, 12), b[48:], bytes.Join([][]byte{b[:48], r.repoID, []byte(name)}, nil))
	check(err)
	return plain
}

func (r *reader) follow(ref reference) []byte {
	b := object(ref.Name)
	want(len(b) == ref.Size && sum(b) == ref.Digest, "%s is not what was referred to", ref.Name)
	return r.record(ref.Name)
}

// §9, then §7
func (r *reader) discover() {
	var epoch struct {
		Watermark uint64     `json:"watermark"`
		Catalogue *reference `json:"catalogue"`
	}
	for n := 0; !absent(fmt.Sprintf("gc/epochs/%010d", n)); n++ {
		epoch.Catalogue = nil
		check(json.Unmarshal(r.record(fmt.Sprintf("gc/epochs/%010d", n)), &epoch))
	}
	if epoch.Catalogue != nil {
		var c struct {
			Outcomes []outcome `json:"outcomes"`
		}
		check(json.Unmarshal(r.follow(*epoch.Catalogue), &c))
		r.outcomes = c.Outcomes
	}
	for n := epoch.Watermark; !absent(fmt.Sprintf("sessions/%010d/open", n)); n++ {
		name := fmt.Sprintf("sessions/%010d/outcome", n)
		if absent(name) {
			continue
		}
		var o outcome
		check(json.Unmarshal(r.record(name), &o))
		want(o.Session == n, "outcome of session %d under %d", o.Session, n)
		r.outcomes = append(r.outcomes, o)
	}
	r.outcomes = slices.DeleteFunc(r.outcomes, func(o outcome) bool { return o.State != "committed" })
}

// §6
func (r *reader) index() {
	r.chunks = map[[32]byte]place{}
	u32 := binary.LittleEndian.Uint32
	for _, o := range r.outcomes {
		for _, ref := range o.Segments {
			b := r.follow(ref)
			want(string(b[:8]) == "TDIX\x01\x00\x00\x00", "%s is no segment", ref.Name)
			packs, n := int(u32(b[8:])), int(u32(b[12:]))
			want(len(b) == 16+56*packs+52*n, "%s has %d bytes", ref.Name, len(b))
			names := make([]string, packs)
			for i := range names {
				p := b[16+56*i:]
				names[i] = fmt.Sprintf("packs/%010d/%06d-%x", binary.LittleEndian.Uint64(p), u32(p[8:]), p[24:56])
			}
			for i := range n {
				e := b[16+56*packs+52*i:]
				r.chunks[[32]byte(e)] = place{names[u32(e[32:])], int(u32(e[36:])), int(u32(e[40:])), int(u32(e[44:])), int(u32(e[48:]))}
			}
		}
	}
}

// §5
func (r *reader) chunk(id [32]byte, domain string) []byte {
	p, ok := r.chunks[id]
	want(ok, "chunk %x is in no index", id)
	b := object(p.pack)
	want(string(b[:9]) == "TIDEPACK\x01", "%s is no pack", p.pack)
	want(p.pack[len(p.pack)-64:] == sum(b), "%s has other bytes than its name says", p.pack)
	master, salt := r.master(b[16:24]), b[24:56]
	aead := gcm(keyed(derive("pack", master), salt))
	open := func(kind uint32, n int, sealed []byte) []byte {
		nonce := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, kind), uint64(n))
		plain, err := aead.Open(nil, nonce, sealed, bytes.Join([][]byte{[]byte("tidemark pack v1"), salt, nonce}, nil))
		check(err)
		return plain
	}
	var out []byte
	rest := b[p.offset:][:p.stored]
	for n := p.frame; len(rest) > 0; n++ {
		h := open(1, n, rest[:24])
		stored := int(binary.LittleEndian.Uint32(h))
		plain := int(h[4]) | int(h[5])<<8 | int(h[6])<<16
		payload := open(2, n, rest[24:][:stored])
		rest = rest[24+stored:]
		want(h[7]&2 != 0 == (n == p.frame) && h[7]&4 != 0 == (len(rest) == 0), "frame %d of %s has flags %d", n, p.pack, h[7])
		if h[7]&1 == 0 {
			block := make([]byte, plain)
			got, err := lz4.UncompressBlock(payload, block)
			check(err)
			payload = block[:got]
		}
		want(len(payload) == plain, "frame %d of %s has %d bytes, want %d", n, p.pack, len(payload), plain)
		out = append(out, payload...)
	}
	want(len(out) == p.plain, "chunk %x has %d bytes, want %d", id, len(out), p.plain)
	want(bytes.Equal(keyed(derive("chunk name", master, []byte(domain)), out), id[:]), "chunk %x has another name", id)
	return out
}

// §8
func (r *reader) point(ref reference) *point {
	var p point
	check(json.Unmarshal(r.follow(ref), &p))
	b := append([]byte("tidemark v1 image map\x00"), make([]byte, 16)...)
	binary.LittleEndian.PutUint64(b[22:], uint64(p.Map.Size))
	binary.LittleEndian.PutUint64(b[30:], p.Map.Birth)
	b = append(b, unhex(p.Map.Base.Root)...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(p.Map.Runs)))
	for _, run := range p.Map.Runs {
		b = append(b, unhex(run.Root)...)
	}
	want(sum(b) == p.Root && p.Map.Size == p.Size, "point %s: its root is another", p.ID)
	return &p
}

type restored struct {
	ID        string `json:"id"`
	Volume    string `json:"volume"`
	Size      int64  `json:"size"`
	Forgotten bool   `json:"forgotten"`
	Hash      string `json:"hash"`
}

// restoreAll follows §11.
func restoreAll() (out []restored, err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case fail:
			err = e.error
		default:
			panic(e)
		}
	}()
	var r reader
	r.open()
	r.discover()
	r.index()
	for _, o := range r.outcomes {
		for _, ref := range o.Points {
			p := r.point(ref.reference)
			out = append(out, restored{p.ID, p.Volume, p.Size, !absent("gc/forgotten/" + p.ID), hashOf(r.restore(p), p.Size)})
		}
	}
	return out, nil
}

func TestFormatIsEnough(t *testing.T) {
	got, err := restoreAll()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(formatRepository + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var wants []restored
	if err := json.Unmarshal(data, &wants); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, wants) {
		t.Errorf("got  %+v\nwant %+v", got, wants)
	}
}
