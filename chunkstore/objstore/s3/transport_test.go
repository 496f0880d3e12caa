// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// S4: what moves is let go on for ever, what stands still is cut.
func TestMovingConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := &movingConn{Conn: near, limit: stallTimeout}
		defer c.Close()
		const steps = 10
		go func() { // the far side takes a byte at a time, slowly, and says nothing
			tick := time.NewTicker(stallTimeout * 3 / 4) // of the bubble's clock
			defer tick.Stop()
			for range steps {
				<-tick.C
				_, _ = io.ReadFull(far, make([]byte, 1))
			}
		}()
		start := time.Now()
		answer := make(chan error)
		go func() { // net/http waits for the answer from the beginning
			_, err := c.Read(make([]byte, 1))
			answer <- err
		}()
		for range steps {
			if _, err := c.Write([]byte{0}); err != nil {
				t.Fatalf("write after %s: %v", time.Since(start), err)
			}
		}
		sent := time.Since(start)
		if err := <-answer; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		if waited := time.Since(start) - sent; sent != steps*stallTimeout*3/4 || waited != stallTimeout {
			t.Errorf("sent for %s, waited for %s", sent, waited)
		}
	})
}
