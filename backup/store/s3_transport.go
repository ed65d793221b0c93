package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// newTransport makes the HTTP transport of one store: TLS 1.2 or newer, verified; HTTP/1.1, one connection per request under way.
func newTransport(opts S3Options) (http.RoundTripper, error) {
	dialer := &net.Dialer{Timeout: opts.DialTimeout, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &stallConn{Conn: c, timeout: opts.StallTimeout}, nil
		},
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   opts.DialTimeout,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   16,
		// A store's bytes are what was put there; nothing may decompress them on the way.
		DisableCompression: true,
		WriteBufferSize:    64 << 10,
		ReadBufferSize:     64 << 10,
	}
	if opts.CAFile != "" {
		pem, err := os.ReadFile(opts.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, errors.New("CA file " + opts.CAFile + " has no PEM certificate in it")
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if opts.Transport != nil {
		return opts.Transport(t), nil
	}
	return t, nil
}

// stallConn ends a connection on which no byte moves in either direction: a peer that lost power sends no reset, and a transfer of
// hours must not wait for the kernel to notice. A deadline per request would be wrong either way: too long for a small object or too
// short for a large one.
type stallConn struct {
	net.Conn
	timeout time.Duration
}

// Read implements net.Conn.
func (c *stallConn) Read(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn. It extends a Read that is waiting at the same time, too.
func (c *stallConn) Write(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *stallConn) extend() error { return c.SetDeadline(time.Now().Add(c.timeout)) }
