package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// TestProxy: the proxy opens TLS in both versions of HTTP, keeps the certificate of the
// host, and does not accept every origin server.
func TestProxy(t *testing.T) {
	t.Parallel()
	for _, version := range []int{1, 2} {
		origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
		origin.EnableHTTP2 = version == 2
		origin.StartTLS()
		t.Cleanup(origin.Close)
		proxy, err := newProxy()
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(proxy)
		t.Cleanup(server.Close)
		at, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		var seen []*x509.Certificate
		get := func() (*http.Response, error) {
			transport := &http.Transport{
				Proxy: http.ProxyURL(at), ForceAttemptHTTP2: version == 2,
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
					seen = append(seen, s.PeerCertificates[0])
					return nil
				}},
			}
			t.Cleanup(transport.CloseIdleConnections)
			return (&http.Client{Transport: transport}).Get(origin.URL)
		}
		if resp, err := get(); err == nil && resp.StatusCode == http.StatusOK {
			t.Errorf("HTTP/%d: the proxy accepts a certificate of an unknown authority", version)
		}
		proxy.Tr.TLSClientConfig.RootCAs = origin.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		for range 2 {
			resp, err := get()
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.ProtoMajor != version || string(body) != resp.Proto {
				t.Errorf("HTTP/%d: got %s %q, %v", version, resp.Proto, body, err)
			}
		}
		if len(seen) != 3 || seen[0].Issuer.CommonName != "goproxy" || !seen[0].Equal(seen[2]) {
			t.Errorf("HTTP/%d: %d connections, or different certificates, or not ours", version, len(seen))
		}
	}
}
