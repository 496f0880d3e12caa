// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"net"
	"net/http"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	// stallTimeout is how long a connection may stand still (S4); it is also
	// how long the store may think about an answer.
	stallTimeout = 2 * time.Minute
	idleTimeout  = time.Minute
	// connBuffer is how much goes to or from the kernel at a time.
	connBuffer = 256 << 10
	// idleConns covers all the transfers that may run at once.
	idleConns = 64
)

// newTransport returns a transport for few connections with large bodies.
// HTTP/1.1, for a connection each is faster than streams that share one.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &movingConn{Conn: c, limit: stallTimeout}, nil
		},
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns:        idleConns,
		MaxIdleConnsPerHost: idleConns,
		IdleConnTimeout:     idleTimeout,
		WriteBufferSize:     connBuffer,
		ReadBufferSize:      connBuffer,
		DisableCompression:  true, // an object's bytes are what was stored
	}
}

// movingConn times out when nothing moves in either direction. Each call sets
// the limit anew for both, as the transport waits for the answer from the
// moment it begins to send.
type movingConn struct {
	net.Conn
	limit time.Duration
}

func (c *movingConn) Read(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *movingConn) Write(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err == nil {
		err = c.extend() // from here on it is the other side's turn
	}
	return n, err
}

func (c *movingConn) extend() error {
	return c.SetDeadline(time.Now().Add(c.limit)) //nolint:forbidigo // what a connection takes is the system's time
}
