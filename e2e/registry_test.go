//go:build e2e && linux

// This file has package registries for npm and pip with one package each.

package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
	compressed := gzip.NewWriter(&b)
	archive := tar.NewWriter(compressed)
	for _, file := range [][2]string{
		{"package/package.json", `{"name":"` + npmPackage + `","version":"` + npmVersion + `","main":"index.js"}`},
		{"package/index.js", npmContent},
	} {
		// Writing to memory does not fail.
		archive.WriteHeader(&tar.Header{Name: file[0], Mode: 0o644, Size: int64(len(file[1]))})
		archive.Write([]byte(file[1]))
	}
	archive.Close()
	compressed.Close()
	return b.Bytes()
}

const (
	pipPackage = "suite-fixture"
	pipWheel   = "suite_fixture-1.2.3-py3-none-any.whl"
)

// newIndex serves pipPackage below /simple/ (PEP 503).
func newIndex() http.Handler {
	wheel := pipArchive()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /simple/"+pipPackage+"/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!DOCTYPE html><html><body><a href=%q>%s</a></body></html>", "/simple/files/"+pipWheel, pipWheel)
	})
	mux.HandleFunc("GET /simple/files/"+pipWheel, func(w http.ResponseWriter, r *http.Request) { w.Write(wheel) })
	return mux
}

func pipArchive() []byte {
	const info = "suite_fixture-1.2.3.dist-info/"
	var b bytes.Buffer
	archive := zip.NewWriter(&b)
	for _, file := range [][2]string{
		{"suite_fixture.py", "installed = True\n"},
		{info + "METADATA", "Metadata-Version: 2.1\nName: suite-fixture\nVersion: 1.2.3\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: suite\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", "suite_fixture.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		// Writing to memory does not fail.
		w, _ := archive.Create(file[0])
		w.Write([]byte(file[1]))
	}
	archive.Close()
	return b.Bytes()
}
