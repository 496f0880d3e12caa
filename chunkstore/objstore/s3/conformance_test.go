// SPDX-License-Identifier: Apache-2.0

package s3_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/retry"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3test"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Against a real server, each case in a prefix of its own, so that the prefix
// is tested with it.
func TestConformance(t *testing.T) {
	server := s3test.Start(t)
	server.Setenv(t)
	t.Run("bare", func(t *testing.T) {
		objtest.Run(t, func(t *testing.T) objstore.Store { return open(t, server, "bare/"+t.Name()) })
	})
	t.Run("retry", func(t *testing.T) {
		objtest.Run(t, func(t *testing.T) objstore.Store {
			return retry.Wrap(open(t, server, t.Name()+"/with blanks & ümlauts/"), retry.Policy{})
		})
	})
}

func open(t *testing.T, server *s3test.Server, prefix string) *s3.Store {
	t.Helper()
	s, err := s3.Open(t.Context(), server.URL(prefix))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
