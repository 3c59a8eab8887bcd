// The configuration as a Go value: its keys, its defaults, and the errors about
// its values.

package networkproxy

import (
	"fmt"
	"slices"
	"strings"

	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
)

// Mode selects the requests that the proxy permits to an allowed host. The zero
// value means [ModeFull] in a [Config].
type Mode = policy.Mode

const (
	// ModeFull permits every method and every protocol.
	ModeFull = policy.ModeFull

	// ModeLimited permits reads only: GET, HEAD and OPTIONS, and the requests
	// with which git fetches and Git LFS downloads. It refuses upgrades. With
	// [Config.MITM] it judges the requests inside TLS as well. Otherwise it
	// refuses CONNECT and SOCKS5, because the proxy cannot see the requests
	// inside them.
	ModeLimited = policy.ModeLimited
)

// ParseMode returns the mode named s, exactly as a configuration spells it. Any
// other text, including the empty one, is an error.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case ModeFull, ModeLimited:
		return m, nil
	}
	return "", fmt.Errorf(`unknown mode %s: use "full" or "limited"`, tomltable.Quote(s))
}

// SNICheck selects whether TLS clients in a tunnel must ask for the name that was
// allowed. The zero value means [SNIEnforce] in a [Config].
type SNICheck string

const (
	// SNIEnforce cuts a tunnel (of CONNECT, SOCKS5 or Upgrade) in which a TLS
	// client asks for another name than the one that was allowed, or for none.
	// If the allowed host is an address or a name without a dot, the client
	// need not ask for a name.
	SNIEnforce SNICheck = "enforce"

	// SNIOff checks nothing.
	SNIOff SNICheck = "off"
)

// ParseSNICheck returns the check named s, exactly as a configuration spells it.
// Any other text, including the empty one, is an error.
func ParseSNICheck(s string) (SNICheck, error) {
	switch c := SNICheck(s); c {
	case SNIEnforce, SNIOff:
		return c, nil
	}
	return "", fmt.Errorf(`unknown check %s: use "enforce" or "off"`, tomltable.Quote(s))
}

