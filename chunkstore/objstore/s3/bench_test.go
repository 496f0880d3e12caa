// SPDX-License-Identifier: Apache-2.0

package s3_test

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3test"
)

const packSize = 32 << 20

// BenchmarkPut and BenchmarkGet report what the client's own process spends;
// the server is another one, on the same machine.
func BenchmarkPut(b *testing.B) {
	s := benchStore(b)
	data := objtest.Bytes(1, packSize)
	var body objstore.Body
	for n := 0; n < len(data); n += 64 << 10 {
		body = append(body, data[n:][:64<<10])
	}
	b.SetBytes(packSize)
	start := cpu(b)
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprint(i)
		if err := s.Put(b.Context(), name, body); err != nil {
			b.Fatal(err)
		}
		if err := s.Delete(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
	report(b, start)
}

func BenchmarkGet(b *testing.B) {
	s := benchStore(b)
	if err := s.Put(b.Context(), "x", objstore.Body{objtest.Bytes(1, packSize)}); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	b.SetBytes(packSize)
	start := cpu(b)
	for b.Loop() {
		r, err := s.Get(b.Context(), "x", 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
	report(b, start)
}

func benchStore(b *testing.B) *s3.Store {
	b.Helper()
	server := s3test.Start(b)
	server.Setenv(b)
	s, err := s3.Open(b.Context(), server.URL("bench"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// cpu returns the time that this process has computed for.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func report(b *testing.B, start time.Duration) {
	spent := (cpu(b) - start).Seconds()
	b.ReportMetric(spent*1e3/(float64(b.N)*packSize/(1<<30)), "cpu-ms/GiB")
}
