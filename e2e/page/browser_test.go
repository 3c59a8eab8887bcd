//go:build e2e

// The browser, and what tests do with a page in it.

package page

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

const (
	patience      = 20 * time.Second // for each condition
	startPatience = 30 * time.Second // for the start of the browser, and for a new page
)

var screenshots = flag.String("screenshots", "", "write the screenshots to this `directory`, not to that of the test's artifacts")

// browser is the context of the running browser. Each page has its own profile in it.
var browser context.Context

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	path, err := findBrowser()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // it cannot be had as root; the pages are those of the tests
		// So that a test sees the content of frames of other sites.
		chromedp.Flag("disable-site-isolation-trials", true),
		chromedp.Flag("disable-features", "Translate,IsolateOrigins,site-per-process"),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	browser, cancel = chromedp.NewContext(allocator)
	defer cancel()
	if err := begun(func() error { return chromedp.Do(browser) }); err != nil {
		fmt.Fprintf(os.Stderr, "start %s: %v\n", path, err)
		return 1
	}
	return m.Run()
}

// begun returns the error of start, or one if it does not return. Its context must not
// end before the browser or the page that it starts.
func begun(start func() error) error {
	result := make(chan error, 1)
	go func() { result <- start() }()
	select {
	case err := <-result:
		return err
	case <-time.After(startPatience):
		return fmt.Errorf("not started after %v", startPatience)
	}
}

func findBrowser() (string, error) {
	names := []string{"chromium", "chromium-browser", "google-chrome"}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("the tests of the page need Chromium: install the package chromium (none of %s is in PATH)", strings.Join(names, ", "))
}

// tab is a page in a profile of its own.
type tab struct {
	t   testing.TB
	ctx context.Context
}

// watch records in the page what must not happen there.
const watch = `
	window.faults = [];
	addEventListener('securitypolicyviolation', (e) => faults.push('policy: ' + e.violatedDirective + ' ' + e.blockedURI));
	addEventListener('error', (e) => faults.push('error: ' + e.message));
	addEventListener('unhandledrejection', (e) => faults.push('rejection: ' + e.reason));
`

// open shows an address in a new profile. At the end of the test, it checks that the
// page had no fault.
func open(t testing.TB, address string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	p := &tab{t, ctx}
	t.Cleanup(cancel)
	if err := begun(func() error { return chromedp.Do(ctx) }); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.EmulateViewport(1280, 900))
	if _, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: watch}); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Navigate(address))
	t.Cleanup(func() {
		for _, fault := range evaluate[[]string](p, "faults") {
			t.Errorf("the page had a fault: %s", fault)
		}
	})
	return p
}

// do runs actions.
func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// evaluate returns the value of an expression in the page. It waits for a promise.
func evaluate[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// wait waits until a condition holds in the page.
func (p *tab) wait(what, condition string) {
	p.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !evaluate[bool](p, "Boolean("+condition+")") {
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("timeout waiting for %s: %s\nthe page:\n%s", what, condition, evaluate[string](p, "document.body.innerText"))
		}
	}
}

// click clicks an element with the mouse.
func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// text returns the text of an element.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return evaluate[string](p, fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector))
}

// count returns the number of elements.
func (p *tab) count(selector string) int {
	p.t.Helper()
	return evaluate[int](p, fmt.Sprintf("document.querySelectorAll(%q).length", selector))
}

// live waits until the page receives events and has the answers of all resources.
func (p *tab) live() *tab {
	p.t.Helper()
	p.wait("the stream of events", "document.querySelector('#connection').dataset.state === 'live'")
	p.wait("the health and the configuration", "document.querySelector('#about').textContent.includes('generation') && document.querySelector('#about').textContent.includes('admin API')")
	return p
}

// scheme makes the page light or dark.
func (p *tab) scheme(name string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// size sets the size of the window.
func (p *tab) size(width, height int64) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, height))
}

// row returns an expression for the first row of an outcome and a host.
func row(outcome, host string) string {
	return fmt.Sprintf("[...document.querySelectorAll('.row[data-outcome=%s]')].find((r) => r.querySelector('.host').textContent === %q)", outcome, host)
}
