// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/tidemark-io/tidemark/chunkstore/chunk"
)

// The version is part of the names, so that a newer program with another
// format can use the same directory without ever touching these.
const (
	lockFile     = "lock"
	manifestFile = "manifest-1"
	manifestTemp = "manifest-1.tmp"
	tableSuffix  = ".table-1"
)

const (
	manifestMagic   = "TDXM"
	manifestVersion = 1
	manifestHeader  = 12
	manifestMost    = 1 << 16 // tables; far beyond what merging leaves
)

func tablePath(dir string, id tableID) string { return filepath.Join(dir, id.String()+tableSuffix) }

// manifestSum is kept apart from names of segments, which share the key, by
// its prefix.
func manifestSum(namer *chunk.Namer, b []byte) chunk.ID {
	return namer.Name(append([]byte("manifest\x00"), b...))
}

func encodeManifest(namer *chunk.Namer, ids []tableID) []byte {
	b := append([]byte(manifestMagic), manifestVersion, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(ids)))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	sum := manifestSum(namer, b)
	return append(b, sum[:]...)
}

func decodeManifest(namer *chunk.Namer, path string, b []byte) ([]tableID, error) {
	damage := func(offset int, format string, args ...any) error {
		return &DamageError{Path: path, Offset: int64(offset), Detail: fmt.Sprintf(format, args...)}
	}
	const sumSize = len(chunk.ID{})
	if len(b) < manifestHeader+sumSize {
		return nil, damage(0, "manifest has %d bytes, expected at least %d", len(b), manifestHeader+sumSize)
	}
	body := b[:len(b)-sumSize]
	if want := manifestSum(namer, body); !bytes.Equal(b[len(body):], want[:]) {
		return nil, damage(len(body), "manifest digest is %x, expected %s", b[len(body):], want)
	}
	if !bytes.Equal(body[:8], []byte{'T', 'D', 'X', 'M', manifestVersion, 0, 0, 0}) {
		return nil, damage(0, "manifest begins with %x", body[:8])
	}
	n := uint64(binary.LittleEndian.Uint32(body[8:]))
	if n > manifestMost || uint64(len(body)) != manifestHeader+n*16 {
		return nil, damage(8, "manifest has %d bytes for %d tables", len(b), n)
	}
	ids := make([]tableID, n)
	for i := range ids {
		ids[i] = tableID(body[manifestHeader+i*16:])
		if slices.Contains(ids[:i], ids[i]) {
			return nil, damage(manifestHeader+i*16, "manifest names table %s twice", ids[i])
		}
	}
	return ids, nil
}

// readManifest returns the tables in force; none when there is no manifest.
func (c *Cache) readManifest() ([]tableID, error) {
	path := filepath.Join(c.dir, manifestFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read local index manifest: %w", err)
	}
	return decodeManifest(c.manifestNamer(), path, b)
}

// writeManifest makes these tables the ones in force, durably. Callers hold
// the lock, and the tables are synced (X2).
func (c *Cache) writeManifest(ids []tableID) error {
	// The tables' own names must be durable before anything relies on them.
	if err := syncDir(c.dir); err != nil {
		return err
	}
	temp := filepath.Join(c.dir, manifestTemp)
	if err := writeSynced(temp, encodeManifest(c.manifestNamer(), ids)); err != nil {
		return err
	}
	c.step("manifest written")
	if err := os.Rename(temp, filepath.Join(c.dir, manifestFile)); err != nil {
		return fmt.Errorf("publish local index manifest: %w", err)
	}
	c.step("manifest renamed")
	return syncDir(c.dir)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write local index manifest: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write local index manifest: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync local index directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync local index directory: %w", err)
	}
	return nil
}

func (c *Cache) manifestNamer() *chunk.Namer { return chunk.NewNamer(c.key.key) }
