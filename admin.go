// The admin API: what the proxy does and why, and the few settings that can
// change while it runs. It is made for curl. internal/adminhttp serves it.

package networkproxy

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"example.com/networkproxy/internal/adminhttp"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// admin has the functions that serve the resources of the admin API.
type admin struct{ h *Handle }

// adminRoutes returns the resources of the admin API of h.
func adminRoutes(h *Handle) []adminhttp.Route {
	a := admin{h}
	return []adminhttp.Route{
		{Method: "GET", Path: "/health", Serve: a.health},
		{Method: "GET", Path: "/config", Serve: a.config},
		{Method: "GET", Path: "/patterns", Serve: a.patterns},
		{Method: "GET", Path: "/blocked", Serve: a.blocked},
		{Method: "GET", Path: "/metrics", Serve: a.metrics},
		{Method: "GET", Path: "/explain", Serve: a.explain},
		{Method: "GET", Path: "/suggest", Serve: a.suggest},
		{Method: "GET", Path: "/grants", Serve: a.grants},
		{Method: "POST", Path: "/grants/revoke", Serve: a.revokeGrant},
		{Method: "POST", Path: "/mode", Serve: a.setMode},
		{Method: "POST", Path: "/reload", Serve: a.reload},
	}
}

// withStatus returns err with the HTTP status that it stands for. The status of
// all other errors is 409: the request was fine, but the configuration or the
// managed limits do not permit it.
func withStatus(err error) error {
	switch {
	case errors.Is(err, ErrNoGrant):
		return &adminhttp.StatusError{Status: http.StatusNotFound, Err: err}
	case errors.Is(err, ErrClosed):
		return &adminhttp.StatusError{Status: http.StatusServiceUnavailable, Err: err}
	}
	return err
}

func (a admin) health(*http.Request) (any, error) {
	s := a.h.status()
	state, detail := s.health()
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
	}{
		state, detail, s.policy.Mode, s.policy.Generation, s.clients,
		s.count.Total(audit.Allowed), s.count.Total(audit.Refused), s.count.Total(audit.Failed), s.count.Cut.Load(),
		s.count.DatagramsDropped(),
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
	}{s.loaded.Config, s.policy.Mode, s.httpAddr, s.adminAddr, s.socksAddr, s.loaded.sources(), a.h.Warnings()}, nil
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
	}{total, s.blockedKept, list}, nil
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
	text, ok := a.h.suggestion()
	if !ok {
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
