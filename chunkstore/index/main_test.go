// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
	"github.com/tidemark-io/tidemark/chunkstore/pack"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) {
	if task := os.Getenv(childEnv); task != "" {
		if err := runChild(context.Background(), task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var testKey = [32]byte{1, 2, 3}

// fastDir is a directory on memory where there is one: property tests sync
// thousands of times.
func fastDir(t interface {
	Helper()
	Fatal(...any)
	Cleanup(func())
},
) string {
	t.Helper()
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "tidemark-index-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// testPack is one of a fixed sequence of packs.
func testPack(n int) PackID {
	return PackID{
		Session: uint64(n / 7), Seq: uint32(n % 7), Size: maxPackSize - uint32(n%5),
		Hash: sha256.Sum256([]byte{byte(n), byte(n >> 8)}), Class: chunk.Class(1 + n%3),
	}
}

// testID is one of a fixed sequence of ids: half are uniform, as real ones
// are; the others crowd together, which interpolation must survive.
func testID(n int) (id chunk.ID) {
	switch n % 4 {
	case 0, 1:
		return sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(n)))
	case 2:
		binary.BigEndian.PutUint32(id[28:], uint32(n))
	case 3:
		for i := range id {
			id[i] = 0xff
		}
		binary.BigEndian.PutUint32(id[8:], uint32(n))
	}
	return id
}

// testLocation is where the fixed chunk n lies in the fixed pack p: the same
// whenever asked, as in a repository.
func testLocation(n, p int) Location {
	h := sha256.Sum256(fmt.Appendf(nil, "%d in %d", n, p))
	u := binary.LittleEndian.Uint32
	return Location{Pack: testPack(p), Entry: pack.Entry{
		ID: testID(n), Offset: packHeaderSize + u(h[:])%(64<<20), Stored: 1 + u(h[4:])%(8<<20),
		Frame: u(h[8:]), Plain: 1 + u(h[12:])%maxPlain,
	}}
}

// testLocations draws up to most locations of few chunks and packs, so that
// they meet others' again; sometimes one chunk lies in hundreds of packs.
func testLocations(seed uint64, most int) []Location {
	r := rand.New(rand.NewPCG(seed, 1))
	seen := map[[2]int]bool{}
	chunks, packs := 1+r.IntN(3*most+1), 1+r.IntN(20)
	if r.IntN(4) == 0 {
		chunks, packs = 1+r.IntN(3), 300
	}
	locs := []Location{}
	for range r.IntN(most + 1) {
		at := [2]int{r.IntN(chunks), r.IntN(packs)}
		if !seen[at] {
			seen[at] = true
			locs = append(locs, testLocation(at[0], at[1]))
		}
	}
	return locs
}

func mustSegment(t testing.TB, locs []Location) []byte {
	t.Helper()
	b, err := EncodeSegment(slices.Clone(locs))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustOpen(t testing.TB, dir string) *Cache {
	t.Helper()
	c, err := OpenCache(dir, testKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// all returns what Each yields.
func all(ctx context.Context, c *Cache) ([]Location, error) {
	locs := []Location{}
	err := c.Each(ctx, func(l Location) error {
		locs = append(locs, l)
		return nil
	})
	return locs, err
}

func sorted(locs []Location) []Location {
	locs = slices.Clone(locs)
	slices.SortFunc(locs, func(a, b Location) int { return a.compare(&b) })
	return slices.Compact(locs)
}
