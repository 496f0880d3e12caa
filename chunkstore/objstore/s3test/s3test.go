// SPDX-License-Identifier: Apache-2.0

package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tidemark-io/tidemark/tools/ci/pinned"
)

const (
	startTimeout = 30 * time.Second
	pollInterval = 20 * time.Millisecond
	portAttempts = 5
)

// Server is a running S3 server with one empty bucket.
type Server struct {
	Endpoint  string // http://127.0.0.1:port
	AccessKey string
	SecretKey string
	Region    string
	Bucket    string
	// Dir holds the bucket's objects as files, to look at and to damage.
	Dir string

	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

// Start starts a server for the length of the test. Under -short the test is
// skipped: it talks to another process.
func Start(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an S3 server, which -short leaves out")
	}
	binary, err := server(t.Context())
	if err != nil {
		t.Fatalf("the S3 server for tests: %v", err)
	}
	root := t.TempDir()
	for range portAttempts {
		s := &Server{
			AccessKey: "test" + rand.Text(), SecretKey: rand.Text(), Region: "us-east-1", Bucket: "tidemark-test",
			Dir: filepath.Join(root, "tidemark-test"), exited: make(chan struct{}),
		}
		if err = s.start(binary, root); err != nil {
			t.Fatalf("start %s: %v", binary, err)
		}
		if err = s.ready(t.Context()); err == nil {
			t.Cleanup(s.Stop)
			return s
		}
		s.Stop() // most likely another process took the port
	}
	t.Fatalf("the S3 server does not come up: %v", err)
	return nil
}

// Stop kills the server at once, as a crash would.
func (s *Server) Stop() {
	_ = s.cmd.Process.Kill() // it may have ended by itself
	<-s.exited
}

// URL returns the s3:// address of a prefix in the server's bucket.
func (s *Server) URL(prefix string) string { return "s3://" + s.Bucket + "/" + prefix }

// Env returns the environment variables that lead to the server.
func (s *Server) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_REGION=" + s.Region,
		"TIDEMARK_S3_ENDPOINT=" + s.Endpoint,
	}
}

// Setenv makes the server the one that the test's own process finds.
func (s *Server) Setenv(t testing.TB) {
	t.Helper()
	for _, kv := range s.Env() {
		key, value, _ := bytes.Cut([]byte(kv), []byte("="))
		t.Setenv(string(key), string(value))
	}
}

// server returns the path of the binary.
func server(ctx context.Context) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tools", "servers", "go.mod")); err == nil {
			return pinned.Path(ctx, dir, "versitygw")
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no tools/servers/go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

func (s *Server) start(binary, root string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	s.Endpoint = "http://" + address
	s.cmd = exec.Command(binary, "--port", address, "--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region,
		"--quiet", "--keep-alive", "posix", root)
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() { // ends with the process; Stop waits for it
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	return nil
}

// ready waits until the server answers to its own key, and makes the bucket.
func (s *Server) ready(ctx context.Context) error {
	client, err := minio.New(s.Endpoint[len("http://"):], &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region, MaxRetries: 1,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := client.MakeBucket(ctx, s.Bucket, minio.MakeBucketOptions{Region: s.Region})
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return fmt.Errorf("it ended: %s", s.output.Bytes())
		case <-ctx.Done():
			return err
		}
	}
}
