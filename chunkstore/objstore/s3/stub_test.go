// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
	"github.com/tidemark-io/tidemark/chunkstore/objstore/objtest"
)

// stub returns a store whose server answers as the handler does: what a real
// server can't be brought to say.
func stub(t *testing.T, handler http.HandlerFunc) *Store {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", "Mon, 05 Jan 2026 03:04:05 GMT")
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	s, err := New(Config{
		Bucket: "bucket", Prefix: "pre/", Host: strings.TrimPrefix(server.URL, "http://"), Insecure: true, Region: "us-east-1",
		Credentials: credentials.NewStaticV4("key", "secret", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// S1: one conditional PUT with a cheap checksum, at any size.
func TestPutRequest(t *testing.T) {
	body := objstore.Body{objtest.Bytes(1, 17<<20), objtest.Bytes(2, 9)}
	requests := 0
	s := stub(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, body.Bytes()) {
			t.Errorf("the body holds %d bytes, %v", len(got), err)
		}
		if r.Method != http.MethodPut || r.URL.Path != "/bucket/pre/a/b" || r.URL.RawQuery != "" || r.ContentLength != body.Len() {
			t.Errorf("%s %s of %d bytes", r.Method, r.URL, r.ContentLength)
		}
		for header, want := range map[string]string{
			"If-None-Match": "*", "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD", "Content-Md5": "", "X-Amz-Checksum-Crc32c": checksum(body),
			"X-Amz-Trailer": "", "Content-Encoding": "",
		} {
			if got := r.Header.Get(header); got != want {
				t.Errorf("%s: %q, want %q", header, got, want)
			}
		}
		if auth := r.Header.Get("Authorization"); !strings.Contains(auth, "if-none-match;") || !strings.Contains(auth, "x-amz-checksum-crc32c;") {
			t.Errorf("the condition or the checksum isn't signed: %s", auth)
		}
	})
	if err := s.Put(t.Context(), "a/b", body); err != nil || requests != 1 {
		t.Errorf("put: %v after %d requests", err, requests)
	}
}

// The sum of RFC 3720's example, as AWS writes it.
func TestChecksum(t *testing.T) {
	if got := checksum(objstore.Body{[]byte("1234"), nil, []byte("56789")}); got != "4waSgw==" {
		t.Errorf("checksum %s", got)
	}
}

func TestAnswersAreClassed(t *testing.T) {
	tests := []struct {
		op     string
		status int
		code   string
		class  objstore.Class
		says   string
	}{
		{"put", 412, "PreconditionFailed", objstore.Exists, "exists already"},
		{"put", 412, "", objstore.Exists, ""},
		{"put", 409, "ConditionalRequestConflict", objstore.Retryable, ""},
		{"put", 409, "OperationAborted", objstore.Retryable, ""},
		{"put", 409, "BucketAlreadyExists", objstore.Permanent, "409"},
		{"put", 400, "BadDigest", objstore.Retryable, ""},
		{"put", 400, "RequestTimeout", objstore.Retryable, ""},
		{"put", 400, "InvalidArgument", objstore.Permanent, "InvalidArgument"},
		{"put", 501, "NotImplemented", objstore.Permanent, "conditional create"},
		{"put", 507, "XMinioStorageFull", objstore.Full, "full"},
		{"put", 403, "QuotaExceeded", objstore.Full, "quota"},
		{"put", 403, "AccessDenied", objstore.Denied, "access to bucket bucket denied"},
		{"get", 412, "PreconditionFailed", objstore.Permanent, ""},
		{"get", 404, "NoSuchKey", objstore.NotExist, "does not exist"},
		{"get", 404, "", objstore.NotExist, ""},
		{"get", 404, "NoSuchBucket", objstore.Permanent, "bucket bucket does not exist at http://127.0.0.1:"},
		{"stat", 404, "NoSuchBucket", objstore.Permanent, "bucket bucket does not exist"},
		{"stat", 404, "NoSuchKey", objstore.NotExist, ""},
		{"delete", 404, "NoSuchBucket", objstore.Permanent, ""},
		{"list", 404, "NoSuchBucket", objstore.Permanent, "bucket bucket does not exist"},
		{"get", 403, "AccessDenied", objstore.Denied, "s3:ListBucket"},
		{"get", 403, "InvalidAccessKeyId", objstore.Denied, ""},
		{"get", 403, "SignatureDoesNotMatch", objstore.Denied, ""},
		{"get", 403, "RequestTimeTooSkewed", objstore.Permanent, "clock"},
		{"get", 401, "", objstore.Denied, ""},
		{"get", 503, "SlowDown", objstore.Retryable, ""},
		{"get", 500, "InternalError", objstore.Retryable, ""},
		{"get", 502, "", objstore.Retryable, "502"},
		{"get", 504, "", objstore.Retryable, ""},
		{"get", 429, "", objstore.Retryable, ""},
		{"get", 408, "", objstore.Retryable, ""},
		{"get", 301, "PermanentRedirect", objstore.Permanent, "it is in eu-north-1: set AWS_REGION"},
		{"get", 400, "AuthorizationHeaderMalformed", objstore.Permanent, "eu-north-1"},
		{"list", 503, "SlowDown", objstore.Retryable, ""},
		{"delete", 503, "SlowDown", objstore.Retryable, ""},
		{"stat", 503, "", objstore.Retryable, ""},
		{"stat", 403, "", objstore.Denied, ""},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %d %s", tt.op, tt.status, tt.code), func(t *testing.T) {
			s := stub(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("X-Amz-Bucket-Region", "eu-north-1")
				w.WriteHeader(tt.status)
				if tt.code != "" && r.Method != http.MethodHead {
					fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>Sorry.</Message></Error>`, tt.code)
				}
			})
			err := call(t.Context(), s, tt.op)
			if objstore.ClassOf(err) != tt.class || err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, of class %s, want %s and %q", err, objstore.ClassOf(err), tt.class, tt.says)
			}
		})
	}
}

func call(ctx context.Context, s objstore.Store, op string) (err error) {
	switch op {
	case "put":
		return s.Put(ctx, "x", objstore.Body{[]byte("body")})
	case "get":
		_, err = s.Get(ctx, "x", 0, -1)
	case "stat":
		_, err = s.Stat(ctx, "x")
	case "delete":
		return s.Delete(ctx, "x")
	case "list":
		return s.List(ctx, "", func(objstore.Info) error { return nil })
	}
	return err
}

// I5: whatever a server sends for a range, a reader is exact or breaks.
func TestOddRanges(t *testing.T) {
	const data = "0123456789"
	tests := []struct {
		name         string
		off, n       int64
		status       int
		contentRange string
		body         string
		missing      int // bytes that the server announces and doesn't send
		want         string
		err          error
		class        objstore.Class
	}{
		{name: "exact", off: 2, n: 3, status: 206, contentRange: "bytes 2-4/10", body: "234", want: "234"},
		{name: "ignored from the start", n: 3, status: 200, body: data, want: "012"},
		{name: "ignored", off: 2, n: 3, status: 200, body: data, err: objstore.ErrUnsuitable},
		{name: "clipped", off: 8, n: 5, status: 206, contentRange: "bytes 8-9/10", body: "89", err: objstore.ErrShort},
		{name: "clipped at the start", n: 11, status: 206, contentRange: "bytes 0-9/10", body: data, err: objstore.ErrShort},
		{name: "ignored and short", n: 11, status: 200, body: data, err: objstore.ErrShort},
		{name: "elsewhere", off: 2, n: 3, status: 206, contentRange: "bytes 3-5/10", body: "345"},
		{name: "too much", off: 2, n: 3, status: 206, contentRange: "bytes 2-9/10", body: "23456789"},
		{name: "nonsense", off: 2, n: 3, status: 206, contentRange: "bytes x", body: "234"},
		{name: "cut", off: 2, n: 3, status: 206, contentRange: "bytes 2-4/10", body: "2", missing: 2, err: io.ErrUnexpectedEOF, class: objstore.Retryable},
		{name: "cut whole", n: -1, status: 200, body: data, missing: 90, err: io.ErrUnexpectedEOF, class: objstore.Retryable},
		{name: "whole", n: -1, status: 200, body: data, want: data},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := stub(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.contentRange != "" {
					w.Header().Set("Content-Range", tt.contentRange)
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(tt.body)+tt.missing))
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
				breakOff(w, tt.missing)
			})
			var got []byte
			r, err := s.Get(t.Context(), "x", tt.off, tt.n)
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			switch {
			case tt.want != "" && (err != nil || string(got) != tt.want):
				t.Errorf("%q, %v", got, err)
			case tt.want == "" && (err == nil || objstore.ClassOf(err) != tt.class || tt.err != nil && !errors.Is(err, tt.err)):
				t.Errorf("%q, %v, want an error of class %s", got, err, tt.class)
			}
		})
	}
}

// breakOff ends a connection whose body isn't complete.
func breakOff(w http.ResponseWriter, missing int) {
	if missing == 0 {
		return
	}
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// Without a length, nobody could tell a whole body from a cut one.
func TestNoLength(t *testing.T) {
	s := stub(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "some")
		w.(http.Flusher).Flush()
	})
	if _, err := s.Get(t.Context(), "x", 0, -1); err == nil || objstore.ClassOf(err) != objstore.Permanent {
		t.Errorf("get: %v", err)
	}
}

// A connection that breaks before the answer.
func TestNoAnswer(t *testing.T) {
	s := stub(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1000)
		panic(http.ErrAbortHandler)
	})
	for _, op := range []string{"put", "get", "stat", "list", "delete"} {
		if err := call(t.Context(), s, op); objstore.ClassOf(err) != objstore.Retryable || err == nil {
			t.Errorf("%s: %v", op, err)
		}
	}
	if err := s.Put(t.Context(), "x", objstore.Body{make([]byte, 8<<20)}); objstore.ClassOf(err) != objstore.Retryable || err == nil {
		t.Errorf("large put: %v", err)
	}
}

func TestCancelDuringPut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := stub(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel() // the request has come, its answer never will
		<-r.Context().Done()
	})
	err := s.Put(ctx, "x", objstore.Body{make([]byte, 1<<20)})
	if objstore.ClassOf(err) != objstore.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
}

// What isn't ours in the bucket isn't listed.
func TestListForeign(t *testing.T) {
	s := stub(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("prefix"); got != "pre/a" {
			t.Errorf("prefix %q", got)
		}
		_, _ = io.WriteString(w, `<ListBucketResult><IsTruncated>false</IsTruncated>`)
		for _, key := range []string{"pre/a", "pre/a/", "pre/a//b", "other/a", "pre/a/../b", "pre/a/c"} {
			fmt.Fprintf(w, `<Contents><Key>%s</Key><Size>3</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents>`, key)
		}
		_, _ = io.WriteString(w, `</ListBucketResult>`)
	})
	var names []string
	err := s.List(t.Context(), "a", func(i objstore.Info) error { names = append(names, i.Name); return nil })
	if err != nil || strings.Join(names, " ") != "a a/c" {
		t.Errorf("%q, %v", names, err)
	}
}
