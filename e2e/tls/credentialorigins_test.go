//go:build e2e && linux

// This file has the parts of the origin servers that demand a secret, or repeat it.

package tls

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
)

// secretOf returns the secret that the origin server of a host accepts.
func secretOf(host string) string {
	sum := sha256.Sum256([]byte(host))
	return "ghp_" + hex.EncodeToString(sum[:18])
}

// servePrivate serves the repositories of git to clients that send the secret as the
// password of Basic. It demands it first (RFC 7617 section 2).
func (o *origins) servePrivate(w http.ResponseWriter, r *http.Request) {
	if _, password, _ := r.BasicAuth(); password != secretOf(r.Host) {
		w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
		http.Error(w, "this repository is private", http.StatusUnauthorized)
		return
	}
	o.private.ServeHTTP(w, r)
}

// serveRegistry is a registry of npm to which clients with the secret can publish.
func serveRegistry(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Header.Get("Authorization") != "Bearer "+secretOf(r.Host):
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"error":"this registry is private"}`)
	case r.Method == http.MethodPut:
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"ok":true}`)
	default:
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"error":"not found"}`)
	}
}

// serveEcho repeats the Authorization field in every part of its response: in an
// informational response, a field, the body, where each byte is sent alone, and a trailer.
func serveEcho(w http.ResponseWriter, r *http.Request) {
	auth := r.Header.Get("Authorization")
	control := http.NewResponseController(w)
	w.Header().Set("Link", "</"+auth+">; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	w.Header().Set("X-Echo", auth)
	w.Header().Set("Trailer", "X-Echo-Trailer")
	for _, b := range []byte(auth) {
		w.Write([]byte{b})
		control.Flush()
	}
	w.Header().Set("X-Echo-Trailer", auth)
}