// Config is the [network_proxy] table of a configuration file. Its TOML and
// JSON keys are the same.
//
// The zero value is the default configuration: an empty string stands for its
// default. The proxy neither keeps nor changes the slices of a Config.
type Config struct {
	// Enabled turns the proxy on. Default false: Run opens no listeners.
	// [Builder.Embedded] enables the proxy without it.
	Enabled bool `toml:"enabled" json:"enabled"`

	// ProxyURL is the address of the HTTP proxy, as a URL or host:port.
	// Default "http://127.0.0.1:3128". Port 0 asks for any free port.
	ProxyURL string `toml:"proxy_url" json:"proxy_url"`

	// AdminURL is the address of the admin API, as a URL or host:port, or as
	// "unix:///path": a unix socket of mode 0600, which other users and
	// web pages cannot reach. Default "http://127.0.0.1:8080".
	AdminURL string `toml:"admin_url" json:"admin_url"`

	// AdminReadOnly makes the admin API refuse every change: it responds to
	// methods other than GET with 403. Default false.
	AdminReadOnly bool `toml:"admin_read_only" json:"admin_read_only"`

	// EnableSOCKS5 turns the SOCKS5 listener on. Default false.
	EnableSOCKS5 bool `toml:"enable_socks5" json:"enable_socks5"`

	// SOCKSURL is the address of the SOCKS5 proxy, as a URL (http, socks5 and
	// socks5h mean the same) or host:port. Default "http://127.0.0.1:8081".
	SOCKSURL string `toml:"socks_url" json:"socks_url"`

	// EnableSOCKS5UDP lets SOCKS5 clients send datagrams (RFC 1928 section 7).
	// Default false. Without EnableSOCKS5 it only causes a warning.
	EnableSOCKS5UDP bool `toml:"enable_socks5_udp" json:"enable_socks5_udp"`

	// AllowUpstreamProxy sends allowed requests through the http:// or
	// https:// proxy that the environment names (HTTP_PROXY, HTTPS_PROXY,
	// ALL_PROXY, NO_PROXY; see [Builder.UpstreamEnviron]). Default false: the
	// environment is ignored. That proxy resolves the names of targets, so
	// neither the protection of local networks nor denied addresses and CIDRs
	// apply to the addresses of a name; targets that are addresses are judged
	// as always.
	AllowUpstreamProxy bool `toml:"allow_upstream_proxy" json:"allow_upstream_proxy"`

	// DangerouslyAllowNonLoopbackProxy lets the HTTP and SOCKS5 proxies
	// listen where other machines can reach them. Default false: such an
	// address is replaced by loopback, with a warning.
	DangerouslyAllowNonLoopbackProxy bool `toml:"dangerously_allow_non_loopback_proxy" json:"dangerously_allow_non_loopback_proxy"`

	// DangerouslyAllowNonLoopbackAdmin does the same for the admin API.
	// Default false.
	DangerouslyAllowNonLoopbackAdmin bool `toml:"dangerously_allow_non_loopback_admin" json:"dangerously_allow_non_loopback_admin"`

	// Mode selects the permitted requests. Default [ModeFull].
	Mode Mode `toml:"mode" json:"mode"`

	// SNICheck selects whether TLS clients in a tunnel must ask for the name
	// that was allowed. Default [SNIEnforce]. A change applies to tunnels that
	// are opened afterwards.
	SNICheck SNICheck `toml:"sni_check" json:"sni_check"`

	// MITM turns TLS inspection on: the proxy opens TLS where the policy must see
	// the requests inside. That is the case in limited mode, for hosts with
	// MITMHooks, and for MITMDomains. Default false: TLS is never opened.
	MITM bool `toml:"mitm" json:"mitm"`

	// MITMDomains are the patterns of hosts whose TLS is opened in every mode.
	// Default none.
	MITMDomains []string `toml:"mitm_domains" json:"mitm_domains"`

	// MITMExemptDomains are the patterns of hosts whose TLS is never opened,
	// because their clients pin certificates or have certificates of their own.
	// They win over MITMDomains. Limited mode refuses connections to them.
	// Default none.
	MITMExemptDomains []string `toml:"mitm_exempt_domains" json:"mitm_exempt_domains"`

	// MITMCACert and MITMCAKey are the paths of the certificate and the key of a
	// certificate authority, in PEM, which issues the certificates that clients
	// see. Set both or neither. Default none: the proxy makes one at each start
	// and keeps its key in memory.
	MITMCACert string `toml:"mitm_ca_cert" json:"mitm_ca_cert"`
	MITMCAKey  string `toml:"mitm_ca_key" json:"mitm_ca_key"`

	// MITMHooks are the request rules. A host with rules accepts only requests that
	// one of them allows. Default none.
	MITMHooks []MITMHook `toml:"mitm_hooks" json:"mitm_hooks"`

	// CredentialBroker exchanges placeholders for the secrets of CredentialProviders.
	// Default false. It needs MITM.
	CredentialBroker bool `toml:"credential_broker" json:"credential_broker"`

	// DangerouslyAllowPlaintextCredentialInjection permits http:// prefixes in
	// CredentialProviders. Default false.
	DangerouslyAllowPlaintextCredentialInjection bool `toml:"dangerously_allow_plaintext_credential_injection" json:"dangerously_allow_plaintext_credential_injection"`

	// CredentialProviders are the secrets that commands use and never see, by name.
	// Default none.
	CredentialProviders map[string]CredentialProvider `toml:"credential_providers" json:"credential_providers"`

	// Policy lists the hosts that may be reached.
	Policy PolicyConfig `toml:"policy" json:"policy"`
}

// PolicyConfig is the [network_proxy.policy] table. The zero value allows
// nothing.
type PolicyConfig struct {
	// AllowedDomains are the patterns of the hosts that may be reached.
	// Default none: every host is refused, or decided by the decider if there
	// is one.
	AllowedDomains []string `toml:"allowed_domains" json:"allowed_domains"`

	// DeniedDomains are the patterns of the hosts that are refused even if
	// something allows them. Default none.
	DeniedDomains []string `toml:"denied_domains" json:"denied_domains"`

	// AllowLocalBinding lets requests reach loopback and private addresses
	// if AllowedDomains or the decider allows the host. Default false: a local
	// address needs an entry without a wildcard.
	AllowLocalBinding bool `toml:"allow_local_binding" json:"allow_local_binding"`

	// AskLocal lets the decider decide about loopback targets that no entry
	// without a wildcard allows: 127.0.0.0/8, ::1, localhost and names below
	// it. Default false: they are refused, as they are without a decider. All
	// other local targets stay refused, and so do the proxy's own listeners
	// and names that resolve to loopback. With AskLocal, NO_PROXY of
	// [Session.Environ] is empty, so that the proxy sees these targets.
	AskLocal bool `toml:"ask_local" json:"ask_local"`

	// AllowUnixSockets are the absolute, cleaned paths of the Unix sockets
	// that plain-HTTP requests may name in x-unix-socket, on macOS. The path
	// is then the target, and the host of the URL is only the Host field: the
	// mode applies, but neither the lists of domains nor the decider. Another
	// path to the same socket through symbolic links counts as the same.
	// While a listener is not on loopback, sockets that a reload adds stay
	// off. Default none.
	AllowUnixSockets []string `toml:"allow_unix_sockets" json:"allow_unix_sockets"`
}

