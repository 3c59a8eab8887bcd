// The tests of the admin page, apart from the library's own go.mod so that a host
// which imports the library never sees the driver of the browser.
module example.com/networkproxy/e2e/page

go 1.26.0

require (
	example.com/networkproxy v0.0.0
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
)

require (
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/pelletier/go-toml/v2 v2.4.3 // indirect
	github.com/things-go/go-socks5 v0.1.1 // indirect
	golang.org/x/net v0.57.0 // indirect
	golang.org/x/sync v0.22.0 // indirect
	golang.org/x/text v0.40.0 // indirect
)

replace example.com/networkproxy => ../..
