// SPDX-License-Identifier: Apache-2.0

package objstore

import "io"

// ExactReader enforces I5 over a stream that should hold n bytes: it yields
// them and then io.EOF, and turns an early end into an *Error of class
// Retryable that wraps io.ErrUnexpectedEOF. Other errors go through classify
// unless it is nil. Closing it closes r.
func ExactReader(name string, r io.ReadCloser, n int64, classify func(error) error) io.ReadCloser {
	return &exactReader{r: r, name: name, left: n, classify: classify}
}

type exactReader struct {
	r        io.ReadCloser
	name     string
	left     int64
	classify func(error) error
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	switch {
	case err == nil || e.left == 0:
		return n, nil
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return n, asShort(e.name, err)
	case e.classify != nil:
		return n, e.classify(err)
	}
	return n, err
}

func (e *exactReader) Close() error { return e.r.Close() }
