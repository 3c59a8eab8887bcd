package sniff

import (
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]Kind{
		"":                                      Silent,
		"GET / HTTP/1.1\r\n":                    HTTPRequest,
		"GET / HTTP/1.1":                        HTTPRequest,
		"GET / HTTP/1.0\nHost: x\n":             HTTPRequest,
		"\r\n\r\nGET / HTTP/1.1\r\n":            HTTPRequest,
		" GET / HTTP/1.1\r\n":                   HTTPRequest,
		"get / http/1.1\r\n":                    HTTPRequest,
		"GET\t/\tHTTP/1.1\r\n":                  HTTPRequest,
		"M-SEARCH * HTTP/1.1\r\n":               HTTPRequest,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n":          HTTPRequest,
		"GET http://b.test/ HTTP/1.1\r\n":       HTTPRequest,
		"GET /\x80\xff HTTP/1.1\r\n":            HTTPRequest,
		"GET /\x01 HTTP/1.1\r\n":                HTTPRequest,
		"GET /a b c HTTP/1.1 \r\n":              HTTPRequest,
		"G":                                     Undecided,
		"GET ":                                  Undecided,
		"GET /a":                                Undecided,
		"\r\n":                                  Undecided,
		"GET /a\r":                              Undecided,
		"GET /\r\n":                             Opaque, // HTTP/0.9 cannot name a host
		"EHLO x\r\n":                            Opaque,
		"SSH-2.0-OpenSSH_9.2\r\n":               Opaque,
		"OPTIONS rtsp://a/ RTSP/1.0\r\n":        Opaque,
		"0032git-upload-pack /p.git\x00h":       Opaque,
		"\x00\x00\x00\x08\x04\xd2\x16\x2f":      Opaque,
		"<?xml version='1.0'?>":                 Opaque,
		"*1\r\n$4\r\nPING\r\n":                  Opaque,
		"PING\r\n":                              Opaque,
		"\x16\x03\x01\x02\x00\x01":              TLSHello,
		strings.Repeat("A", MaxBytes):           HTTPRequest,
		"GET /" + strings.Repeat("a", MaxBytes): HTTPRequest,
	} {
		if got := Classify([]byte(sent)); got != want {
			t.Errorf("%.40q: got kind %d, want %d", sent, got, want)
		}
	}
}

// TestClassifyDoesNotChangeItsMind: bytes that arrive later must not turn a
// connection that is relayed into a request.
func TestClassifyDoesNotChangeItsMind(t *testing.T) {
	t.Parallel()
	for _, sent := range []string{"\r\n GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "POST\v/ HTTP/1.0\n", "get http://b.test/ hTTp/1.1\r\n"} {
		for n := range len(sent) {
			if k := Classify([]byte(sent[:n+1])); k != Undecided && k != HTTPRequest {
				t.Errorf("%q is of kind %d", sent[:n+1], k)
			}
		}
	}
}
