//go:build e2e

// Questions, grants, and the settings that the page can change.

package page

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// typeInto types text into a field in place of what it has.
func typeInto(selector, text string) chromedp.Action[chromedp.Void] {
	s := chromedp.CSS(selector)
	return chromedp.Steps(chromedp.Clear(s), chromedp.SendKeys(s, text))
}

// armed is a condition that is true when a click on an answer counts.
func armed(answer string) string {
	return fmt.Sprintf("document.querySelector('.question:not([data-state=done]) button[data-answer=%s]:not([aria-disabled]):not(:disabled)')", answer)
}

func button(answer string) string {
	return fmt.Sprintf(".question:not([data-state=done]) button[data-answer=%s]", answer)
}

func TestAnswer(t *testing.T) {
	p := start(t, asking)
	first, second := open(t, p.PageURL()).live(), open(t, p.PageURL()).live()
	if evaluate[bool](first, "location.href.includes('code')") {
		t.Error("the code stays in the address bar")
	}

	_, c := p.session(attribution("npm test", "talk"))
	status := begin(t, c, "http://asked.example/bytes/10")
	for _, page := range []*tab{first, second} {
		page.wait("the question", armed("once"))
		if got := page.text(".question h3"); got != "npm test wants to send GET to asked.example:80" {
			t.Errorf("the question is %q", got)
		}
		if got := evaluate[string](page, "document.title"); got != "(1) networkproxy" {
			t.Errorf("the title is %q", got)
		}
		if got := page.text("#announce[aria-live=assertive]"); !strings.Contains(got, "1 question waits: npm test") {
			t.Errorf("the announcement is %q", got)
		}
	}
	if got := evaluate[string](first, "[...document.querySelectorAll('.question button')].map((b) => b.dataset.answer).join()"); got != "once,command,group,no" {
		t.Errorf("the answers are %s", got)
	}
	first.click(button("once"))
	if got := receive(t, "the response", status); got != 200 {
		t.Errorf("after the answer once: status %d, want 200", got)
	}
	first.wait("the result", "document.querySelector('.question .result').textContent === 'You answered: Allow once.'")
	second.wait("the answer of the other", "document.querySelector('.question .result').textContent.startsWith('Answered elsewhere: ')")
	second.wait("the title without a number", "document.title === 'networkproxy'")
	second.wait("the row of the question", row("asked", "asked.example")+"?.textContent.includes('allowed')")
	second.wait("the end of the question", "document.querySelector('#questions').hidden")
}

// TestTwoAnswers lets two viewers give different answers at the same time. One counts,
// and the client gets what it says.
func TestTwoAnswers(t *testing.T) {
	p := start(t, asking)
	first, second := open(t, p.PageURL()).live(), open(t, p.PageURL()).live()
	_, c := p.session(attribution("npm test", ""))
	for i := range 2 {
		status := begin(t, c, fmt.Sprintf("http://asked%d.example/", i))
		first.wait("the question", armed("once"))
		second.wait("the question", armed("no"))
		var clicks sync.WaitGroup
		clicks.Go(func() { evaluate[any](first, "document.querySelector('"+button("once")+"').click()") })
		clicks.Go(func() { evaluate[any](second, "document.querySelector('"+button("no")+"').click()") })
		clicks.Wait()
		const results = "([...document.querySelectorAll('.question .result:not([hidden])')].at(-1)?.textContent ?? '')"
		for _, page := range []*tab{first, second} {
			page.wait("the results", fmt.Sprintf("document.querySelectorAll('.question').length === document.querySelectorAll('.question[data-state=done]').length && %s !== ''", results))
		}
		a, b := evaluate[string](first, results), evaluate[string](second, results)
		got := receive(t, "the response", status)
		switch {
		case a == "You answered: Allow once." && !strings.HasPrefix(b, "You"):
			if got != 200 {
				t.Errorf("once counted, but the status is %d", got)
			}
		case b == "You answered: Refuse." && !strings.HasPrefix(a, "You"):
			if got != 403 {
				t.Errorf("no counted, but the status is %d", got)
			}
		default:
			t.Errorf("the viewers see %q and %q, and the status is %d", a, b, got)
		}
		for _, page := range []*tab{first, second} {
			page.wait("the end of the question", "document.querySelector('#questions').hidden")
		}
	}
}

