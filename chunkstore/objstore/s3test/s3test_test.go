// SPDX-License-Identifier: Apache-2.0

package s3test

import (
	"net"
	"net/http"
	"os"
	"testing"
)

func TestStartAndStop(t *testing.T) {
	s := Start(t)
	if st, err := os.Stat(s.Dir); err != nil || !st.IsDir() {
		t.Errorf("no bucket in %s: %v", s.Dir, err)
	}
	r, err := http.Get(s.Endpoint + "/" + s.Bucket + "/x")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusForbidden {
		t.Errorf("an unsigned request is answered by %s", r.Status)
	}
	s.Setenv(t)
	if got := os.Getenv("TIDEMARK_S3_ENDPOINT"); got != s.Endpoint {
		t.Errorf("endpoint %q in the environment", got)
	}
	s.Stop()
	if c, err := net.Dial("tcp", s.Endpoint[len("http://"):]); err == nil {
		c.Close()
		t.Error("the server still listens")
	}
}
