// The command line that explains a refusal.

package main

import (
	"net"
	"strconv"
	"strings"

	"example.com/networkproxy"
)

// checkCommand returns the check command, with the flags of c, that explains one of
// the refusals. It returns "" if there is none, or no configuration to check.
func (c *configFlags) checkCommand(refusals []refusalCount) string {
	if c.ask.value != "" && c.saysNothing() || c.limited { // check has no session whose mode is limited
		return ""
	}
	for _, r := range refusals {
		target := r.target()
		if target == "" {
			continue
		}
		args := []string{"networkproxy", "check"}
		add := func(flag string, values []string) {
			for _, value := range values {
				args = append(args, flag, shellWord(value))
			}
		}
		if !c.defaultFile {
			add("-config", c.files)
		}
		add("-allow", c.allow)
		add("-preset", c.presets)
		add("-deny", c.deny)
		if c.learned != "" {
			add("-learned", []string{c.learned})
		}
		if c.requirements != "" {
			add("-requirements", []string{c.requirements})
		}
		if c.mitm {
			args = append(args, "-mitm")
		}
		if c.observe {
			args = append(args, "-observe")
		}
		return strings.Join(append(args, shellWord(target)), " ")
	}
	return ""
}

// target returns the target of r as check takes it. It returns "" if the host has
// unusual characters, because the command chose it and a user may paste it.
func (r refusalCount) target() string {
	usual := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune(".-_:", c)
	}
	if r.Host == "" || strings.TrimFunc(r.Host, usual) != "" || strings.HasPrefix(r.Host, "-") {
		return ""
	}
	port := r.Port
	if r.Protocol == networkproxy.ProtocolDNS {
		port = 443 // a lookup has no port
	}
	hostport := net.JoinHostPort(r.Host, strconv.Itoa(int(port)))
	switch r.Protocol {
	case networkproxy.ProtocolHTTP:
		return "http://" + hostport + "/"
	case networkproxy.ProtocolHTTPS:
		return "https://" + hostport + "/"
	case networkproxy.ProtocolSOCKS5TCP:
		return "socks5://" + hostport
	case networkproxy.ProtocolSOCKS5UDP, networkproxy.ProtocolCapturedUDP:
		return "udp://" + hostport
	}
	return hostport
}

// shellWord quotes s if a shell would not read it as one word.
func shellWord(s string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("./:-_=,@%+", c)
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
