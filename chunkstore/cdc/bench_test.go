// SPDX-License-Identifier: Apache-2.0

package cdc

import (
	"math/rand/v2"
	"testing"
)

var benchParams = map[string]Params{
	"rabin-18-256K-1M":    Default(testPol),
	"rabin-18-64K-1M":     {Rabin, testPol, 18, 64 << 10, 1 << 20},
	"aligned-18-256K-1M":  {Aligned, 0, 18, 256 << 10, 1 << 20},
	"aligned-16-64K-256K": {Aligned, 0, 16, 64 << 10, 256 << 10},
}

func benchData() []byte {
	data := make([]byte, 64<<20)
	fill(rand.New(rand.NewPCG(5, 6)), data)
	return data
}

// BenchmarkScan is what a worker does.
func BenchmarkScan(b *testing.B) {
	data := benchData()
	for name, p := range benchParams {
		b.Run(name, func(b *testing.B) {
			scanner := p.NewScanner()
			var cuts Cuts
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				for base := 0; base < len(data); base += 4 << 20 {
					scanner.Scan(data[base:base+4<<20], &cuts)
				}
			}
		})
	}
}

// BenchmarkStitch is what all workers' blocks go through one after the other, in blocks of 4 MiB: the ceiling of the
// whole.
func BenchmarkStitch(b *testing.B) {
	data := benchData()
	for name, p := range benchParams {
		b.Run(name, func(b *testing.B) {
			scanner, stitcher := p.NewScanner(), NewStitcher(&p)
			var cuts Cuts
			b.SetBytes(4 << 20)
			b.ReportAllocs()
			base := 0
			for b.Loop() {
				b.StopTimer()
				block := data[base : base+4<<20]
				base = (base + 4<<20) % len(data)
				scanner.Scan(block, &cuts)
				b.StartTimer()
				if err := stitcher.Next(block, &cuts, func(int) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
