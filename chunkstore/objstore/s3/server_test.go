// SPDX-License-Identifier: Apache-2.0

package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/retry"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/s3test"
)

// What people get wrong first, and what they are told.
func TestOpenErrors(t *testing.T) {
	server := s3test.Start(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	tests := []struct {
		name, bucket string
		env          map[string]string
		class        objstore.Class
		says         string
	}{
		{name: "missing bucket", bucket: "nobucket", class: objstore.Permanent, says: "bucket nobucket does not exist at " + server.Endpoint},
		{name: "unknown key", env: map[string]string{"AWS_ACCESS_KEY_ID": "wrong"}, class: objstore.Denied, says: "denied"},
		{name: "wrong secret", env: map[string]string{"AWS_SECRET_ACCESS_KEY": "wrong"}, class: objstore.Denied, says: "denied"},
		{name: "no server", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "http://" + closed.Addr().String()}, class: objstore.Unreachable, says: "no connection to http://127.0.0.1"},
		{name: "no host", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "http://no-such-host.invalid"}, class: objstore.Unreachable, says: "host of http://no-such-host.invalid not found"},
		{name: "TLS asked of a plain server", env: map[string]string{"TIDEMARK_S3_ENDPOINT": strings.TrimPrefix(server.Endpoint, "http://")}, class: objstore.Permanent, says: "write http://"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server.Setenv(t)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			if tt.bucket == "" {
				tt.bucket = server.Bucket
			}
			s, err := s3.Open(t.Context(), "s3://"+tt.bucket+"/p")
			if err == nil {
				// HEAD doesn't tell a wrong key from a narrow policy; the first read does.
				_, err = s.Get(t.Context(), "config", 0, -1)
				_ = s.Close()
			}
			if err == nil || objstore.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), server.SecretKey) {
				t.Errorf("%v, of class %s, want %s and %q", err, objstore.ClassOf(err), tt.class, tt.says)
			}
		})
	}
}

func TestNoCredentials(t *testing.T) {
	server := s3test.Start(t)
	server.Setenv(t)
	withoutKeys(t)
	_, err := s3.Open(t.Context(), server.URL(""))
	if objstore.ClassOf(err) != objstore.Denied || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") {
		t.Errorf("open: %v", err)
	}
}

// withoutKeys takes everything that might be a credential out of reach,
// including the instance's identity service.
func withoutKeys(t *testing.T) {
	t.Helper()
	for _, k := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
		t.Setenv(k, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/none")
}

// The shared credentials file with a profile, and the region asked of the bucket.
func TestProfileAndRegion(t *testing.T) {
	server := s3test.Start(t)
	server.Setenv(t)
	withoutKeys(t)
	file := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = no\naws_secret_access_key = no\n[backup]\naws_access_key_id = %s\naws_secret_access_key = %s\n", server.AccessKey, server.SecretKey)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_PROFILE", "backup")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	s, err := s3.Open(t.Context(), server.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := objstore.Probe(t.Context(), s, ""); err != nil {
		t.Error(err)
	}
}

// A bucket that is deleted under us makes no object look absent (I6).
func TestBucketVanishes(t *testing.T) {
	server := s3test.Start(t)
	server.Setenv(t)
	s := open(t, server, "p")
	defer s.Close()
	if err := os.RemoveAll(server.Dir); err != nil {
		t.Fatal(err)
	}
	_, statErr := s.Stat(t.Context(), "x")
	_, getErr := s.Get(t.Context(), "x", 0, -1)
	listErr := s.List(t.Context(), "", func(objstore.Info) error { return nil })
	for _, err := range []error{statErr, getErr, listErr, s.Put(t.Context(), "x", nil), s.Delete(t.Context(), "x")} {
		if err == nil || objstore.ClassOf(err) != objstore.Permanent || !strings.Contains(err.Error(), "does not exist at") {
			t.Errorf("%v, of class %s", err, objstore.ClassOf(err))
		}
	}
}

// tamperer changes a byte of the first bodies that pass.
type tamperer struct {
	*http.Transport
	left atomic.Int32
}

func (t *tamperer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut && t.left.Add(-1) >= 0 {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		data[len(data)/2] ^= 1
		r.Body = io.NopCloser(bytes.NewReader(data))
	}
	return t.Transport.RoundTrip(r)
}

// What is damaged on the way is refused by the store, sent again, and right.
func TestDamagedOnTheWay(t *testing.T) {
	server := s3test.Start(t)
	server.Setenv(t)
	c, err := s3.FromEnv(server.URL("p"), os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	damage := &tamperer{Transport: &http.Transport{}}
	damage.left.Store(1)
	c.Transport = damage
	s, err := s3.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	body := objstore.Body{objtest.Bytes(1, 1<<20)}
	if err := s.Put(t.Context(), "x", body); objstore.ClassOf(err) != objstore.Retryable || err == nil {
		t.Fatalf("damaged put: %v", err)
	}
	if _, err := s.Stat(t.Context(), "x"); !errors.Is(err, objstore.ErrNotExist) {
		t.Errorf("a damaged object is there: %v", err)
	}
	damage.left.Store(2)
	if err := retry.Wrap(s, retry.Policy{Initial: time.Millisecond}).Put(t.Context(), "x", body); err != nil {
		t.Fatal(err)
	}
	if same, err := objstore.Same(t.Context(), s, "x", body); err != nil || !same {
		t.Errorf("the object differs: %v, %v", same, err)
	}
}

// A server that dies in the middle of things: calls fail as passing or as
// unreachable, and nobody waits for ever.
func TestServerDies(t *testing.T) {
	server := s3test.Start(t)
	server.Setenv(t)
	s := open(t, server, "p")
	defer s.Close()
	data := objtest.Bytes(1, 24<<20)
	if err := s.Put(t.Context(), "x", objstore.Body{data}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), "x", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	n, err := io.Copy(io.Discard, r)
	if objstore.ClassOf(err) != objstore.Retryable || n >= int64(len(data)) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	err = s.Put(t.Context(), "y", objstore.Body{data})
	if c := objstore.ClassOf(err); err == nil || c != objstore.Unreachable && c != objstore.Retryable {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Stat(t.Context(), "x"); !errors.Is(err, objstore.ErrUnreachable) {
		t.Errorf("stat: %v", err)
	}
}

// More than one page of a list.
func TestLongList(t *testing.T) {
	server := s3test.Start(t)
	server.Setenv(t)
	dir := filepath.Join(server.Dir, "p", "many")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const objects = 2500
	for i := range objects { // the server's back end shows files as objects
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d", i)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, server, "p")
	defer s.Close()
	seen := map[string]bool{}
	err := s.List(t.Context(), "many/", func(i objstore.Info) error { seen[i.Name] = true; return nil })
	if err != nil || len(seen) != objects {
		t.Errorf("%d objects listed, %v", len(seen), err)
	}
}
