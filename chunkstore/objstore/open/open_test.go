// SPDX-License-Identifier: Apache-2.0

package open

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3test"
)

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b", "repo")
	if s, err := Open(t.Context(), dir); err == nil || s != nil || !strings.Contains(err.Error(), "does not exist") {
		t.Fatalf("open of a missing folder: %v, %v", s, err)
	}
	s, err := Create(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "x", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(dir))
	for _, address := range []string{dir, "file://" + strings.ReplaceAll(dir, " ", "%20"), "file://localhost" + strings.ReplaceAll(dir, " ", "%20"), "repo", "./repo/"} {
		s, err := Open(t.Context(), address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if s.String() != dir {
			t.Errorf("%s opens %s", address, s)
		}
		if _, err := s.Stat(t.Context(), "x"); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		_ = s.Close()
	}
}

func TestS3(t *testing.T) {
	server := s3test.Start(t)
	server.Setenv(t)
	s, err := Open(t.Context(), server.URL("p"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := objtest.Bytes(1, 1000)
	if err := s.Put(t.Context(), "x", objstore.Body{data}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(server.Dir, "p", "x")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the bucket holds %d bytes, %v", len(got), err)
	}
	if s, err := Create(t.Context(), "s3://no-such-bucket/p"); err == nil || s != nil || !strings.Contains(err.Error(), "bucket no-such-bucket does not exist at "+server.Endpoint) {
		t.Errorf("a missing bucket: %v, %v", s, err)
	}
}

func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"":                    "empty",
		"gs://bucket":         "gs:// are not supported",
		"https://host/bucket": "https:// are not supported",
		"file://host/path":    "file:///path",
		"file:relative":       "does not exist",
		"s3://":               "names no bucket",
		"s3://key:secret@b/p": "names no bucket",
		"s3://bucket/../p":    "can't be used",
		file:                  "is not a folder",
		file + "/below":       "",
		"/no/such/folder":     "folder /no/such/folder does not exist",
	} {
		s, err := Open(t.Context(), address)
		if err == nil || s != nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %v, want %q", address, s, err, want)
		}
	}
}
