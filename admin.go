// The admin API: what the proxy does and why, and the few settings that can
// change while it runs. It is made for curl. internal/adminhttp serves it.

package networkproxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/networkproxy/internal/adminhttp"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/feed"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
)

// admin has the functions that serve the resources of the admin API.
type admin struct{ h *Handle }

// adminRoutes returns the resources of the admin API of h.
func adminRoutes(h *Handle) []adminhttp.Route {
	a := admin{h}
	return append(adminhttp.PageRoutes(), []adminhttp.Route{
		{Method: "GET", Path: "/health", Serve: a.health},
		{Method: "GET", Path: "/config", Serve: a.config},
		{Method: "GET", Path: "/patterns", Serve: a.patterns},
		{Method: "GET", Path: "/blocked", Serve: a.blocked},
		{Method: "GET", Path: "/metrics", Serve: a.metrics},
		{Method: "GET", Path: "/explain", Serve: a.explain},
		{Method: "GET", Path: "/suggest", Serve: a.suggest},
		{Method: "GET", Path: "/grants", Serve: a.grants},
		{Method: "GET", Path: "/ca.pem", Serve: a.certificates},
		{Method: "POST", Path: "/grants/revoke", Serve: a.revokeGrant},
		{Method: "POST", Path: "/mode", Serve: a.setMode},
		{Method: "POST", Path: "/reload", Serve: a.reload},
		{Method: "GET", Path: "/sessions", Serve: a.sessions},
		{Method: "GET", Path: "/events", Serve: a.events},
		{Method: "GET", Path: "/questions", Serve: a.questions},
		{Method: "POST", Path: "/questions/answer", Serve: a.answer},
		{Method: "POST", Path: "/login", Public: true, Serve: a.login},
	}...)
}

// adminConfig returns the settings of the admin API.
func (h *Handle) adminConfig() adminhttp.Config {
	s := h.settings
	token := s.adminToken
	if token == "" && s.askOnPage {
		token = rand.Text()
	}
	return adminhttp.Config{
		Routes:         adminRoutes(h),
		Token:          token,
		ReadOnly:       h.adminReadOnly,
		Context:        h.drain,
		HeaderTimeout:  s.limits.HeaderTimeout,
		IdleTimeout:    s.limits.IdleTimeout,
		MaxHeaderBytes: s.limits.HeaderBytes,
		Logger:         h.gate.ClientLog,
	}
}

// AskOnPage makes the proxy hold each question until somebody answers it: on the page
// of the admin API, see [Handle.PageURL], or by [Handle.Answer]. It takes the place of
// a PolicyDecider. [Builder.DeciderTimeout] bounds the wait.
//
// The admin API then needs a token, because otherwise the command that asks could
// answer. Without [Builder.AdminToken], it gets a random one, which only PageURL
// passes on.
func (b *Builder) AskOnPage() *Builder {
	b.settings.askOnPage = true
	return b
}

// PageURL returns the address of the page of the admin API, with a code that gives one
// browser the admin token once. Show it to the user only: it is worth as much as the
// token. The newest eight codes are valid until they are used. PageURL returns "" if
// a browser cannot reach the admin API, because there is none or it has a Unix socket.
func (h *Handle) PageURL() string {
	if h.adminAddr == "" || filepath.IsAbs(h.adminAddr) {
		return ""
	}
	return "http://" + h.adminAddr + "/#code=" + h.admin.NewCode()
}

// withStatus returns err with the HTTP status that it stands for. The status of
// all other errors is 409: the request was fine, but the configuration or the
// managed limits do not permit it.
func withStatus(err error) error {
	switch {
	case errors.Is(err, ErrNoGrant), errors.Is(err, ErrNoQuestion):
		return &adminhttp.StatusError{Status: http.StatusNotFound, Err: err}
	case errors.Is(err, ErrClosed), errors.Is(err, feed.ErrClosed), errors.Is(err, feed.ErrTooMany):
		return &adminhttp.StatusError{Status: http.StatusServiceUnavailable, Err: err}
	}
	return err
}

func (a admin) health(*http.Request) (any, error) {
	s := a.h.status()
	state, detail := s.health()
	fences := make(map[FenceLevel]int)
	for _, session := range a.h.Sessions() {
		session.fences.count(fences)
	}
	return struct {
		Status      string `json:"status"` // "ok", "degraded", "observing" or "disabled"
		Detail      string `json:"detail,omitempty"`
		Mode        Mode   `json:"mode"`
		Generation  uint64 `json:"generation"`
		Connections int    `json:"connections"` // of clients
		Allowed     uint64 `json:"allowed"`
		Refused     uint64 `json:"refused"`
		Failed      uint64 `json:"failed"`
		Cut         uint64 `json:"cut"`
		Dropped     uint64 `json:"datagrams_dropped"` // of SOCKS5 clients
		// Fences is the number of commands with an open fence, by level. FenceNone counts commands that
		// run without a fence, because FenceBest was asked for.
		Fences map[FenceLevel]int `json:"fences"`
	}{
		state, detail, s.policy.Mode, s.policy.Generation, s.clients,
		s.count.Total(audit.Allowed), s.count.Total(audit.Refused), s.count.Total(audit.Failed), s.count.Cut.Load(),
		s.count.DatagramsDropped(), fences,
	}, nil
}