// DefaultConfig returns the configuration of an empty [network_proxy] table:
// turned off, on loopback, allowing nothing.
func DefaultConfig() Config {
	return Config{
		ProxyURL: "http://127.0.0.1:3128",
		AdminURL: "http://127.0.0.1:8080",
		SOCKSURL: "http://127.0.0.1:8081",
		Mode:     ModeFull,
		SNICheck: SNIEnforce,
		// Not nil, so that they are [] in JSON and not null.
		MITMDomains:       []string{},
		MITMExemptDomains: []string{},
		MITMHooks:         []MITMHook{},

		CredentialProviders: map[string]CredentialProvider{},
		Policy: PolicyConfig{
			AllowedDomains:   []string{},
			DeniedDomains:    []string{},
			AllowUnixSockets: []string{},
		},
	}
}

// clone returns a copy that shares no slice with c.
func (c Config) clone() Config {
	c.MITMDomains = slices.Clone(c.MITMDomains)
	c.MITMExemptDomains = slices.Clone(c.MITMExemptDomains)
	c.MITMHooks = cloneHooks(c.MITMHooks)
	c.CredentialProviders = cloneProviders(c.CredentialProviders)
	c.Policy.AllowedDomains = slices.Clone(c.Policy.AllowedDomains)
	c.Policy.DeniedDomains = slices.Clone(c.Policy.DeniedDomains)
	c.Policy.AllowUnixSockets = slices.Clone(c.Policy.AllowUnixSockets)
	return c
}

// The dotted keys, as errors and the admin API write them.
const (
	keyRoot               = "network_proxy"
	keyEnabled            = "network_proxy.enabled"
	keyProxyURL           = "network_proxy.proxy_url"
	keyAdminURL           = "network_proxy.admin_url"
	keyAdminReadOnly      = "network_proxy.admin_read_only"
	keyEnableSOCKS5       = "network_proxy.enable_socks5"
	keySOCKSURL           = "network_proxy.socks_url"
	keyEnableSOCKS5UDP    = "network_proxy.enable_socks5_udp"
	keyAllowUpstreamProxy = "network_proxy.allow_upstream_proxy"
	keyNonLoopbackProxy   = "network_proxy.dangerously_allow_non_loopback_proxy"
	keyNonLoopbackAdmin   = "network_proxy.dangerously_allow_non_loopback_admin"
	keyMode               = "network_proxy.mode"
	keySNICheck           = "network_proxy.sni_check"
	keyMITM               = "network_proxy.mitm"
	keyMITMDomains        = "network_proxy.mitm_domains"
	keyMITMExemptDomains  = "network_proxy.mitm_exempt_domains"
	keyMITMCACert         = "network_proxy.mitm_ca_cert"
	keyMITMCAKey          = "network_proxy.mitm_ca_key"
	keyMITMHooks          = "network_proxy.mitm_hooks"
	keyCredentialBroker   = "network_proxy.credential_broker"
	keyPlaintextInjection = "network_proxy.dangerously_allow_plaintext_credential_injection"
	keyProviders          = "network_proxy.credential_providers"
	keyPolicy             = "network_proxy.policy"
	keyAllowedDomains     = "network_proxy.policy.allowed_domains"
	keyDeniedDomains      = "network_proxy.policy.denied_domains"
	keyAllowLocalBinding  = "network_proxy.policy.allow_local_binding"
	keyAskLocal           = "network_proxy.policy.ask_local"
	keyAllowUnixSockets   = "network_proxy.policy.allow_unix_sockets"
)

// field is one value of a Config.
type field struct {
	key     string
	value   tomltable.Value // points into the Config
	restart bool            // a reload cannot change it
}

