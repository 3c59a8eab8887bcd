// Package page has end-to-end tests of the web page of the admin API: headless
// Chromium shows the page of a real proxy, clicks its buttons, and attacks it from
// pages of other origins. It has tests only.
//
// It is a module of its own, because of the driver of the browser. The tests need
// Chromium and, for the check of accessibility, the npm package axe-core. They
// connect to loopback only:
//
//	npm ci
//	go test -tags=e2e . -screenshots=/tmp/screenshots
package page
