package httprule

// Tests of bodies.

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	oid    = "0123456789abcdef0123456789abcdef01234567"
	oid256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// pkt returns the pkt-line of s.
func pkt(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }

// compressed returns s in the coding gzip.
func compressed(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

var (
	noCoding = http.Header{}
	gzipped  = http.Header{"Content-Encoding": {"gzip"}}
)

// checkReplay fails the test unless Check accepts body and returns all of it.
func checkReplay(t *testing.T, c Content, header http.Header, body string) {
	t.Helper()
	for name, source := range map[string]io.Reader{
		"at once": strings.NewReader(body), "by bytes": iotest.OneByteReader(strings.NewReader(body)), "with EOF": iotest.DataErrReader(strings.NewReader(body)),
	} {
		replay, err := c.Check(header, source)
		if err != nil {
			t.Errorf("%s: %.80q: %v", name, body, err)
			continue
		}
		if got, err := io.ReadAll(replay); string(got) != body || err != nil {
			t.Errorf("%s: the replay of %.80q is %.80q, %v", name, body, got, err)
		}
	}
}

func TestFetches(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"want " + oid + " multi_ack_detailed no-done side-band-64k thin-pack ofs-delta deepen-since deepen-not agent=git/2.39.5\n",
		"want " + oid + "\n", "want " + oid, "want " + oid256 + " ofs-delta\n",
		"command=ls-refs\n", "command=ls-refs", "command=fetch", "command=object-info", "command=bundle-uri\n",
		"shallow " + oid + "\n", "deepen 1\n", "deepen-since 1700000000", "deepen-not refs/heads/main",
		"want " + oid + " " + strings.Repeat("x", maxFirstLine-4-46),
	} {
		for _, rest := range []string{"", "0000", "0001000fno-progress0000", strings.Repeat("have "+oid, 5000), "\x00\xff"} {
			checkReplay(t, ContentGitFetch, noCoding, pkt(line)+rest)
			checkReplay(t, ContentGitFetch, gzipped, compressed(pkt(line)+rest))
		}
	}
	checkReplay(t, ContentGitFetch, noCoding, "0000")
	checkReplay(t, ContentGitFetch, gzipped, compressed("0000"))
	checkReplay(t, ContentGitFetch, gzipped, compressed(pkt("want "+oid))+"garbage")
	checkReplay(t, ContentGitFetch, http.Header{"Content-Encoding": {" GZIP "}}, compressed(pkt("command=fetch")))
	checkReplay(t, ContentAny, gzipped, "anything")
}

func TestNoFetches(t *testing.T) {
	t.Parallel()
	old := oid + " " + oid + " refs/heads/main\x00 report-status"
	for _, body := range []string{
		"", "0", "00", "000", "0000x", "00000000", "0001", "0002", "0003", "0004", "0004" + pkt("want "+oid), "0000" + pkt(old),
		pkt(old), pkt("push"), pkt("command=push"), pkt("command=fetch2"), pkt("command="), pkt("command=fetch "), pkt("command=fetch\n\n"), pkt("Command=fetch"), pkt(" command=fetch"),
		pkt("want"), pkt("want "), pkt("want " + oid[1:]), pkt("want " + oid + "0"), pkt("want " + strings.ToUpper(oid)), pkt("want  " + oid), pkt("want " + oid + "\tx"), pkt("want " + oid + "\x00x"), pkt("want " + oid + " \xff"), pkt("want " + oid + "\nx"), pkt("want " + oid + "\r\n"),
		pkt("want " + oid + " " + strings.Repeat("x", maxFirstLine-4-45)), "ffff" + strings.Repeat("x", 70000),
		pkt("have " + oid), pkt("done"), pkt("shallow"), pkt("shallow " + oid + " x"), pkt("deepen"), pkt("deepen x"), pkt("deepen -1"), pkt("deepen 1 2"), pkt("deepen-not "),
		"0009", "0032want " + oid, "003gwant " + oid, "0x32want " + oid, "+032want " + oid, " 032want " + oid,
		"{}", "POST /", strings.Repeat("a", 1000),
	} {
		for _, tt := range []struct {
			header http.Header
			body   string
		}{{noCoding, body}, {gzipped, compressed(body)}, {gzipped, body}} {
			replay, err := ContentGitFetch.Check(tt.header, strings.NewReader(tt.body))
			var wrong *ContentError
			if replay != nil || !errors.As(err, &wrong) || wrong.Content != ContentGitFetch || !printable(err.Error()) {
				t.Errorf("%v %.80q: got %v, %v, want a *ContentError", tt.header, body, replay, err)
			}
		}
	}
}

