// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/minio/minio-go/v7"
)

func TestFromEnv(t *testing.T) {
	tests := []struct {
		name, address string
		env           map[string]string
		want          Config
		err           string
	}{
		{name: "amazon", address: "s3://b", want: Config{Bucket: "b", Host: "s3.amazonaws.com"}},
		{
			name: "prefix and region", address: "s3://b/some/prefix/", env: map[string]string{"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "no"},
			want: Config{Bucket: "b", Prefix: "some/prefix/", Host: "s3.amazonaws.com", Region: "eu-west-1"},
		},
		{
			name: "our endpoint wins", address: "s3://b/p", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "minio.example:9000", "AWS_ENDPOINT_URL_S3": "https://no", "AWS_ENDPOINT_URL": "https://no"},
			want: Config{Bucket: "b", Prefix: "p/", Host: "minio.example:9000"},
		},
		{
			name: "the service's endpoint", address: "s3://b", env: map[string]string{"AWS_ENDPOINT_URL_S3": "https://s3.example/", "AWS_ENDPOINT_URL": "https://no", "AWS_DEFAULT_REGION": "garage"},
			want: Config{Bucket: "b", Host: "s3.example", Region: "garage"},
		},
		{
			name: "plain http where written", address: "s3://b", env: map[string]string{"AWS_ENDPOINT_URL": "http://s3.example"},
			want: Config{Bucket: "b", Host: "s3.example", Insecure: true},
		},
		{
			name: "an address has path style", address: "s3://b", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "http://[::1]:9000"},
			want: Config{Bucket: "b", Host: "[::1]:9000", Insecure: true, Lookup: minio.BucketLookupPath},
		},
		{
			name: "localhost has path style", address: "s3://b", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "localhost:9000"},
			want: Config{Bucket: "b", Host: "localhost:9000", Lookup: minio.BucketLookupPath},
		},
		{
			name: "style given", address: "s3://b", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "http://127.0.0.1", "TIDEMARK_S3_PATH_STYLE": "false"},
			want: Config{Bucket: "b", Host: "127.0.0.1", Insecure: true, Lookup: minio.BucketLookupDNS},
		},
		{
			name: "path style given", address: "s3://b", env: map[string]string{"TIDEMARK_S3_PATH_STYLE": "1"},
			want: Config{Bucket: "b", Host: "s3.amazonaws.com", Lookup: minio.BucketLookupPath},
		},
		{name: "bad style", address: "s3://b", env: map[string]string{"TIDEMARK_S3_PATH_STYLE": "perhaps"}, err: "neither true nor false"},
		{name: "google", address: "s3://b", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "https://storage.googleapis.com"}, err: "conditional create"},
		{name: "endpoint with a path", address: "s3://b", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "https://host/path"}, err: "https://host:port"},
		{name: "endpoint with a password", address: "s3://b", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "https://key:geheim@host"}, err: "https://host:port"},
		{name: "other scheme", address: "s3://b", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "ftp://host"}, err: "neither https:// nor http://"},
		{name: "no host", address: "s3://b", env: map[string]string{"TIDEMARK_S3_ENDPOINT": "https://:9000"}, err: "https://host:port"},
		{name: "no bucket", address: "s3:///p", err: "names no bucket"},
		{name: "not s3", address: "bucket/p", err: "no address of a bucket"},
		{name: "keys in the address", address: "s3://key:geheim@b/p", err: "names no bucket"},
		{name: "bad prefix", address: "s3://b/a//b", err: "can't be used"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := FromEnv(tt.address, func(k string) string { return tt.env[k] })
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "geheim") {
					t.Errorf("%v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Credentials == nil {
				t.Error("no credentials chain")
			}
			if d := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Config{}, "Credentials")); d != "" {
				t.Errorf("config (-want +got):\n%s", d)
			}
		})
	}
}
