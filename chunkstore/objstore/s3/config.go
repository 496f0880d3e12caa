// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tidemark-io/tidemark/chunkstore/objstore"
)

const amazonHost = "s3.amazonaws.com"

// metadataTimeout bounds one question to a cloud's identity service, which
// simply doesn't answer on a machine outside of it.
const metadataTimeout = 5 * time.Second

// Config says where a bucket is and how to get at it.
type Config struct {
	Bucket string
	// Prefix is put before every object's name: empty, or ending with a slash.
	Prefix string
	// Host is that of the endpoint, with the port if it isn't the usual one.
	Host string
	// Insecure asks for plain HTTP.
	Insecure bool
	// Region is asked from the bucket if it is empty.
	Region string
	// Lookup says where the bucket's name goes in a URL.
	Lookup      minio.BucketLookupType
	Credentials *credentials.Credentials
	// Transport is used instead of the package's own, if set.
	Transport http.RoundTripper
}

// FromEnv completes s3://bucket/prefix by what getenv (os.Getenv) knows; the
// package doc lists the variables. The credentials themselves are looked up in
// the process's environment and files when they are first needed.
func FromEnv(address string, getenv func(string) string) (Config, error) {
	var c Config
	err := errors.Join(c.parseAddress(address), c.parseEndpoint(first(getenv, "TIDEMARK_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")),
		c.parseStyle(getenv("TIDEMARK_S3_PATH_STYLE")))
	if err != nil {
		return Config{}, &objstore.Error{Op: "open", Err: err}
	}
	c.Region = first(getenv, "AWS_REGION", "AWS_DEFAULT_REGION")
	c.Credentials = credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{},
		&credentials.FileAWSCredentials{},
		&credentials.IAM{Client: &http.Client{Timeout: metadataTimeout}, Region: c.Region},
	})
	return c, nil
}

func first(getenv func(string) string, keys ...string) string {
	for _, k := range keys {
		if v := getenv(k); v != "" {
			return v
		}
	}
	return ""
}

func (c *Config) parseAddress(address string) error {
	rest, ok := strings.CutPrefix(address, "s3://")
	if !ok {
		return fmt.Errorf("%q is no address of a bucket: want s3://bucket/prefix", address)
	}
	// Not by package url: a prefix may hold what a URL would have to escape.
	bucket, prefix, _ := strings.Cut(rest, "/")
	if bucket == "" || strings.ContainsAny(bucket, "@:?#") {
		return fmt.Errorf("%q names no bucket: want s3://bucket/prefix, and keys and endpoint in the environment", redact(address))
	}
	c.Bucket = bucket
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		return nil
	}
	if err := objstore.CheckName("open", prefix); err != nil {
		return fmt.Errorf("the prefix of %q can't be used: %w", address, errors.Unwrap(err))
	}
	c.Prefix = prefix + "/"
	return nil
}

// redact hides what somebody wrote before an @, where a password might be.
func redact(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return "s3://…" + address[i:]
	}
	return address
}

func (c *Config) parseEndpoint(endpoint string) error {
	if endpoint == "" {
		c.Host = amazonHost
		return nil
	}
	full := endpoint
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(full)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return errors.New("the S3 endpoint in the environment is not of the form https://host:port")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("the S3 endpoint %q is neither https:// nor http://", endpoint)
	case strings.HasSuffix(u.Hostname(), "storage.googleapis.com"):
		return fmt.Errorf("%w: %s offers no conditional create (If-None-Match) by the S3 protocol", objstore.ErrUnsuitable, u.Hostname())
	}
	c.Host, c.Insecure = u.Host, u.Scheme == "http"
	if isLocal(u.Hostname()) {
		c.Lookup = minio.BucketLookupPath
	}
	return nil
}

// isLocal tells hosts that can't have a name for each bucket.
func isLocal(host string) bool { return host == "localhost" || net.ParseIP(host) != nil }

func (c *Config) parseStyle(style string) error {
	if style == "" {
		return nil
	}
	path, err := strconv.ParseBool(style)
	switch {
	case err != nil:
		return fmt.Errorf("TIDEMARK_S3_PATH_STYLE is %q, neither true nor false", style)
	case path:
		c.Lookup = minio.BucketLookupPath
	default:
		c.Lookup = minio.BucketLookupDNS
	}
	return nil
}

func (c *Config) endpoint() string {
	if c.Insecure {
		return "http://" + c.Host
	}
	return "https://" + c.Host
}