// TestAlways saves an answer in the learned file, and then cannot.
func TestAlways(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "learned")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "learned.toml")
	p := start(t, func(b *networkproxy.Builder) { b.AskOnPage().AdminToken(token).LearnedFile(file) })
	page := open(t, p.PageURL()).live()
	status := begin(t, p.shared(), "http://good.example/")
	page.wait("the question", armed("always"))
	page.click(button("always"))
	if got := receive(t, "the response", status); got != 200 {
		t.Errorf("status %d, want 200", got)
	}
	page.wait("the result", "document.querySelector('.question .result').textContent === 'You answered: Always allow.'")
	page.wait("the rule", fmt.Sprintf("[...document.querySelectorAll('#allowed-list li')].some((r) => r.textContent.startsWith('good.example:80') && r.textContent.includes(%q))", file))

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // in the place of the directory
		t.Fatal(err)
	}
	status = begin(t, p.shared(), "http://other.example/")
	page.wait("the question", armed("always"))
	page.click(button("always"))
	if got := receive(t, "the response", status); got != 200 {
		t.Errorf("status %d, want 200", got)
	}
	page.wait("the reason", fmt.Sprintf("document.querySelector('.question:last-child .result.bad')?.textContent.includes(%q)", file))
}

// TestClickBeforeQuestion checks that a click which was meant for something else is no
// answer to a question that has just appeared under the pointer.
func TestClickBeforeQuestion(t *testing.T) {
	p := start(t, asking)
	page := open(t, p.PageURL()).live()
	evaluate[any](page, `new MutationObserver(() => {
		const b = document.querySelector('.question button[data-answer=once]');
		if (b && !window.clicked) { window.clicked = true; b.click(); }
	}).observe(document.querySelector('#question-list'), {childList: true}); 0`)
	status := begin(t, p.shared(), "http://asked.example/")
	page.wait("the early click", "window.clicked")
	page.wait("the question", armed("no"))
	if got := evaluate[string](page, "document.querySelector('.question').dataset.state ?? 'open'"); got != "open" {
		t.Errorf("the question is %s after an early click", got)
	}
	if got := page.text(".question button[data-answer=command]"); got != "Allow until the proxy ends" {
		t.Errorf("on the shared listeners, the answer command is %q", got)
	}
	page.click(button("no"))
	if got := receive(t, "the response", status); got != 403 {
		t.Errorf("status %d, want 403", got)
	}
}

