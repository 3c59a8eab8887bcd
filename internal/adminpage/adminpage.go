// Package adminpage has the web page of the admin API: one document, its script and
// its style. The page works with the resources of the admin API alone, and loads
// nothing from elsewhere.
//
// The document contains no inline script or style, so that a Content-Security-Policy
// can forbid both. The script inserts everything that programs can choose, such as host
// names and commands, as text.
package adminpage

import _ "embed"

//go:embed page.html
var html string

//go:embed page.js
var script string

//go:embed page.css
var style string

// File is a file of the page.
type File struct {
	Path string // of the URL: "/page.js"
	Type string // of the content, for Content-Type
	Body string
}

// Files returns the files of the page. The first is the document, whose path is "/".
func Files() []File {
	return []File{
		{Path: "/", Type: "text/html; charset=utf-8", Body: html},
		{Path: "/page.js", Type: "text/javascript; charset=utf-8", Body: script},
		{Path: "/page.css", Type: "text/css; charset=utf-8", Body: style},
	}
}
