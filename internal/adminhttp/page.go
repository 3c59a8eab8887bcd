// The page: its files, and the fields that protect it.

package adminhttp

import (
	"net/http"

	"example.com/networkproxy/internal/adminpage"
)

// pageHeader has the fields of the responses with the page. Nothing but its own files
// runs in it, no text in it can send requests elsewhere, and no other page can show it
// in a frame or keep a reference to its window.
var pageHeader = http.Header{
	"Content-Security-Policy": {"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
	"Cross-Origin-Opener-Policy": {"same-origin"},
	"Referrer-Policy":            {"no-referrer"},
}

// PageRoutes returns the files of the page as routes. They are public, because they are
// the same for everyone.
func PageRoutes() []Route {
	var routes []Route
	for _, f := range adminpage.Files() {
		path := f.Path
		if path == "/" {
			path = "/{$}"
		}
		text := Text{Type: f.Type, Body: f.Body, Header: pageHeader}
		routes = append(routes, Route{Method: http.MethodGet, Path: path, Public: true, Serve: func(*http.Request) (any, error) { return text, nil }})
	}
	return routes
}
