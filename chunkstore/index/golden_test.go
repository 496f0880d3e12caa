// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden compares bytes with a dump in testdata, from which lines of zeros are
// left out.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	var dump strings.Builder
	for line := range strings.Lines(hex.Dump(b)) {
		if !strings.Contains(line, strings.Repeat("00 ", 8)+" "+strings.Repeat("00 ", 8)) {
			dump.WriteString(line)
		}
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(dump.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), dump.String()); diff != "" {
		t.Error(diff)
	}
}

func TestSegmentGolden(t *testing.T) {
	golden(t, "segment-1.hex", mustSegment(t, []Location{testLocation(2, 9), testLocation(0, 1), testLocation(2, 1)}))
}

func TestManifestGolden(t *testing.T) {
	c := &Cache{key: newPageKey(testKey)}
	golden(t, "manifest-1.hex", encodeManifest(c.manifestNamer(), []tableID{{1, 2}, {0xfe, 15: 3}}))
}

func TestTableGolden(t *testing.T) {
	seg, err := DecodeSegment("s", mustSegment(t, []Location{testLocation(2, 9), testLocation(0, 1), testLocation(2, 1)}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "t")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	name := testID(1)
	tab, err := buildTable(newPageKey(testKey), tableID{1, 2, 15: 9}, f, func(w *tableWriter) error {
		return writeSegment(t.Context(), w, &name, seg)
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err := errors.Join(err, tab.close()); err != nil {
		t.Fatal(err)
	}
	golden(t, "table-1.hex", b)
}
