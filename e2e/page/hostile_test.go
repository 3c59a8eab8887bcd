//go:build e2e

// Text of programs that are not trusted, and pages of other origins.

package page

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/networkproxy"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/chromedp"
)

// hostile is text that is markup, changes the direction of text, and is drawn over the
// text around it.
const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>` +
	"\u202egnp.exe\u2066\u200b" + "a\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301" + `<b style="position:fixed">&lt;`

func TestHostileText(t *testing.T) {
	p := start(t, func(b *networkproxy.Builder) {
		b.AdminToken(token).PolicyDecider(func(ctx context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			if r.Host == "granted.example" {
				return networkproxy.Allow().ForSession(), nil
			}
			return networkproxy.Deny(hostile), nil
		})
	})
	page := open(t, p.PageURL()).live()
	checkHostile(t, p, page)
	page.wait("the grant", "document.querySelector('#grant-list').children.length > 0")
}

func TestHostileQuestion(t *testing.T) {
	p := start(t, asking)
	page := open(t, p.PageURL()).live()
	_, c := p.session(networkproxy.SessionConfig{
		Attribution: networkproxy.Attribution{Command: hostile, ExecPolicyHint: hostile, Labels: map[string]string{hostile: hostile}}, Group: hostile,
	})
	status := begin(t, c, "http://asked.example/")
	page.wait("the question", armed("no"))
	checkText(t, page, ".question")
	if got := page.text(".question h3"); !strings.HasSuffix(got, " wants to send GET to asked.example:80") {
		t.Errorf("the question is %q", got)
	}
	page.click(button("no"))
	if got := receive(t, "the response", status); got != 403 {
		t.Errorf("status %d, want 403", got)
	}
	checkNoMarkup(t, page)
}

// checkHostile makes requests of a session whose every text is hostile, and some that
// are malformed, and checks how the page shows them.
func checkHostile(t *testing.T, p *proxy, page *tab) {
	_, c := p.session(networkproxy.SessionConfig{
		Attribution: networkproxy.Attribution{
			Command: hostile + strings.Repeat("long", 5000), ExecPolicyHint: hostile, Labels: map[string]string{hostile: hostile},
		},
		Group: hostile,
	})
	get(t, c, "http://granted.example/")
	get(t, c, "http://refused.example/")
	for _, target := range []string{"http://<img src=x onerror=alert(1)>/", "http://a.example\u202e.example/", "http://" + strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".example/" + strings.Repeat("c", 2000)} {
		conn, err := net.Dial("tcp", p.HTTPAddr())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", target)
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Errorf("%.60q: %v", target, err)
		}
		conn.Close()
	}
	page.wait("the refusal", row("refused", "refused.example"))
	page.wait("the session", "document.querySelector('#session-list').children.length > 0")
	page.wait("the malformed requests", "document.querySelectorAll('.row[data-outcome=refused]').length >= 4")
	evaluate[any](page, "document.querySelectorAll('.row .more').forEach((b) => b.click()); 0")
	checkText(t, page, "#session-list")
	checkText(t, page, "#rows")
	checkNoMarkup(t, page)
	page.size(400, 900)
	if width := evaluate[int](page, "document.documentElement.scrollWidth"); width > 400 {
		t.Errorf("the page is %d pixels wide in a window of 400", width)
	}
	page.size(1280, 900)
}

// checkText checks that an element has the hostile text as text, without characters that
// change the text around them.
func checkText(t *testing.T, page *tab, selector string) {
	t.Helper()
	text := page.text(selector)
	if !strings.Contains(text, `<img src=x onerror=`) || !strings.Contains(text, `\u202egnp.exe\u2066\u200b`) {
		t.Errorf("%s does not show the hostile text: %q", selector, text)
	}
	if i := strings.IndexAny(text, "\u202e\u2066\u200b"); i >= 0 {
		t.Errorf("%s has a character that changes the direction, at %d: %q", selector, i, text)
	}
	if strings.Contains(text, "\u0301\u0301\u0301\u0301") {
		t.Errorf("%s has many marks on one letter: %q", selector, text)
	}
	if evaluate[bool](page, fmt.Sprintf("[...document.querySelectorAll(%q)].some((e) => /[\\u202e\\u2066]/.test(e.title) || /[\\u202e\\u2066]/.test(e.ariaLabel))", selector+" *")) {
		t.Errorf("a title or label in %s has a character that changes the direction", selector)
	}
}

// checkNoMarkup checks that no text has become an element.
func checkNoMarkup(t *testing.T, page *tab) {
	t.Helper()
	if n := page.count("img, body script, b, iframe, object, [onerror], [style]"); n > 0 {
		t.Errorf("%d elements were made from text: %s", n, evaluate[string](page, "document.querySelector('img, body script, b, iframe, object, [onerror], [style]').outerHTML"))
	}
	if title := evaluate[string](page, "document.title"); !strings.HasSuffix(title, "networkproxy") {
		t.Errorf("the title is %q", title)
	}
}

// TestForeignPages attacks the admin API from pages of other origins: another port, and
// another name of this machine. Each tries with and without the token.
func TestForeignPages(t *testing.T) {
	p := start(t, withToken)
	if err := p.SetMode(networkproxy.ModeLimited); err != nil {
		t.Fatal(err)
	}
	_, adminPort, _ := net.SplitHostPort(p.AdminAddr())
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!doctype html><title>foreign</title><p id=foreign-marker>foreign</p><iframe name=sink></iframe>")
	}))
	t.Cleanup(foreign.Close)
	_, foreignPort, _ := net.SplitHostPort(foreign.Listener.Addr().String())

	for _, from := range []string{"127.0.0.1", "localhost"} {
		for _, to := range []string{"127.0.0.1", "localhost"} {
			t.Run(from+" to "+to, func(t *testing.T) {
				page := openForeign(t, "http://"+from+":"+foreignPort+"/")
				api := "http://" + to + ":" + adminPort
				for _, attack := range []struct{ name, fetch string }{
					{"read", `fetch(api + '/health')`},
					{"read with the token", `fetch(api + '/health', {headers: {Authorization: 'Bearer ' + token}})`},
					{"read events", `fetch(api + '/events')`},
					{"read the page", `fetch(api + '/')`},
					{"read the script", `fetch(api + '/page.js')`},
					{"post JSON", `fetch(api + '/mode', {method: 'POST', headers: {'Content-Type': 'application/json'}, body})`},
					{"post JSON with the token", `fetch(api + '/mode', {method: 'POST', headers: {'Content-Type': 'application/json', Authorization: 'Bearer ' + token}, body})`},
					{"post a simple request", `fetch(api + '/mode', {method: 'POST', body})`},
					{"post to log in", `fetch(api + '/login', {method: 'POST', body: '{"code":"x"}'})`},
					{"post without an answer", `fetch(api + '/mode', {method: 'POST', mode: 'no-cors', body})`},
					{"post without a referrer", `fetch(api + '/mode', {method: 'POST', mode: 'no-cors', referrerPolicy: 'no-referrer', body})`},
					{"post when it ends", `Promise.resolve(navigator.sendBeacon(api + '/mode', body))`},
				} {
					script := fmt.Sprintf(`(async () => {
						const api = %q, token = %q, body = '{"mode":"full"}';
						try {
							const r = await %s;
							if (r === true || r.type === 'opaque') return 'nothing';
							return 'read ' + (await r.text()).slice(0, 80);
						} catch (e) {
							return 'nothing';
						}
					})()`, api, token, attack.fetch)
					if got := evaluate[string](page, script); got != "nothing" {
						t.Errorf("%s: the page could %s", attack.name, got)
					}
				}

				for _, encoding := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"} {
					got := evaluate[string](page, fmt.Sprintf(`(async () => {
						const form = document.createElement('form');
						Object.assign(form, {method: 'POST', action: %q, enctype: %q, target: 'sink'});
						const field = document.createElement('input');
						field.name = '{"mode":"full","x":"';
						field.value = '"}';
						form.append(field);
						document.body.append(form);
						const loaded = new Promise((resolve) => document.querySelector('iframe').addEventListener('load', resolve, {once: true}));
						form.submit();
						await loaded;
						return 'loaded';
					})()`, api+"/mode", encoding))
					if got != "loaded" {
						t.Errorf("form: %s", got)
					}
					if text := frames(page); !strings.Contains(text, "refused") {
						t.Errorf("the form was answered with %q", text)
					}
				}
				for _, path := range []string{"/", "/health", "/page.js"} {
					evaluate[any](page, fmt.Sprintf(`(async () => {
						const frame = document.querySelector('iframe');
						const loaded = new Promise((resolve) => frame.addEventListener('load', resolve, {once: true}));
						frame.src = %q;
						await loaded;
					})()`, api+path))
					text := frames(page)
					for _, secret := range []string{"Skip to the requests", `"generation"`, "'use strict'"} {
						if strings.Contains(text, secret) {
							t.Errorf("%s is shown in a frame: %.200q", path, text)
						}
					}
				}
				// A frame of the foreign page itself is seen, so frames finds what is shown.
				evaluate[any](page, `(async () => {
					const frame = document.querySelector('iframe');
					const loaded = new Promise((resolve) => frame.addEventListener('load', resolve, {once: true}));
					frame.src = '/';
					await loaded;
				})()`)
				if text := frames(page); !strings.Contains(text, "foreign") {
					t.Errorf("the content of frames is not found: %q", text)
				}
			})
		}
	}
	if p.Mode() != networkproxy.ModeLimited {
		t.Error("a foreign page changed the mode")
	}

	// The page itself can do what the foreign pages tried.
	own := open(t, p.PageURL()).live()
	status := evaluate[int](own, `fetch('/mode', {method: 'POST', headers: {'Content-Type': 'application/json', Authorization: 'Bearer ' + sessionStorage.getItem('networkproxy-token')}, body: '{"mode":"full"}'}).then((r) => r.status)`)
	if status != 200 || p.Mode() != networkproxy.ModeFull {
		t.Errorf("the own page: status %d, mode %s", status, p.Mode())
	}
}

// openForeign shows a page without a check for faults, which its attacks cause.
func openForeign(t testing.TB, address string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := begun(func() error { return chromedp.Do(ctx) }); err != nil {
		t.Fatal(err)
	}
	p := &tab{t, ctx}
	p.do(chromedp.Navigate(address))
	return p
}

// frames returns the text of all frames in the page.
func frames(p *tab) string {
	p.t.Helper()
	depth, pierce := int64(-1), true
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tree, err := chromedp.Call(ctx, dom.GetDocument, dom.GetDocumentParams{Depth: &depth, Pierce: &pierce})
	if err != nil {
		p.t.Fatal(err)
	}
	var text strings.Builder
	var walk func(n *cdp.Node, inFrame bool)
	walk = func(n *cdp.Node, inFrame bool) {
		if n == nil {
			return
		}
		if inFrame {
			text.WriteString(n.NodeValue + " ")
		}
		for _, child := range n.Children {
			walk(child, inFrame)
		}
		walk(n.ContentDocument, true)
	}
	walk(tree.Root, false)
	return text.String()
}
