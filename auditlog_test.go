// Tests of the audit log: its format, and what happens if it cannot be written.

package networkproxy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
)

// plainEvent is an Event that encoding/json encodes by its fields.
type plainEvent struct {
	Version int `json:"version"`
	eventFields
}

type eventFields networkproxy.Event

// TestEventJSON compares the JSON of random events with that of encoding/json.
func TestEventJSON(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	fields := make(map[string]int)
	n := scaled(5000)
	for range n {
		var e networkproxy.Event
		fillRandomly(random, reflect.ValueOf(&e).Elem())
		want, err := json.Marshal(plainEvent{1, eventFields(e)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.MarshalJSON()
		if err != nil || string(got) != string(want) {
			t.Fatalf("got %s, %v\nwant %s", got, err, want)
		}
		var back networkproxy.Event
		if err := json.Unmarshal(got, &back); err != nil {
			t.Errorf("%s: %v", got, err)
		}
		if again, _ := back.MarshalJSON(); string(again) != string(got) {
			t.Errorf("after decoding and encoding %s is %s", got, again)
		}
		var members map[string]any
		json.Unmarshal(got, &members)
		for name := range members {
			fields[name]++
		}
	}
	for f := range reflect.TypeFor[plainEvent]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && fields[name] < n/5 {
			t.Errorf("the member %s was in %d events, so the test proves little", name, fields[name])
		}
	}
}

// fillRandomly sets the fields of a struct, or leaves them zero.
func fillRandomly(random *rand.Rand, v reflect.Value) {
	texts := []string{"plain", `a "quoted" text`, "<a&b>\\", "é\n\x00", "\u2028"}
	for _, f := range v.Fields() {
		if random.IntN(2) == 0 {
			continue
		}
		switch f.Interface().(type) {
		case time.Time:
			f.Set(reflect.ValueOf(time.Unix(random.Int64N(1<<33), random.Int64N(1e9)).UTC()))
			continue
		case netip.Addr:
			f.Set(reflect.ValueOf(netip.MustParseAddr("2001:db8::1")))
			continue
		case netip.AddrPort:
			f.Set(reflect.ValueOf(netip.MustParseAddrPort("[fe80::1%eth0]:80")))
			continue
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{texts[random.IntN(5)]: "1", texts[random.IntN(5)]: texts[random.IntN(5)]}))
			continue
		}
		switch f.Kind() {
		case reflect.String:
			f.SetString(texts[random.IntN(len(texts))])
		case reflect.Int, reflect.Int64:
			f.SetInt(random.Int64N(1 << 40))
		case reflect.Uint16:
			f.SetUint(uint64(random.IntN(1 << 16)))
		case reflect.Uint64:
			f.SetUint(random.Uint64())
		case reflect.Struct:
			fillRandomly(random, f)
		default:
			panic("a field of the kind " + f.Kind().String())
		}
	}
}

// TestAuditLogPage checks that docs/audit-log.md has a row for every kind and every
// member, and no other.
func TestAuditLogPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/audit-log.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string][]string) // by the heading of the first column
	heading := ""
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		switch {
		case len(cells) < 3:
			heading = ""
		case heading == "":
			heading = strings.TrimSpace(cells[1])
		case !strings.HasPrefix(cells[1], "--") && !strings.HasPrefix(cells[1], " --"):
			rows[heading] = append(rows[heading], strings.Trim(cells[1], " `"))
		}
	}
	var members []string
	for f := range reflect.TypeFor[plainEvent]().Fields() {
		if f.Anonymous {
			for f := range f.Type.Fields() {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				members = append(members, name)
			}
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		members = append(members, name)
	}
	if !slices.Equal(rows["member"], members) {
		t.Errorf("the page has the members\n%q\nwant\n%q", rows["member"], members)
	}
	if want := networkproxy.EventKinds(); !slices.Equal(rows["kind"], want) {
		t.Errorf("the page has the kinds\n%q\nwant\n%q", rows["kind"], want)
	}
}