// health returns the gravest state of the proxy, and one line for each state
// that is not "ok", the gravest first.
func (s *status) health() (state, detail string) {
	state = "ok"
	var lines []string
	if !s.policy.Enabled {
		state = "disabled"
		lines = append(lines, "network_proxy.enabled is false: every request is refused")
	}
	if s.observing {
		if state == "ok" {
			state = "observing"
		}
		lines = append(lines, observingWarning)
	}
	if s.fault != nil || len(s.loaded.cutBack) > 0 {
		if state == "ok" {
			state = "degraded"
		}
		if s.fault != nil {
			lines = append(lines, "the last reload failed; the previous configuration stays in force: "+s.fault.Error())
		}
		lines = append(lines, s.loaded.cutBack...)
	}
	return state, strings.Join(lines, "\n")
}

func (a admin) config(*http.Request) (any, error) {
	s := a.h.status()
	return struct {
		NetworkProxy Config            `json:"network_proxy"`
		Mode         Mode              `json:"mode_in_force"`
		HTTP         string            `json:"http_address"`
		Admin        string            `json:"admin_address"`
		SOCKS        string            `json:"socks_address,omitempty"`
		Origins      map[string]string `json:"origins"` // where the value of each key comes from
		Warnings     []string          `json:"warnings,omitempty"`
	}{s.loaded.config(), s.policy.Mode, s.httpAddr, s.adminAddr, s.socksAddr, s.loaded.sources(), a.h.Warnings()}, nil
}

func (a admin) patterns(*http.Request) (any, error) {
	p := a.h.status().policy
	return struct {
		Allowed []Rule `json:"allowed"`
		Denied  []Rule `json:"denied"`
		Sockets []Rule `json:"unix_sockets"`
	}{publicRules(p.Allow.Rules()), publicRules(p.Deny.Rules()), publicRules(policy.RuleSets{p.Sockets}.Rules())}, nil
}

func (a admin) blocked(*http.Request) (any, error) {
	s := a.h.status()
	list, total := a.h.refusals()
	slices.Reverse(list)
	return struct {
		Total   uint64           `json:"total"`   // since the start
		Limit   int              `json:"limit"`   // how many are kept
		Blocked []BlockedRequest `json:"blocked"` // newest first
	}{total, s.blockedLimit, list}, nil
}

func (a admin) certificates(*http.Request) (any, error) {
	if !a.h.opensTLS() {
		return nil, &adminhttp.StatusError{Status: http.StatusNotFound, Err: errors.New("TLS inspection is off, so there is no certificate (mitm = false)")}
	}
	text, err := a.h.certificates()
	return adminhttp.Text{Type: "application/x-pem-file", Body: string(text)}, err
}

func (a admin) metrics(*http.Request) (any, error) { return a.h.metrics(), nil }

func (a admin) explain(r *http.Request) (any, error) {
	q := r.URL.Query()
	if q.Get("url") == "" {
		return nil, adminhttp.BadRequest(errors.New("url is missing: /explain?url=https://host/path&method=GET; resolve=1 looks the name up"))
	}
	resolve := q.Get("resolve") != "" && q.Get("resolve") != "0"
	x, err := a.h.ExplainURL(r.Context(), q.Get("url"), q.Get("method"), resolve)
	if err != nil {
		return nil, adminhttp.BadRequest(err)
	}
	return x, nil
}

func (a admin) suggest(*http.Request) (any, error) {
	text := a.h.SuggestTOML()
	if text == "" {
		return nil, errors.New("the proxy is not observing: start it with -observe, let the work run, and ask again")
	}
	return adminhttp.Text{Type: "text/plain; charset=utf-8", Body: text}, nil
}

func (a admin) grants(*http.Request) (any, error) {
	return struct {
		Grants []Grant `json:"grants"` // oldest first
	}{a.h.Grants()}, nil
}

func (a admin) revokeGrant(r *http.Request) (any, error) {
	var body struct {
		ID uint64 `json:"id"`
	}
	if err := adminhttp.ReadJSON(r, &body); err != nil {
		return nil, err
	}
	cut, err := a.h.revoke(body.ID)
	if err != nil {
		return nil, withStatus(err)
	}
	return struct {
		Revoked uint64 `json:"revoked"`
		Cut     int    `json:"connections_cut"`
	}{body.ID, cut}, nil
}

