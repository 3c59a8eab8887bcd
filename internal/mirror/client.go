package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
)

// Alerts (RFC 8446 section 6.2, RFC 7301 section 3.2).
const (
	alertBadCertificate     = 42
	alertUnsupported        = 43
	alertCertificateUnknown = 46
	alertUnknownCA          = 48
	alertAccessDenied       = 49
	alertInternalError      = 80
	alertNoProtocol         = 120
)

// TLS record types (RFC 8446 section 5.1).
const (
	recordAlert     = 21
	recordHandshake = 22
)

// ClientError is the error of a handshake with a client.
type ClientError struct {
	Err error

	// Distrust is not empty if the client does not seem to trust the proxy's
	// certificate. It says why it seems so.
	Distrust string
}

// Error implements error.
func (e *ClientError) Error() string {
	return "the TLS handshake of the client failed: " + e.Err.Error()
}

// Unwrap returns Err.
func (e *ClientError) Unwrap() error { return e.Err }

// watchedConn is the connection under a client's TLS. During the handshake it
// remembers what tells whether the client trusts the proxy's certificate. Clients
// show it in different ways:
//
//	OpenSSL     a plaintext alert, which crypto/tls cannot decrypt in TLS 1.3
//	Go          an encrypted alert
//	Node, Java  the end of the stream after the certificate
//	GnuTLS      a complete handshake, and the end of the stream before a request
type watchedConn struct {
	net.Conn

	mu      sync.Mutex
	refused bool // refuse has sent an alert, so crypto/tls must not send another
	flights int  // writes: the certificate is in the first, or in that after a HelloRetryRequest
	bytes   int  // written
	records recordScanner
}

// Read implements net.Conn.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	c.records.scan(b[:n])
	c.mu.Unlock()
	return n, err
}

// Write implements net.Conn.
func (c *watchedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	refused := c.refused
	c.flights++
	c.bytes += len(b)
	c.mu.Unlock()
	if refused {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// NetConn returns the connection below.
func (c *watchedConn) NetConn() net.Conn { return c.Conn }

// CloseWrite closes the connection for writing.
func (c *watchedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// refuse sends an alert in place of the one that crypto/tls would send.
func (c *watchedConn) refuse(alert byte) {
	c.Conn.Write([]byte{recordAlert, 3, 3, 0, 2, 2, alert}) // the handshake fails in any case
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = true
}

// certificateBytes is more than a HelloRetryRequest has, and less than a flight with a
// certificate.
const certificateBytes = 300

// clientError returns the error for a handshake that failed with err.
func (c *watchedConn) clientError(err error) *ClientError {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &ClientError{Err: err}
	alert := c.records.alert
	switch {
	case alert == alertUnknownCA, alert == alertBadCertificate, alert == alertCertificateUnknown, alert == alertUnsupported:
		e.Distrust = fmt.Sprintf("it ended the handshake with the alert %d", alert)
	case saysDistrust(err):
		e.Distrust = "it ended the handshake with an alert about the certificate"
	case c.bytes > certificateBytes && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)):
		e.Distrust = "it closed the connection when it had received the certificate"
	}
	return e
}

// saysDistrust reports whether err is an alert about the certificate. crypto/tls has
// no exported type for it.
func saysDistrust(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	text := op.Err.Error()
	return strings.Contains(text, "certificate")
}

// recordScanner follows the records of a stream (RFC 8446 section 5.1) and remembers
// the last alert in plaintext.
type recordScanner struct {
	header [5]byte
	have   int // bytes of header
	left   int // bytes of the record's content
	body   [2]byte
	read   int  // bytes of body
	alert  byte // description of the last alert; 0 if there was none
}

func (s *recordScanner) scan(b []byte) {
	for len(b) > 0 {
		if s.have < len(s.header) {
			n := copy(s.header[s.have:], b)
			s.have += n
			b = b[n:]
			if s.have == len(s.header) {
				s.left, s.read = int(binary.BigEndian.Uint16(s.header[3:])), 0
				if s.left == 0 {
					s.have = 0
				}
			}
			continue
		}
		n := min(s.left, len(b))
		if s.header[0] == recordAlert && binary.BigEndian.Uint16(s.header[3:]) == 2 {
			s.read += copy(s.body[s.read:], b[:n])
			if s.read == len(s.body) {
				s.alert = s.body[1]
			}
		}
		s.left -= n
		b = b[n:]
		if s.left == 0 {
			s.have = 0
		}
	}
}