// BenchmarkAccount measures the account of a forwarded request.
func BenchmarkAccount(b *testing.B) {
	for _, test := range []struct {
		name   string
		change func(*networkproxy.Builder)
	}{
		{"nobody follows", nil},
		{"OnEvent", func(b *networkproxy.Builder) { b.OnEvent(func(networkproxy.Event) {}) }},
		{"audit log discarded", func(b *networkproxy.Builder) { b.AuditLog(io.Discard) }},
	} {
		b.Run(test.name, func(b *testing.B) {
			l := start(b, allow("allowed.example"), test.change)
			account := networkproxy.Account(l.Handle)
			b.ReportAllocs()
			for b.Loop() {
				account()
			}
			l.Close()
		})
	}
}

// auditLines decodes the lines of an audit log.
func auditLines(t *testing.T, log []byte) (list []networkproxy.Event) {
	t.Helper()
	for line := range bytes.Lines(log) {
		var e struct {
			Version int
			networkproxy.Event
		}
		if err := json.Unmarshal(line, &e.Event); err != nil {
			t.Fatalf("the line %q: %v", line, err)
		}
		if !bytes.HasPrefix(line, []byte(`{"version":1,"kind":`)) {
			t.Errorf("the line %q has no version", line)
		}
		list = append(list, e.Event)
	}
	return list
}

// writerFunc is an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestAuditLog compares the audit log with the events that a function gets.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer // read after the end of the proxy only
	var all events
	l := start(t, allow("web.example", "**.test"), func(b *networkproxy.Builder) { b.OnEvent(all.add).AuditLog(&log) })
	hello := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }
	l.origin("web.example", 80, hello)
	l.origin("web.test", 80, hello)
	s := l.command("make")
	client := clientThrough(t, s.ProxyURL())
	for i := range 50 {
		doRequest(t, client, "GET", "http://web.example/?query", "")
		if i%3 == 0 { // so that some of the lines before it are about the same entry, and some are not
			doRequest(t, client, "GET", "http://web.test/?query", "")
		}
		doRequest(t, client, "GET", "http://other.example/?query", "")
		if i == 25 { // another generation
			if err := l.AllowDomain("new.example"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got := auditLines(t, log.Bytes())
	want := all.all()
	if len(want) != 120 || len(got) != len(want) {
		count := make(map[networkproxy.EventKind]int)
		for _, e := range want {
			count[e.Kind]++
		}
		t.Fatalf("got %d lines and %d events, want 120: %v", len(got), len(want), count)
	}
	patterns := map[string]string{"web.example": "web.example", "web.test": "**.test"}
	generation := want[1].Generation // the first is about the session
	for i := range got {
		if e := &got[i]; e.Kind == networkproxy.EventRule {
			generation = e.Generation
		} else if e.Kind == networkproxy.EventAllowed && (e.Rule.Pattern != patterns[e.Host] || e.Generation != generation) {
			t.Errorf("line %d has the rule %+v and the generation %d, want %q and %d", i, e.Rule, e.Generation, patterns[e.Host], generation)
		}
		a, _ := got[i].MarshalJSON()
		b, _ := want[i].MarshalJSON()
		if !bytes.Equal(a, b) {
			t.Errorf("line %d is %s, want %s", i, a, b)
		}
	}
	if bytes.Contains(log.Bytes(), []byte("query")) {
		t.Error("the audit log has query strings")
	}
}

// TestAuditLogPositions checks that events about refusals have the position of the
// rule, and that events about allowed requests, which are many, do not.
func TestAuditLogPositions(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer // read after the end of the proxy only
	file := newConfigFile(t, "policy.allowed_domains = [\"*.example\"]\npolicy.denied_domains = [\"denied.example\"]\n")
	l := startFile(t, func(b *networkproxy.Builder) { b.AuditLog(&log) }, file.path)
	l.origin("web.example", 80, func(http.ResponseWriter, *http.Request) {})
	l.get("http://web.example/")
	l.get("http://denied.example/")
	l.Close()
	lines := auditLines(t, log.Bytes())
	if len(lines) != 2 {
		t.Fatalf("got the lines %s", log.Bytes())
	}
	if r := lines[0].Rule; r.Pattern != "*.example" || r.Position != (networkproxy.Position{}) {
		t.Errorf("the allowed request has the rule %+v", r)
	}
	if r := lines[1].Rule; r.Pattern != "denied.example" || r.Position.Line != 4 {
		t.Errorf("the refused request has the rule %+v", r)
	}
}

// TestAuditLogFaults checks that a writer that fails, writes a part, returns an
// impossible number or panics costs nothing but lines, and that the log tells which
// are missing.
func TestAuditLogFaults(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log []byte
	fault := ""
	writes := 0
	l := start(t, allow("web.example"), func(b *networkproxy.Builder) {
		b.AuditLog(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			writes++
			switch fault {
			case "error":
				return 0, errors.New("no space left")
			case "part":
				log = append(log, p[:len(p)-5]...)
				return len(p) - 5, errors.New("no space left")
			case "short":
				return 0, nil
			case "more than there is":
				return len(p) + 1, nil
			case "less than nothing":
				return -1, nil
			case "panic":
				panic("broken")
			}
			log = append(log, p...)
			return len(p), nil
		}))
	})
	set := func(f string) {
		mu.Lock()
		defer mu.Unlock()
		fault, writes = f, 0
	}
	written := func() {
		t.Helper()
		eventually(t, "a write", func() bool { mu.Lock(); defer mu.Unlock(); return writes > 0 })
	}
	n := uint64(0)
	for _, f := range []string{"", "error", "", "part", "", "short", "more than there is", "less than nothing", "panic", "error", ""} {
		set(f)
		publish(t, l)
		publish(t, l)
		n += 2
		written()
	}
	failed := l.admin("GET", "/metrics", "").body
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	var total, last uint64
	for line := range bytes.Lines(log) {
		var e networkproxy.Event
		if err := json.Unmarshal(line, &e); err != nil {
			continue // the torn line
		}
		events := max(1, e.Dropped)
		if e.Seq != last+events {
			t.Errorf("the line %s follows the Seq %d", line, last)
		}
		last = e.Seq
		total += events
	}
	if total != n {
		t.Errorf("the log reports %d events, want %d:\n%s", total, n, log)
	}
	if !strings.Contains(failed, "networkproxy_audit_log_errors_total ") || strings.Contains(failed, "networkproxy_audit_log_errors_total 0") {
		t.Error("/metrics does not count the errors")
	}
	if c := strings.Count(l.log.String(), "the audit log cannot be written"); c != 3 {
		t.Errorf("the log reports %d times that the audit log fails, want once for each time that it begins to: 3", c)
	}
}

