// SPDX-License-Identifier: Apache-2.0

package meter

import (
	"context"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/mem"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

func TestConformance(t *testing.T) {
	objtest.Run(t, func(*testing.T) objstore.Store { return Wrap(mem.New()) })
}

func TestCounts(t *testing.T) {
	ctx := t.Context()
	s := Wrap(mem.New())
	_ = s.Put(ctx, "a", objstore.Body{make([]byte, 10), make([]byte, 5)})
	_ = s.Put(ctx, "a", objstore.Body{make([]byte, 99)}) // refused: not counted as stored
	_, _ = objstore.ReadAll(ctx, s, "a", 100)
	_, _ = objstore.ReadRange(ctx, s, "a", 3, 4)
	_, _ = s.Stat(ctx, "none")
	_ = s.List(ctx, "", func(objstore.Info) error { return nil })
	_ = s.Delete(ctx, "a")
	canceled, cancel := context.WithCancel(ctx)
	_ = s.Put(ctx, "b", objstore.Body{make([]byte, 7)})
	r, err := s.Get(canceled, "b", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range 3 { // a broken reader is one failure
		_, _ = io.ReadAll(r)
	}
	want := Counts{Puts: 3, Gets: 3, Stats: 1, Lists: 1, Deletes: 1, Failures: 3, PutBytes: 22, GetBytes: 19, Listed: 1}
	if d := cmp.Diff(want, s.Counts()); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
}