func TestCodings(t *testing.T) {
	t.Parallel()
	good := pkt("command=fetch") + "0000"
	for _, tt := range []struct {
		header http.Header
		body   string
	}{
		{http.Header{"Content-Encoding": {"deflate"}}, good}, {http.Header{"Content-Encoding": {"br"}}, good}, {http.Header{"Content-Encoding": {"identity"}}, good}, {http.Header{"Content-Encoding": {""}}, good},
		{http.Header{"Content-Encoding": {"gzip, gzip"}}, compressed(compressed(good))}, {http.Header{"Content-Encoding": {"gzip", "gzip"}}, compressed(good)}, {http.Header{"Content-Encoding": {"gzip", "br"}}, compressed(good)},
		{http.Header{"Content-Encoding": {"gzip"}, "Content_encoding": {"gzip"}}, compressed(good)}, {http.Header{"Content_Encoding": {"br"}}, good},
		{noCoding, compressed(good)}, {gzipped, compressed(good)[:15]}, {gzipped, "\x1f\x8b"}, {gzipped, ""},
	} {
		if _, err := ContentGitFetch.Check(tt.header, strings.NewReader(tt.body)); !isContentError(err) {
			t.Errorf("%v %q: got %v, want a *ContentError", tt.header, tt.body, err)
		}
	}
	if _, err := ContentGitFetch.Check(noCoding, nil); !isContentError(err) {
		t.Errorf("no body: got %v, want a *ContentError", err)
	}
}

func isContentError(err error) bool {
	var wrong *ContentError
	return errors.As(err, &wrong)
}

// TestBombs checks that a body that decompresses to very much, or of which nothing
// comes out, is neither read nor held.
func TestBombs(t *testing.T) {
	t.Parallel()
	bombSize := 16 << 20
	if testing.Short() {
		bombSize = 1 << 20
	}
	zeros := compressed(string(make([]byte, bombSize)))
	emptyBlocks := compressed("")[:10] + strings.Repeat("\x00\x00\x00\xff\xff", 1<<20)
	longName := "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff" + strings.Repeat("n", 1<<20)
	extra := "\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\xff\xff" + strings.Repeat("e", 1<<20)
	members := strings.Repeat(compressed(""), 1<<16)
	for name, body := range map[string]string{"zeros": zeros, "empty blocks": emptyBlocks, "long name": longName, "extra field": extra, "empty members": members} {
		source := &counter{Reader: strings.NewReader(body)}
		if _, err := ContentGitFetch.Check(gzipped, source); !isContentError(err) {
			t.Errorf("%s: got %v, want a *ContentError", name, err)
		}
		if source.n > maxHeld {
			t.Errorf("%s: read %d bytes, want at most %d", name, source.n, maxHeld)
		}
	}
	// The content behind the first line does not matter.
	bomb := compressed(pkt("command=fetch") + string(make([]byte, bombSize)))
	source := &counter{Reader: strings.NewReader(bomb)}
	if _, err := ContentGitFetch.Check(gzipped, source); err != nil || source.n > maxHeld {
		t.Errorf("zeros behind a fetch: %v after %d bytes", err, source.n)
	}
}

type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

