// Requests inside opened tunnels: HTTP/1.1 and HTTP/2 alike.

package httpproxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/policy"
)

// admitOpened is admit for a request in an opened tunnel.
func (h *Proxy) admitOpened(w http.ResponseWriter, r *http.Request, state *clientState) *gate.Request {
	o := state.opened
	o.served.Store(true)
	o.tunnel.Allowed()
	protocol := policy.ProtocolHTTP
	if o.secure {
		protocol = policy.ProtocolHTTPS
	}
	req := state.newRequest(protocol, o.tunnel.Request.Target, r.Method)
	if v, ok := h.gate.Policy().JudgeInnerMethod(r.Method); !ok {
		h.refuse(w, req, v)
		return nil
	}
	target, err := innerTarget(r, o.secure)
	if err != nil {
		h.malformed(w, state.principal, state.client, req.Protocol, r.Method, err)
		return nil
	}
	if named, err := o.misdirected(r); err != nil {
		h.malformed(w, state.principal, state.client, req.Protocol, r.Method, gate.RedactError(err))
		return nil
	} else if named != "" {
		h.refuse(w, req, policy.Verdict{
			Reason: policy.ReasonHostMismatch, Source: policy.SourceBaselinePolicy, Check: policy.CheckServerName,
			ServerName: named, Generation: h.gate.Policy().Generation,
		})
		return nil
	}
	req.Upgrade = r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1) && UpgradeOffer(r.Header) != ""
	req.HTTP.Target, req.HTTP.Header = target, r.Header
	return req
}

// innerTarget returns the request-target in origin-form (RFC 9112 section 3.2.1), byte
// for byte as the client sent it, or "*". Absolute-form is reduced to it. The rules judge
// this text, and the proxy sends it unchanged.
func innerTarget(r *http.Request, secure bool) (string, error) {
	target := r.RequestURI
	if r.URL.Scheme != "" {
		if want := map[bool]string{true: "https", false: "http"}[secure]; r.URL.Scheme != want {
			return "", fmt.Errorf("a URL in this tunnel must begin with %s://", want)
		}
		_, rest, _ := strings.Cut(target, "://")
		target = rest[len(URLAuthority(rest)):]
		if !strings.HasPrefix(target, "/") {
			target = "/" + target // RFC 9110 section 4.2.3
		}
		return target, nil
	}
	switch {
	case target == "*" && r.Method == http.MethodOptions:
	case !strings.HasPrefix(target, "/"):
		return "", errors.New("the request-target must begin with a slash (RFC 9112 section 3.2.1)")
	case strings.IndexFunc(target, func(c rune) bool { return c <= ' ' || c == 0x7f }) >= 0: // RFC 9113 section 8.3.1 leaves it to the URI
		return "", errors.New("the path contains a blank or a control character (RFC 3986 section 3.3)")
	}
	return target, nil
}

// misdirected returns the host that a request names, if it is not the one that its
// tunnel was opened for (RFC 9110 section 7.4). A port in Host may be that of the
// tunnel, or 80, which some clients write over TLS as well.
func (o *opened) misdirected(r *http.Request) (named string, err error) {
	of := o.tunnel.Request.Target
	names := []string{r.Host}
	if r.URL.Scheme != "" { // absolute-form
		_, rest, _ := strings.Cut(r.RequestURI, "://")
		names = append(names, URLAuthority(rest))
	}
	names = append(names, r.Header["Host"]...) // HTTP/2 allows both Host and :authority
	for _, name := range names {
		if name == o.host && name != "" {
			continue // nearly always; parsing it costs more
		}
		if name == "" && r.ProtoMajor == 1 && !r.ProtoAtLeast(1, 1) {
			continue // HTTP/1.0
		}
		if strings.Contains(name, "@") {
			return "", errUserinfo
		}
		t, err := hostname.ParseTargetDefault(name, of.Port)
		if err != nil {
			return "", err
		}
		if t.Host != of.Host || t.Port != of.Port && t.Port != 80 {
			return t.String(), nil
		}
	}
	return "", nil
}

// checkContent checks the beginning of the body of an allowed request. If it is not of
// the permitted kind, checkContent responds and returns false.
func (h *Proxy) checkContent(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) bool {
	if v.Content == httprule.ContentAny {
		return true
	}
	body, err := h.gate.CheckContent(req, v, r.Header, r.Body)
	if err != nil {
		h.fail(w, r, req, err)
		return false
	}
	r.Body = body
	return true
}

// exchange prepares the exchange of placeholders in an allowed request. If a placeholder is
// in a place where it is not exchanged, or its secret is not available, exchange responds
// and returns false.
func (h *Proxy) exchange(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) bool {
	x, err := h.gate.Exchange(r.Context(), req, v, r.Header)
	if err != nil {
		h.fail(w, r, req, err)
		return false
	}
	clientStateOf(r).exchange = x
	return true
}

// changeFields replaces placeholders in the fields to send, and removes and adds fields. A
// response with masks must not be compressed, so its request asks for no coding (RFC 9110
// section 12.5.3).
func changeFields(fields []http1.Field, x *credential.Exchange) []http1.Field {
	if !x.Changes() {
		return fields
	}
	for i := range fields {
		fields[i].Value = x.Field(fields[i].Name, fields[i].Value)
	}
	fields = slices.DeleteFunc(fields, func(f http1.Field) bool {
		return x.Removes(f.Name) || len(x.Masks) > 0 && f.Is("accept-encoding")
	})
	x.Added(func(name, value string) { fields = append(fields, http1.Field{Name: name, Value: value}) })
	return fields
}

// maskFields replaces secrets in the fields of a response.
func maskFields(fields []http1.Field, masks credential.Masks) {
	if len(masks) == 0 {
		return
	}
	for i := range fields {
		fields[i].Value = masks.Text(fields[i].Value)
	}
}
