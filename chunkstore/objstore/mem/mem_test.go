// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"bytes"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

func TestConformance(t *testing.T) {
	objtest.Run(t, func(*testing.T) objstore.Store { return New() })
}

func TestCloneAndTamper(t *testing.T) {
	when := time.Unix(1_700_000_000, 5)
	s := NewAt(func() time.Time { return when })
	if err := s.Put(t.Context(), "a", objstore.Body{[]byte("one")}); err != nil {
		t.Fatal(err)
	}
	c := s.Clone()
	if !s.Tamper("a", func(p []byte) []byte { p[0] ^= 0xff; return p }) || s.Tamper("b", bytes.Clone) {
		t.Error("Tamper should find a and not b")
	}
	if err := s.Put(t.Context(), "b", nil); err != nil {
		t.Fatal(err)
	}
	if got := c.Objects(); len(got) != 1 {
		t.Errorf("clone has %v, want only a", got)
	}
	got, err := objstore.ReadAll(t.Context(), c, "a", 3)
	if err != nil || string(got) != "one" {
		t.Errorf("clone reads %q, %v", got, err)
	}
	info, err := c.Stat(t.Context(), "a")
	if err != nil || !info.Modified.Equal(when) {
		t.Errorf("stat: %+v, %v", info, err)
	}
}