// TestAuditLogBlocks checks that a writer that does not return delays no request, and
// that the end of the proxy names it.
func TestAuditLogBlocks(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	l := start(t, allow("web.example"), func(b *networkproxy.Builder) {
		b.AuditLog(writerFunc(func(p []byte) (int, error) { <-release; return len(p), nil }))
	})
	l.origin("web.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	for range 3 * 8192 / 3 / 100 {
		if r := l.get("http://web.example/"); r.status != 200 {
			t.Fatalf("got the status %d", r.status)
		}
	}
	for range 10_000 {
		publish(t, l)
	}
	metrics := l.admin("GET", "/metrics", "").body
	_, rest, _ := strings.Cut(metrics, `networkproxy_callbacks_dropped_total{callback="audit log"} `)
	if dropped, _ := strconv.Atoi(strings.SplitN(rest, "\n", 2)[0]); dropped == 0 {
		t.Error("no event was dropped")
	}
	if err := l.Close(); !errors.Is(err, networkproxy.ErrCallbackRunning) || !strings.Contains(err.Error(), "the audit log's Writer") {
		t.Errorf("Close: got the error %v", err)
	}
}

// TestAccountCostsNothing checks that events allocate nothing for a request while
// nobody follows them, and that the request itself is the only allocation.
func TestAccountCostsNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		follow func(*lab)
		want   float64
	}{
		{"nobody follows", func(*lab) {}, 1},
		{"another session is followed", func(l *lab) { l.open(networkproxy.SessionConfig{OnEvent: func(networkproxy.Event) {}}) }, 1},
		{"an iterator follows", func(l *lab) { l.Events(t.Context()) }, 2},
	} {
		l := start(t, allow("allowed.example"), nil)
		test.follow(l)
		account := networkproxy.Account(l.Handle)
		for range 2000 { // fills the queue of the iterator
			account()
		}
		if n := allocations(account); n != test.want {
			t.Errorf("%s: got %v allocations for a request, want %v", test.name, n, test.want)
		}
		l.Close()
	}
}
