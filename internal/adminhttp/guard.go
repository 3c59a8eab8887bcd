// The guard: which requests reach a route at all.

package adminhttp

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// guard returns a handler that passes requests on to next if a local tool or the
// server's own page sent them. Other web pages in the user's browser can send
// requests here as well. guard recognises these by Origin, Referer or
// Sec-Fetch-Site, or, after DNS rebinding, by a Host that does not name the
// listener at addr.
func (s *Server) guard(addr net.Addr, next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page := fromPage(r.Header)
		switch {
		case !namesListener(r.Host, addr):
			writeError(w, http.StatusForbidden, "the Host field does not name this admin API: use localhost or its IP address")
		case page && !fromOwnPage(r) || crossOrigin.Check(r) != nil:
			writeError(w, http.StatusForbidden, "requests from other web pages are refused")
		case s.public[r.URL.Path]:
			next.ServeHTTP(w, limitBody(w, r))
		case page && !isRead(r.Method) && !bearer(r, s.pageToken):
			unauthorized(w, "the page needs a token to change something: open the link with a code that the program prints, or enter the admin token")
		case s.config.Token != "" && !bearer(r, s.config.Token):
			unauthorized(w, "admin token required: curl -H 'Authorization: Bearer TOKEN'")
		default:
			next.ServeHTTP(w, limitBody(w, r))
		}
	})
}

// limitBody returns r with a limit on its body.
func limitBody(w http.ResponseWriter, r *http.Request) *http.Request {
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	return r
}

func unauthorized(w http.ResponseWriter, text string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="networkproxy admin"`)
	writeError(w, http.StatusUnauthorized, text)
}

// isRead reports whether requests with a method change nothing.
func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// namesListener reports whether host, the value of a Host field, may name the
// listener at addr. "localhost" and loopback addresses may. Other names may
// not, because an attacker's DNS server can resolve them to this machine. If
// other machines can reach the listener, every IP address may, because the
// listener's own may be translated on the way. Every value may name a unix
// socket, because its clients have no host to send.
func namesListener(host string, addr net.Addr) bool {
	if addr.Network() == "unix" {
		return true
	}
	name, ok := hostOfField(host)
	if !ok {
		return false
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	return reachableByOthers(addr) || ip.Zone() == "" && ip.Unmap().IsLoopback()
}

// reachableByOthers reports whether addr is a TCP address other than loopback.
func reachableByOthers(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap()
	return ip.IsValid() && !ip.IsLoopback()
}

// hostOfField returns the host of a Host field (RFC 9110 section 7.2), without
// the brackets of an IPv6 address. ok is false if the field is malformed.
func hostOfField(host string) (name string, ok bool) {
	name, port := host, ""
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return "", false
		}
		name, port = host[1:end], host[end+1:]
		if !strings.Contains(name, ":") {
			return "", false
		}
	} else if colon := strings.IndexByte(host, ':'); colon >= 0 {
		name, port = host[:colon], host[colon:]
	}
	if port == "" || port == ":" {
		return name, true
	}
	_, err := strconv.ParseUint(port[1:], 10, 16)
	return name, port[0] == ':' && err == nil
}

// fromPage reports whether a web page sent a request with this header. Local
// tools send none of the three fields; old browsers send only Referer with
// a page's GET. A browser sends "none" for an address that its user typed.
func fromPage(header http.Header) bool {
	crossSite := func(site string) bool { return site != "" && site != "none" }
	return len(header["Origin"]) > 0 || len(header["Referer"]) > 0 ||
		slices.ContainsFunc(header["Sec-Fetch-Site"], crossSite)
}

// fromOwnPage reports whether a page of this server sent r, whose Host names the
// listener. Each of the three fields must say so, if it is there. Sec-Fetch-Site
// must be, because only browsers that send it can be trusted to send the others.
func fromOwnPage(r *http.Request) bool {
	origin := "http://" + r.Host
	every := func(name string, ok func(string) bool) bool {
		return !slices.ContainsFunc(r.Header[name], func(v string) bool { return !ok(v) })
	}
	return len(r.Header["Sec-Fetch-Site"]) > 0 &&
		every("Sec-Fetch-Site", func(site string) bool { return site == "same-origin" }) &&
		every("Origin", func(o string) bool { return strings.EqualFold(o, origin) }) &&
		every("Referer", func(ref string) bool { return strings.HasPrefix(ref, origin+"/") })
}

// bearer reports whether r carries a token. It compares digests, so that its
// duration depends on neither the text nor the length of the token.
func bearer(r *http.Request, token string) bool {
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum, want := sha256.Sum256([]byte(strings.TrimSpace(got))), sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], want[:]) == 1
}
