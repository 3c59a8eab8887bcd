//go:build e2e

// How the page looks, and whether everybody can use it.

package page

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"example.com/networkproxy"
	"github.com/chromedp/chromedp"
)

// busy returns a page with something in each of its parts.
func busy(t *testing.T) *tab {
	t.Helper()
	p := start(t, asking, "registry.npmjs.example", "proxy.golang.example", "*.pypi.example", "api.example.com:443", "**.github.example")
	if err := p.DenyDomain("**.tracker.example"); err != nil {
		t.Fatal(err)
	}
	page := open(t, p.PageURL()).live()
	_, npm := p.session(networkproxy.SessionConfig{
		Attribution: networkproxy.Attribution{Command: "npm install --save-dev vitest", Labels: map[string]string{"turn": "12"}}, Group: "conversation-8f2",
	})
	_, golang := p.session(attribution("go test ./...", "conversation-8f2"))
	_, python := p.session(attribution("python3 train.py --upload", ""))

	downloads := begin(t, python, "http://downloads.example/endless")
	page.wait("the question", armed("command"))
	evaluate[any](page, "document.querySelector('"+button("command")+"').click()") // the mouse would keep it open
	page.wait("the end of the question", "document.querySelector('#questions').hidden")
	for i := range 4 {
		get(t, npm, fmt.Sprintf("http://registry.npmjs.example/bytes/%d", 41_000*(i+3)))
		get(t, golang, fmt.Sprintf("https://proxy.golang.example/bytes/%d", 730_000*(i+1)))
		get(t, npm, "https://codeload.github.example/bytes/1870000")
		get(t, python, fmt.Sprintf("http://files.pypi.example/bytes/%d", 912_000*(i+1)))
	}
	get(t, python, "http://metrics.tracker.example/")
	get(t, python, "http://169.254.169.254/latest/meta-data")
	get(t, npm, "http://registry.npmjs.example/bytes/52000")
	begin(t, npm, "https://cdn.playwright.example/")
	page.wait("a question", "document.querySelectorAll('.question').length === 1")
	begin(t, golang, "http://localhost.test.example/")
	page.wait("two questions", "document.querySelectorAll('.question').length === 2")
	page.wait("all buttons", "document.querySelectorAll('.question button[aria-disabled]').length === 0")
	page.wait("the grant", "document.querySelector('#grant-list').textContent.includes('open')")
	page.wait("three sessions", "document.querySelectorAll('#session-list li').length === 3")
	page.wait("a chart", "[...document.querySelectorAll('#chart-requests .bar-allowed')].some((b) => b.getAttribute('height') > 20)")
	select {
	case <-downloads:
		t.Error("the download has ended")
	default:
	}
	return page
}

// finding is a result of axe.
type finding struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML           string
		FailureSummary string
	}
}

func TestAccessibility(t *testing.T) {
	path := filepath.Join("node_modules", "axe-core", "axe.min.js")
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("the checker of accessibility is missing: run npm ci in e2e/page: %v", err)
	}
	page := busy(t)
	evaluate[any](page, "document.querySelector('.row[data-outcome=refused] .more').click(); 0")
	evaluate[any](page, string(axe)+"; 0")
	check := func(t *testing.T) []finding {
		t.Helper()
		page.t = t
		text := evaluate[string](page, `axe.run({resultTypes: ['violations']}).then((r) => JSON.stringify(r.violations))`)
		var all []finding
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	require := func(t *testing.T) {
		t.Helper()
		for _, f := range check(t) {
			grave := f.Impact == "serious" || f.Impact == "critical"
			for _, n := range f.Nodes {
				if line := fmt.Sprintf("%s (%s): %s\n%s\n%s", f.ID, f.Impact, f.Help, n.HTML, n.FailureSummary); grave {
					t.Error(line)
				} else {
					t.Log(line)
				}
			}
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 400} {
			t.Run(fmt.Sprintf("%s, %d pixels", scheme, width), func(t *testing.T) {
				page.scheme(scheme)
				page.size(width, 900)
				require(t)
			})
		}
		t.Run(scheme+", everything shown", func(t *testing.T) {
			// The notices have no common cause.
			evaluate[any](page, `for (const id of ['login', 'disconnected', 'problem', 'read-only', 'message']) {
				document.getElementById(id).hidden = false;
				const p = document.querySelector('#' + id + ' p:empty, #' + id + ' span:empty, #' + id + ' strong:empty');
				if (p) p.textContent = 'Some text of the notice';
			} 0`)
			evaluate[any](page, "document.querySelector('#message').dataset.bad = 'true'; 0")
			require(t)
			evaluate[any](page, "document.querySelector('#confirm').showModal(); 0")
			require(t)
			evaluate[any](page, "document.querySelector('#confirm').close(); 0")
		})
	}
	t.Run("a fault is found", func(t *testing.T) {
		evaluate[any](page, "document.querySelector('#filter-host').closest('label').replaceWith(document.querySelector('#filter-host')); document.querySelector('#filter-host').placeholder = ''; 0")
		for _, f := range check(t) {
			if f.Impact == "serious" || f.Impact == "critical" {
				return
			}
		}
		t.Error("axe finds nothing when a field has no label")
	})
	page.t = t
}

func TestScreenshots(t *testing.T) {
	dir := *screenshots
	if dir == "" {
		dir = t.ArtifactDir()
	}
	page := busy(t)
	for _, shot := range []struct {
		name, scheme  string
		width, height int64
	}{
		{"light", "light", 1280, 1180},
		{"dark", "dark", 1280, 1180},
		{"narrow", "light", 400, 2600},
		{"narrow-dark", "dark", 400, 900},
	} {
		page.scheme(shot.scheme)
		page.size(shot.width, shot.height)
		if width := evaluate[int64](page, "document.documentElement.scrollWidth"); width > shot.width {
			t.Errorf("%s: the page is %d pixels wide, and can be scrolled to the side", shot.name, width)
		}
		image, err := chromedp.Run(page.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, shot.name+".png"), image, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the screenshots are in %s", dir)
}
