//go:build e2e && linux

// This file has package registries for npm, pip and cargo with one package each.

package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
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
	tarball := packTarball([][2]string{
		{"package/package.json", `{"name":"` + npmPackage + `","version":"` + npmVersion + `","main":"index.js"}`},
		{"package/index.js", npmContent},
	})
	digest := sha512.Sum512(tarball)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /npm/"+npmPackage, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"name":      npmPackage,
			"dist-tags": map[string]string{"latest": npmVersion},
			"versions": map[string]any{npmVersion: map[string]any{
				"name": npmPackage, "version": npmVersion,
				"dist": map[string]string{
					"tarball":   serverURL(r) + "/npm/" + npmPackage + "/-/" + npmPackage + "-" + npmVersion + ".tgz",
					"integrity": "sha512-" + base64.StdEncoding.EncodeToString(digest[:]),
				},
			}},
		})
	})
	mux.HandleFunc("GET /npm/"+npmPackage+"/-/{file}", func(w http.ResponseWriter, r *http.Request) { w.Write(tarball) })
	return mux
}

// serverURL returns the URL of the server that the request was sent to, without a path.
func serverURL(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// packTarball returns a compressed archive of files, which are pairs of name and content.
func packTarball(files [][2]string) []byte {
	var b bytes.Buffer
	compressed := gzip.NewWriter(&b)
	archive := tar.NewWriter(compressed)
	for _, file := range files {
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

const (
	cargoPackage = "suite-fixture"
	cargoVersion = "1.2.3"
)

// newCrates serves cargoPackage below /crates/, with a sparse index.
func newCrates() http.Handler {
	const root = cargoPackage + "-" + cargoVersion
	crate := packTarball([][2]string{
		{root + "/Cargo.toml", "[package]\nname = \"" + cargoPackage + "\"\nversion = \"" + cargoVersion + "\"\nedition = \"2021\"\n"},
		{root + "/src/lib.rs", ""},
	})
	digest := sha256.Sum256(crate)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /crates/config.json", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"dl": serverURL(r) + "/crates/files"})
	})
	// The directories are the first letters of the name.
	mux.HandleFunc("GET /crates/su/it/"+cargoPackage, func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{
			"name": cargoPackage, "vers": cargoVersion, "cksum": hex.EncodeToString(digest[:]),
			"deps": []string{}, "features": map[string]any{}, "yanked": false,
		})
	})
	mux.HandleFunc("GET /crates/files/"+cargoPackage+"/"+cargoVersion+"/download", func(w http.ResponseWriter, r *http.Request) { w.Write(crate) })
	return mux
}