// TestCheckReadsOnlyTheFirstLine checks that Check does not wait for more of a body
// than it needs.
func TestCheckReadsOnlyTheFirstLine(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	line := pkt("want " + oid)
	sent := make(chan error)
	go func() {
		_, err := io.WriteString(w, line)
		sent <- err
	}()
	replay, err := ContentGitFetch.Check(noCoding, r)
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := io.WriteString(w, "0000")
		w.CloseWithError(io.ErrUnexpectedEOF)
		sent <- err
	}()
	got, err := io.ReadAll(replay)
	if string(got) != line+"0000" || err != io.ErrUnexpectedEOF {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// TestBrokenBodies checks that an error of the body is not taken for its content.
func TestBrokenBodies(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, c := range []Content{ContentGitFetch, ContentLFSDownload} {
		for _, begin := range []string{"", "00", "0032want", "0000", `{"operation":"download"}`} {
			_, err := c.Check(noCoding, io.MultiReader(strings.NewReader(begin), iotest.ErrReader(broken)))
			if c == ContentGitFetch && strings.HasPrefix(begin, "{") {
				continue // it is refused before the error
			}
			if !errors.Is(err, broken) || isContentError(err) {
				t.Errorf("%v, %q: got %v, want the error of the body", c, begin, err)
			}
		}
	}
}

func TestLFS(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"operation":"download"}`, ` { "operation" : "download" } ` + "\n", `{"\u006fperation":"\u0064ownload"}`,
		`{"operation":"download","transfers":["basic"],"ref":{"name":"refs/heads/main"},"objects":[{"oid":"` + oid256 + `","size":123}],"hash_algo":"sha256"}`,
		`{"objects":[{"oid":"a","size":1},{"oid":"b","size":2}],"operation":"download"}`,
		`{"objects":[{"operation":"upload"}],"operation":"download"}`, `{"x":"é\u0000","operation":"download"}`,
		`{"operation":"download","x":"` + strings.Repeat("a", maxLFS-50) + `"}`,
	} {
		checkReplay(t, ContentLFSDownload, noCoding, body)
	}
	for _, body := range []string{
		"", "{}", "[]", "null", `"download"`, "download", `{"operation":"upload"}`, `{"operation":"Download"}`, `{"operation":"download "}`, `{"operation":["download"]}`, `{"operation":{"operation":"download"}}`, `{"operation":null}`, `{"operation":1}`, `{"operation":""}`,
		`{"Operation":"download"}`, `{"operation ":"download"}`, `[{"operation":"download"}]`, `{"x":{"operation":"download"}}`,
		`{"operation":"download","operation":"upload"}`, `{"operation":"upload","operation":"download"}`, `{"operation":"download","operation":"download"}`,
		`{"operation":"download","Operation":"upload"}`, `{"OPERATION":"upload","operation":"download"}`, `{"operation":"download","\u006fperation":"upload"}`,
		`{"operation":"download","operation\u0000":"upload"}`, `{"operation":"download","ope\u0000ration":"upload"}`, `{"operation":"download","operation\ud800":"upload"}`, "{\"operation\":\"download\",\"operat\u0131on\":\"upload\"}", "{\"operation\":\"download\",\"operation\u200b\":\"upload\"}",
		`{"operation":"download\ud800"}`, "{\"operation\":\"download\xff\"}", "{\"operation\":\"download\",\"x\":\"\xff\"}",
		`{"operation":"download","objects":[{"oid":"a","oid":"b"}]}`, `{"operation":"download","objects":[{"oid":"a","OID":"b"}]}`, `{"operation":"download","ref":{"x":{"a":1,"a":2}}}`,
		`{"operation":"download"}{"operation":"upload"}`, `{"operation":"download"} x`, `{"operation":"download",}`, `{"operation":"download"`, `{'operation':'download'}`, `{operation:"download"}`, `{"operation":"download"/**/}`, `{"operation":"download","x":NaN}`, `{"operation":"download","x":01}`,
		"\ufeff" + `{"operation":"download"}`, "\xff\xfe{\x00", `{"operation":"download"}` + "\x00",
		`{"operation":"download","x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, `{"operation":"download","x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
		`{"operation":"download","x":"` + strings.Repeat("a", maxLFS) + `"}`,
		`{"operation":"download"}` + strings.Repeat(" ", maxLFS) + `{"operation":"upload"}`,
	} {
		if replay, err := ContentLFSDownload.Check(noCoding, strings.NewReader(body)); replay != nil || !isContentError(err) || !printable(err.Error()) {
			t.Errorf("%.90q: got %v, want a *ContentError", body, err)
		}
	}
	good := `{"operation":"download"}`
	if _, err := ContentLFSDownload.Check(gzipped, strings.NewReader(compressed(good))); !isContentError(err) {
		t.Errorf("compressed: got %v, want a *ContentError", err)
	}
	endless := &counter{Reader: endlessSpaces{}}
	if _, err := ContentLFSDownload.Check(noCoding, endless); !isContentError(err) || endless.n > maxLFS+1 {
		t.Errorf("endless: %v after %d bytes", err, endless.n)
	}
}

type endlessSpaces struct{}

func (endlessSpaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}
