// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

const packSize = 32 << 20

// BenchmarkPut stores packs, one or several at a time. BenchmarkDisk is the
// yardstick: a plain write and fsync of a file of that size.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 4} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, err := Open(b.Context(), b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			data := objtest.Bytes(1, packSize)
			var body objstore.Body
			for n := 0; n < len(data); n += 64 << 10 {
				body = append(body, data[n:][:64<<10])
			}
			var serial atomic.Int64
			b.SetBytes(packSize)
			b.ReportAllocs()
			b.SetParallelism(max(1, writers/2)) // times GOMAXPROCS
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					name := fmt.Sprintf("packs/%d", serial.Add(1))
					if err := s.Put(b.Context(), name, body); err != nil {
						b.Error(err)
						return
					}
					if err := s.Delete(b.Context(), name); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkDisk(b *testing.B) {
	data := objtest.Bytes(1, packSize)
	dir := b.TempDir()
	b.SetBytes(packSize)
	for i := 0; b.Loop(); i++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
}
