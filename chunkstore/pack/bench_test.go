// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/pierrec/lz4/v4"
	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/seal"
)

const (
	benchChunk  = 512 << 10
	benchDigest = 16 << 10
	benchPack   = 64 << 20
)

var benchData = map[string]func() []byte{
	"pages": func() []byte { return pages(1, 8<<20) },
	"noise": func() []byte { return noise(1, 8<<20) },
}

// cpuSpeed returns a function that reports megabytes per second of processor
// time of this thread: what MB/s says on an idle machine, on a busy one too.
func cpuSpeed(b *testing.B, bytes int) func() {
	const rusageThread = 1
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(rusageThread, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	runtime.LockOSThread()
	b.SetBytes(int64(bytes))
	from := cpu()
	return func() {
		b.ReportMetric(float64(bytes)*float64(b.N)/1e6/(cpu()-from).Seconds(), "cpuMB/s")
		runtime.UnlockOSThread()
	}
}

func benchInfo(off int) Info {
	return Info{DigestSize: benchDigest, Pieces: []chunk.Piece{{Offset: int64(off), Length: benchChunk}}}
}

// BenchmarkEncode is to be read beside BenchmarkLibraries, which does with
// bare libraries what Encode can't do without.
func BenchmarkEncode(b *testing.B) {
	for name, data := range benchData {
		b.Run(name, func(b *testing.B) {
			keys := testKeyring(b).Current()
			e, data := NewEncoder(keys.DigestKey("")), data()
			var pack *Builder
			var plain, stored int64
			defer cpuSpeed(b, benchChunk)()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if pack == nil {
					pack, _ = NewBuilder(keys, testHeader, benchPack)
				}
				t, ok := pack.Reserve(benchChunk)
				if !ok {
					b.Fatal("full")
				}
				off := i * benchChunk % len(data)
				enc, err := e.Encode(t, data[off:off+benchChunk], benchInfo(off))
				if err != nil {
					b.Fatal(err)
				}
				plain, stored = plain+benchChunk, stored+enc.Stored()
				if i%32 == 31 {
					pack.Discard()
					pack = nil
				}
			}
			b.ReportMetric(float64(plain)/float64(stored), "ratio")
		})
	}
}

// BenchmarkPack is Encode, Add and Finish: with the hash of the stored bytes
// and the table of contents.
func BenchmarkPack(b *testing.B) {
	for name, data := range benchData {
		b.Run(name, func(b *testing.B) {
			keys := testKeyring(b).Current()
			e, data := NewEncoder(keys.DigestKey("")), data()
			defer cpuSpeed(b, len(data))()
			b.ReportAllocs()
			for b.Loop() {
				pack, err := NewBuilder(keys, testHeader, benchPack)
				if err != nil {
					b.Fatal(err)
				}
				for off := 0; off < len(data); off += benchChunk {
					t, _ := pack.Reserve(benchChunk)
					enc, err := e.Encode(t, data[off:off+benchChunk], benchInfo(off))
					if err != nil {
						b.Fatal(err)
					}
					if err := pack.Add(t, enc); err != nil {
						b.Fatal(err)
					}
				}
				f, err := pack.Finish()
				if err != nil {
					b.Fatal(err)
				}
				f.Release()
			}
		})
	}
}

// BenchmarkLibraries runs, frame by frame, the libraries that Encode is made
// of: all of them, and each alone.
func BenchmarkLibraries(b *testing.B) {
	for name, data := range benchData {
		data := data()
		l := newLibraries(b, data[:chunk.FrameSize])
		steps := []struct {
			name string
			run  func(frame []byte)
		}{
			{"all", func(f []byte) {
				l.digest(f)
				l.compress(f)
				l.seal(f)
				l.open(f)
				l.decompress(f)
				l.compare(f)
			}},
			{"digest", l.digest},
			{"compress", l.compress},
			{"seal", l.seal},
			{"open", l.open},
			{"decompress", l.decompress},
			{"compare", l.compare},
		}
		for _, s := range steps {
			b.Run(name+"/"+s.name, func(b *testing.B) {
				defer cpuSpeed(b, chunk.FrameSize)()
				for i := 0; b.Loop(); i++ {
					off := i * chunk.FrameSize % len(data)
					if s.name != "all" && s.name != "compress" {
						off = 0 // the buffers hold this frame's results
					}
					s.run(data[off : off+chunk.FrameSize])
				}
			})
			l.compress(data[:chunk.FrameSize])
			l.seal(data[:chunk.FrameSize])
			l.open(data[:chunk.FrameSize])
			l.decompress(data[:chunk.FrameSize])
		}
	}
}

type libraries struct {
	b        *testing.B
	lz       lz4.Compressor
	aead     cipher.AEAD
	digester *chunk.Digester
	nonce    [12]byte
	aad      [60]byte
	block    [chunk.FrameSize - 1]byte
	payload  []byte // block or frame
	memory   []byte // of the packs
	used     int
	sealed   []byte
	opened   []byte
	plain    []byte
}

func newLibraries(b *testing.B, frame []byte) *libraries {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	l := &libraries{b: b, digester: chunk.NewDigester([32]byte{}), memory: make([]byte, 16<<20), plain: make([]byte, chunk.FrameSize)}
	if l.aead, err = cipher.NewGCM(block); err != nil {
		b.Fatal(err)
	}
	l.compress(frame)
	return l
}

func (l *libraries) digest(f []byte) {
	for off := 0; off < len(f); off += benchDigest {
		l.digester.Sum(f[off : off+benchDigest])
	}
}

func (l *libraries) compress(f []byte) {
	l.payload = f
	if n, err := l.lz.CompressBlock(f, l.block[:]); err == nil && n > 0 {
		l.payload = l.block[:n]
	}
}

func (l *libraries) seal([]byte) {
	// Like a pack, the result takes memory that is not in the cache.
	if len(l.payload) > len(l.memory)-l.used-seal.Overhead {
		l.used = 0
	}
	l.sealed = l.aead.Seal(l.memory[l.used:l.used], l.nonce[:], l.payload, l.aad[:])
	l.used += len(l.sealed)
}

func (l *libraries) open([]byte) {
	var err error
	if l.opened, err = l.aead.Open(l.opened[:0], l.nonce[:], l.sealed, l.aad[:]); err != nil {
		l.b.Fatal(err)
	}
}

func (l *libraries) decompress([]byte) {
	if len(l.payload) == chunk.FrameSize {
		copy(l.plain, l.opened)
		return
	}
	if _, err := lz4.UncompressBlock(l.opened, l.plain); err != nil {
		l.b.Fatal(err)
	}
}

func (l *libraries) compare(f []byte) {
	if !bytes.Equal(l.plain, f) {
		l.b.Fatal("different")
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, data := range benchData {
		b.Run(name, func(b *testing.B) {
			data := data()
			s := spec{header: testHeader}
			for off := 0; off < len(data); off += benchChunk {
				s.sources = append(s.sources, source{data[off : off+benchChunk], benchInfo(off)})
			}
			object, stored := s.bytes(b, 1)
			k := testKeyring(b)
			toc, err := readTOC(k, object, stored)
			if err != nil {
				b.Fatal(err)
			}
			cipher, err := toc.Cipher(k)
			if err != nil {
				b.Fatal(err)
			}
			d, out := NewDecoder(), make([]byte, 0, benchChunk)
			defer cpuSpeed(b, benchChunk)()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				e := toc.Chunks[i%len(toc.Chunks)].Entry
				if out, err = d.Chunk(cipher, object, e, stored[e.Offset:e.Offset+e.Stored], out[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
