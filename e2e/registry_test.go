//go:build e2e && linux

// This file has a package registry for npm with one package.

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"net/http"
)

const (
	npmPackage = "suite-fixture"
	npmVersion = "1.2.3"
	npmContent = "module.exports = 'installed'\n"
)

// newRegistry serves npmPackage below /npm/.
func newRegistry() http.Handler {
	tarball := npmTarball()
	digest := sha512.Sum512(tarball)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /npm/"+npmPackage, func(w http.ResponseWriter, r *http.Request) {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"name":      npmPackage,
			"dist-tags": map[string]string{"latest": npmVersion},
			"versions": map[string]any{npmVersion: map[string]any{
				"name": npmPackage, "version": npmVersion,
				"dist": map[string]string{
					"tarball":   scheme + "://" + r.Host + "/npm/" + npmPackage + "/-/" + npmPackage + "-" + npmVersion + ".tgz",
					"integrity": "sha512-" + base64.StdEncoding.EncodeToString(digest[:]),
				},
			}},
		})
	})
	mux.HandleFunc("GET /npm/"+npmPackage+"/-/{file}", func(w http.ResponseWriter, r *http.Request) { w.Write(tarball) })
	return mux
}

func npmTarball() []byte {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	archive := tar.NewWriter(zip)
	for _, file := range [][2]string{
		{"package/package.json", `{"name":"` + npmPackage + `","version":"` + npmVersion + `","main":"index.js"}`},
		{"package/index.js", npmContent},
	} {
		// Writing to memory does not fail.
		archive.WriteHeader(&tar.Header{Name: file[0], Mode: 0o644, Size: int64(len(file[1]))})
		archive.Write([]byte(file[1]))
	}
	archive.Close()
	zip.Close()
	return b.Bytes()
}