func (a admin) setMode(r *http.Request) (any, error) {
	var body struct {
		Mode Mode `json:"mode"`
	}
	if err := adminhttp.ReadJSON(r, &body); err != nil {
		return nil, err
	}
	if _, err := ParseMode(string(body.Mode)); err != nil {
		return nil, adminhttp.BadRequest(err)
	}
	if err := a.h.SetMode(body.Mode); err != nil {
		return nil, withStatus(err)
	}
	body.Mode = a.h.Mode()
	return body, nil
}

// reload ignores the body of the request, which curl -d may send.
func (a admin) reload(r *http.Request) (any, error) {
	result, err := a.h.reload(r.Context())
	return result, withStatus(err)
}

func (a admin) sessions(*http.Request) (any, error) {
	return struct {
		Sessions []sessionReport `json:"sessions"` // oldest first
	}{a.h.sessionReports()}, nil
}

// newFeed returns the feed of GET /events.
func newFeed(g *gate.Gate) *feed.Feed {
	return feed.New(feed.Config{
		Events: &g.Events,
		Encode: func(b []byte, e *audit.Event) []byte {
			return appendEvent(b, e, nil)
		},
		Run: rand.Text()[:8],
	})
}

// events streams events as server-sent events. With follow=0, it ends after the events
// that the feed holds.
func (a admin) events(r *http.Request) (any, error) {
	last, follow := r.Header.Get("Last-Event-ID"), r.URL.Query().Get("follow") != "0"
	return adminhttp.Stream{Type: "text/event-stream", Write: func(ctx context.Context, w io.Writer) error {
		return withStatus(a.h.feed.View(ctx, w, last, follow))
	}}, nil
}

func (a admin) questions(*http.Request) (any, error) {
	type question struct {
		Question
		Answers []string `json:"answers"` // that POST /questions/answer accepts
	}
	list := []question{} // [] in JSON if there is none
	for _, q := range a.h.Questions() {
		list = append(list, question{q, a.answers(q)})
	}
	return struct {
		Asks      bool       `json:"asks"` // there can be questions
		Questions []question `json:"questions"`
	}{a.h.settings.askOnPage, list}, nil
}

// answers returns the words with which a question can be answered.
func (a admin) answers(q Question) []string {
	words := []string{"once", "command"}
	if q.Request.Group != "" {
		words = append(words, "group")
	}
	if a.h.canSave() {
		words = append(words, "always")
	}
	return append(words, "no")
}

// sharedDenial is how long an answer "no" is remembered for the shared listeners, whose
// one session ends with the proxy.
const sharedDenial = 5 * time.Minute

func (a admin) answer(r *http.Request) (any, error) {
	var body struct {
		ID     uint64 `json:"id"`
		Answer string `json:"answer"`
	}
	if err := adminhttp.ReadJSON(r, &body); err != nil {
		return nil, err
	}
	for _, q := range a.h.Questions() {
		if words := a.answers(q); q.ID == body.ID && !slices.Contains(words, body.Answer) {
			return nil, adminhttp.BadRequest(fmt.Errorf("answer %q: this question takes %s", body.Answer, strings.Join(words, ", ")))
		}
	}
	waiting, answer, err := a.h.inbox.Take(body.ID)
	if err != nil {
		return nil, withStatus(err)
	}
	d := Deny("the user said no").ForSession()
	switch q := publicQuestion(waiting); {
	case body.Answer == "once":
		d = Allow()
	case body.Answer == "command":
		d = Allow().ForSession()
	case body.Answer == "group":
		d = Allow().ForGroup()
	case body.Answer == "always":
		d, err = a.always(r.Context(), q.Request)
	case q.Request.SessionID == "":
		d = Deny("the user said no").For(sharedDenial)
	}
	answer(d.d)
	return body, err
}

// saveTimeout bounds the wait for the learned file or the AmendmentWriter.
const saveTimeout = 5 * time.Second

// always allows the target of a request for good. If that fails, the decision is for the
// session, and the error says so.
func (a admin) always(ctx context.Context, req PolicyRequest) (Decision, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := a.h.Remember(ctx, Amendment{
		Action:  AmendAllow,
		Pattern: net.JoinHostPort(req.Host, strconv.Itoa(int(req.Port))),
		Comment: "allowed on the page",
	})
	if err != nil {
		return Allow().ForSession(), fmt.Errorf("allowed for this command only: %w", err)
	}
	return Allow(), nil
}

func (a admin) login(r *http.Request) (any, error) {
	var body struct {
		Code string `json:"code"`
	}
	if err := adminhttp.ReadJSON(r, &body); err != nil {
		return nil, err
	}
	token, ok := a.h.admin.Login(body.Code)
	if !ok {
		return nil, &adminhttp.StatusError{Status: http.StatusForbidden, Err: errors.New("this code was used before, or newer ones have taken its place: enter the admin token, or start the proxy again")}
	}
	return struct {
		Token string `json:"token"`
	}{token}, nil
}