// TestRevokeCutsDownload answers a question for the session, and revokes the grant during
// a download.
func TestRevokeCutsDownload(t *testing.T) {
	p := start(t, asking)
	page := open(t, p.PageURL()).live()
	s, c := p.session(attribution("curl -O http://large.example/endless", ""))
	type download struct {
		n   int64
		err error
	}
	done := make(chan download, 1)
	go func() {
		resp, err := c.Get("http://large.example/endless")
		if err != nil {
			done <- download{0, err}
			return
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		done <- download{n, err}
	}()
	page.wait("the question", armed("command"))
	page.click(button("command"))
	page.wait("the grant", "document.querySelector('#grant-list').textContent.includes('1 open')")
	page.wait("the download", row("allowed", "large.example"))
	if got := page.text("#grant-list li"); !strings.Contains(got, "large.example:80") || !strings.Contains(got, "for session "+s.ID()) {
		t.Errorf("the grant is %q", got)
	}

	// The button keeps the focus while the list is rendered again.
	evaluate[any](page, "document.querySelector('#grant-list button').focus(); window.button = document.activeElement; 0")
	before := page.text("#session-list .numbers")
	page.wait("another rendering", fmt.Sprintf("document.querySelector('#session-list .numbers').textContent !== %q", before))
	if !evaluate[bool](page, "document.activeElement === window.button && document.activeElement.textContent === 'Revoke'") {
		t.Error("the focus is lost when the grants are rendered again")
	}

	page.click("#grant-list button")
	got := receive(t, "the end of the download", done)
	if got.err == nil || got.n == 0 {
		t.Errorf("the download ended after %d bytes with %v, want an error after some", got.n, got.err)
	}
	page.wait("the cut", row("cut", "large.example")+"?.textContent.includes('grant_revoked')")
	page.wait("the end of the grant", "document.querySelector('#grant-list').children.length === 0 && !document.querySelector('#no-grants').hidden")
	page.wait("the message", "/ 1 connection was cut\\.$/.test(document.querySelector('#message-text').textContent)")
	page.wait("the counter", counter("cut", "1"))
	if evaluate[bool](page, "document.activeElement === document.body") {
		t.Error("the focus is lost when the grant disappears")
	}
}

func TestModeReloadAndRules(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	write := func(list string, more string) {
		t.Helper()
		text := "[network_proxy]\nenabled = true\n" + more + "[network_proxy.policy]\nallowed_domains = [" + list + "]\ndenied_domains = [\"bad.example\"]\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`"one.example"`, "")
	built, err := networkproxy.NewBuilder().ConfigFile(file).HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := built.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	page := open(t, "http://"+h.AdminAddr()+"/").live()

	page.click("#mode-limited")
	page.wait("the form for the token", "!document.querySelector('#login').hidden")
	if h.Mode() != networkproxy.ModeFull {
		t.Fatal("the page changed the mode without a token")
	}
	page = open(t, h.PageURL()).live()
	page.wait("the rules", fmt.Sprintf("document.querySelector('#allowed-list').textContent === 'one.example%s:4:20'", file))
	page.wait("the denylist", fmt.Sprintf("document.querySelector('#denied-list').textContent === 'bad.example%s:5:19'", file))

	pressed := func(mode networkproxy.Mode) string {
		return fmt.Sprintf("document.querySelector('#mode-%s[aria-pressed=true]') && document.querySelectorAll('.mode [aria-pressed=true]').length === 1", mode)
	}
	page.wait("the mode", pressed("full"))
	page.click("#mode-limited")
	page.wait("the mode", pressed("limited"))
	if h.Mode() != networkproxy.ModeLimited {
		t.Errorf("the mode is %s", h.Mode())
	}
	page.click("#mode-full")
	page.wait("the question", "document.querySelector('#confirm').open && document.activeElement.id === 'confirm-no'")
	page.click("#confirm-no")
	page.wait("the end of the question", "!document.querySelector('#confirm').open")
	if h.Mode() != networkproxy.ModeLimited {
		t.Error("the mode changed without a confirmation")
	}
	page.click("#mode-full")
	page.click("#confirm-yes")
	page.wait("the mode", pressed("full"))
	if h.Mode() != networkproxy.ModeFull {
		t.Errorf("the mode is %s", h.Mode())
	}

	write(`"two.example"`, "")
	page.click("#reload")
	page.wait("the new rule", "document.querySelector('#allowed-list').textContent.startsWith('two.example')")
	write(`"https://two.example/"`, "")
	page.click("#reload")
	page.wait("the failed reload", "document.querySelector('#message').dataset.bad === 'true' && document.querySelector('#message-text').textContent.includes('allowed_domains[0]')")
	page.wait("the state", "document.querySelector('#state').textContent === 'degraded' && document.querySelector('#problem-list').textContent.includes('the last reload failed')")
	page.click("#dismiss")
	write(`"two.example"`, "admin_read_only = true\n")
	page.click("#reload")
	page.wait("read-only", "document.querySelector('#mode-limited').disabled && !document.querySelector('#read-only').hidden")
	page.wait("the state", "document.querySelector('#state').textContent === 'ok' && document.querySelector('#problem').hidden")
}

// TestKeyboard uses the page without a mouse.
func TestKeyboard(t *testing.T) {
	p := start(t, asking)
	page := open(t, p.PageURL()).live()
	focused := func() string { return evaluate[string](page, "document.activeElement.textContent.trim()") }
	page.do(chromedp.KeyEvent("\t"))
	if got := focused(); got != "Skip to the requests" {
		t.Errorf("the first stop is %q", got)
	}
	page.do(chromedp.KeyEvent("\r"))
	if got := focused(); got != "Requests" {
		t.Errorf("after the skip, the focus is on %q", got)
	}
	c := p.shared()
	status := begin(t, c, "http://asked.example/")
	page.wait("the question", armed("no"))
	evaluate[any](page, "document.querySelector('#waiting').focus()")
	page.do(chromedp.KeyEvent("\r"))
	if got := focused(); got != "1 question waits" {
		t.Errorf("after the link to the questions, the focus is on %q", got)
	}
	for range 3 { // once, until the proxy ends, no
		page.do(chromedp.KeyEvent("\t"))
	}
	if got := focused(); got != "Refuse" {
		t.Errorf("the third button is %q", got)
	}
	page.do(chromedp.KeyEvent(" "))
	if got := receive(t, "the response", status); got != 403 {
		t.Errorf("status %d, want 403", got)
	}
	page.wait("the focus on the result", "document.activeElement.textContent === 'You answered: Refuse.'")

	page.wait("the rows", "document.querySelectorAll('.row').length >= 2")
	evaluate[any](page, "document.querySelector('#scroller').focus()")
	page.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent("\r"))
	page.wait("the details", "document.activeElement.getAttribute('aria-expanded') === 'true' && document.querySelector('.row dl').textContent.includes('asked.example')")
	evaluate[any](page, "window.kept = document.activeElement; 0")
	for _, host := range hosts(2) {
		begin(t, c, "http://"+host+"/")
	}
	page.wait("more rows", row("asked", "h1.refused.example"))
	if !evaluate[bool](page, "document.activeElement === window.kept") {
		t.Error("the focus is lost when rows are added")
	}
}

// TestProgram answers a question of the real program, which prints the link to the page.
func TestProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "networkproxy")
	build := exec.Command("go", "build", "-o", program, "./cmd/networkproxy")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello from the target") }))
	t.Cleanup(target.Close)
	address := strings.Replace(target.URL, "127.0.0.1", "localhost", 1)
	run := exec.CommandContext(t.Context(), program, "run", "-ask=page", "--", "curl", "-sS", "--fail", address)
	run.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	var stdout bytes.Buffer
	run.Stdout = &stdout
	stderr, err := run.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	link := make(chan string, 1)
	var all bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		buffer := make([]byte, 4096)
		for {
			n, err := stderr.Read(buffer)
			all.Write(buffer[:n])
			if m := regexp.MustCompile(`http://\S+#code=\w+ `).FindString(all.String()); m != "" {
				select {
				case link <- strings.TrimSpace(m):
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	began := time.Now()
	page := open(t, receive(t, "the link", link)).live()
	page.wait("the question", armed("once"))
	if got := page.text(".question h3"); !strings.HasPrefix(got, "curl -sS --fail "+address) || !strings.Contains(page.text(".question .facts"), "a service on this machine") {
		t.Errorf("the question is %q, %q", got, page.text(".question .facts"))
	}
	page.click(button("once"))
	<-read
	if err := run.Wait(); err != nil || stdout.String() != "hello from the target" {
		t.Errorf("curl: %v, %q after %v\n%s", err, stdout.String(), time.Since(began), all.String())
	}
	page.wait("the end of the program", "!document.querySelector('#disconnected').hidden")
}