// fields lists the values of c in the order of the documentation. It is the
// only list that pairs keys with values.
func (c *Config) fields() []field {
	const live, restart = false, true // when a change takes effect
	return []field{
		{keyEnabled, tomltable.Bool(&c.Enabled), live},
		{keyProxyURL, tomltable.String(&c.ProxyURL), restart},
		{keyAdminURL, tomltable.String(&c.AdminURL), restart},
		{keyAdminReadOnly, tomltable.Bool(&c.AdminReadOnly), live},
		{keyEnableSOCKS5, tomltable.Bool(&c.EnableSOCKS5), restart},
		{keySOCKSURL, tomltable.String(&c.SOCKSURL), restart},
		{keyEnableSOCKS5UDP, tomltable.Bool(&c.EnableSOCKS5UDP), restart},
		{keyAllowUpstreamProxy, tomltable.Bool(&c.AllowUpstreamProxy), live},
		{keyNonLoopbackProxy, tomltable.Bool(&c.DangerouslyAllowNonLoopbackProxy), restart},
		{keyNonLoopbackAdmin, tomltable.Bool(&c.DangerouslyAllowNonLoopbackAdmin), restart},
		{keyMode, tomltable.String(&c.Mode), live},
		{keySNICheck, tomltable.String(&c.SNICheck), live},
		{keyMITM, tomltable.Bool(&c.MITM), live},
		{keyMITMDomains, tomltable.Strings(&c.MITMDomains), live},
		{keyMITMExemptDomains, tomltable.Strings(&c.MITMExemptDomains), live},
		{keyMITMCACert, tomltable.String(&c.MITMCACert), restart},
		{keyMITMCAKey, tomltable.String(&c.MITMCAKey), restart},
		{keyCredentialBroker, tomltable.Bool(&c.CredentialBroker), live},
		{keyPlaintextInjection, tomltable.Bool(&c.DangerouslyAllowPlaintextCredentialInjection), live},
		{keyProviders, tomltable.NamedTables(&c.CredentialProviders, (*CredentialProvider).fields), live},
		{keyMITMHooks, tomltable.Tables(&c.MITMHooks, (*MITMHook).fields), live},
		{keyAllowedDomains, tomltable.Strings(&c.Policy.AllowedDomains), live},
		{keyDeniedDomains, tomltable.Strings(&c.Policy.DeniedDomains), live},
		{keyAllowLocalBinding, tomltable.Bool(&c.Policy.AllowLocalBinding), live},
		{keyAskLocal, tomltable.Bool(&c.Policy.AskLocal), live},
		{keyAllowUnixSockets, tomltable.Strings(&c.Policy.AllowUnixSockets), live},
	}
}

// Position is the place of a configuration value in a file. The zero value
// means that the value is in no file: it is a default, or was set from Go.
type Position struct {
	// File is the path as it was given.
	File string `json:"file"`

	// Line and Column count from 1. Column counts bytes, as the Go tools do.
	// Both are 0 for the file as a whole.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// String returns "file:line:column", "file" for the file as a whole, and "" for
// the zero Position.
func (p Position) String() string { return tomltable.Position(p).String() }

// ConfigError is a mistake in a configuration. Loading reports every mistake,
// joined as by [errors.Join]; errors.As finds the first.
type ConfigError struct {
	// Position is the place of the mistake; zero for a value set from Go.
	Position Position

	// Key is the dotted key, with an index for an element of an array:
	// "network_proxy.policy.denied_domains[3]". Empty if the mistake is not
	// in a value.
	Key string

	// Value is the offending text or boolean; empty if there is none to show.
	Value string

	// Problem describes the mistake and how to correct it.
	Problem string

	// Err is the cause, for errors.Is and errors.As: an error of the file
	// system, a [LimitError], the error about a pattern. It may be nil. If
	// Problem is not empty, it includes the part of Err that a user needs.
	Err error
}

// Error returns "file:line:column: key = value: problem", without the parts
// that are empty.
func (e *ConfigError) Error() string {
	var parts []string
	if e.Position != (Position{}) {
		parts = append(parts, e.Position.String())
	}
	switch {
	case e.Key != "" && e.Value != "":
		parts = append(parts, e.Key+" = "+showValue(e.Value))
	case e.Key != "":
		parts = append(parts, e.Key)
	}
	switch {
	case e.Problem != "":
		parts = append(parts, e.Problem)
	case e.Err != nil:
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

// LimitError reports a value that exceeds a managed limit. It is the cause of
// the [ConfigError] about the value.
type LimitError struct {
	// Limit is the requirement of the limit: "must be false".
	Limit string

	// Position is the place of the limit.
	Position Position
}

// Error returns the requirement and the place of the limit.
func (e *LimitError) Error() string {
	return fmt.Sprintf("exceeds a managed limit: %s (%s)", e.Limit, e.Position)
}

// showValue quotes a value for an error, so that it cannot forge another line
// of a log, and shortens a long one. Booleans get no quotes.
func showValue(v string) string {
	if v == "true" || v == "false" {
		return v
	}
	return tomltable.Quote(v)
}
