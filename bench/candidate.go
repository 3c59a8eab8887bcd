//go:build linux

// The measured proxies: commands and capabilities.

package main

import (
	"embed"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// capabilities is a set of features of a proxy.
type capabilities uint8

const (
	forwards   capabilities = 1 << iota // plain HTTP
	filters                             // has an allowlist
	refuses                             // responds to refused requests
	tunnels                             // CONNECT
	associates                          // datagrams over SOCKS5

	everything = forwards | filters | refuses | tunnels | associates
)

// candidate is a proxy to measure. Its command is split at spaces and run without a
// shell. The command and its files may have these placeholders:
//
//	{http} {port}   the HTTP listen address, and its port
//	{socks} {admin} the SOCKS5 and admin listen addresses
//	{udp}           true if SOCKS5 with UDP is needed, else false
//	{origin}        the address of the origin
//	{refuses}       true if all requests must be refused, else false
//	{allowed}       a file with the allowed names, one per line
//	{allowed.toml}  the allowed names as elements of a TOML array
//	{dir}           a directory for the candidate's files
//	{self}          the path of this program
//	{program}       the path of networkproxy
//	{file:NAME}     a file made from the template NAME
type candidate struct {
	name    string
	command string
	can     capabilities
	rawTCP  bool                              // relays each connection to the origin without HTTP
	viewers viewers                           // of its admin API
	read    func(name string) ([]byte, error) // reads a template
}

// templates are the configuration templates of the built-in candidates.
//
//go:embed templates
var templates embed.FS

func builtin(name string) ([]byte, error) { return templates.ReadFile("templates/" + name) }

func subject() candidate {
	return candidate{name: subjectName, command: "{program} -config {file:networkproxy.toml}", can: everything, read: builtin}
}

// withInspection returns networkproxy with the configuration of a template.
func withInspection(name, template string) candidate {
	return candidate{name: name, command: "{program} -config {file:" + template + "}", can: forwards | tunnels, read: builtin}
}

func base() candidate {
	return candidate{name: baseName, command: "{self} " + serveBase + " {http} {socks} {allowed}", can: everything, read: builtin}
}

func relay() candidate {
	return candidate{name: relayName, command: "{self} " + serveRelay + " {http} {origin} {refuses}", can: forwards | refuses | tunnels, rawTCP: true, read: builtin}
}

// knownPeers are the proxies that -peer knows by name. Those without a program of their
// own are networkproxy with something turned on.
func knownPeers() map[string]candidate {
	const self = "{program} -config {file:networkproxy.toml}"
	return map[string]candidate{
		"squid":     {command: "squid -N -f {file:squid.conf}", can: forwards | filters | refuses | tunnels},
		"tinyproxy": {command: "tinyproxy -d -c {file:tinyproxy.conf}", can: forwards | filters | refuses | tunnels},
		// haproxy has one fixed origin server, and decides about no target. It is a
		// reference for the speed of a loop in C.
		"haproxy":  {command: "haproxy -f {file:haproxy.cfg}", can: forwards | refuses},
		"audited":  {command: self + " -audit {dir}/audit.jsonl", can: everything},
		"viewed":   {command: self, can: everything, viewers: viewers{n: 1, read: true}},
		"unviewed": {command: self, can: everything, viewers: viewers{n: 50}},
	}
}

// parsePeer parses the value of -peer: the name of a known peer, or NAME=COMMAND.
func parsePeer(s string) (candidate, error) {
	name, command, custom := strings.Cut(s, "=")
	c := candidate{command: command, can: forwards | filters | refuses | tunnels, read: os.ReadFile}
	if !custom {
		c = knownPeers()[name]
		c.read = builtin
	}
	c.name = name
	switch {
	case name == "" || name == subjectName || name == baseName || name == relayName:
		return candidate{}, fmt.Errorf("peer %q: the name is empty or reserved (%s, %s, %s)", s, subjectName, baseName, relayName)
	case strings.TrimSpace(c.command) == "":
		return candidate{}, fmt.Errorf("peer %q: write NAME=COMMAND, or use %s", s, strings.Join(slices.Sorted(maps.Keys(knownPeers())), ", "))
	}
	return c, nil
}

// setup holds the values of the placeholders for one instance of a candidate.
type setup struct {
	dir     string
	program string // networkproxy
	self    string
	allowed []string
	origin  netip.AddrPort
	udp     bool
	refuses bool   // all requests must be refused
	roots   string // a file with the authorities that the proxy trusts; empty for those of the system

	http, socks, admin netip.AddrPort
}

// choosePorts finds free ports. Another program may bind one of them before the
// proxy does. The proxy and the measurement then fail.
func (s *setup) choosePorts() error {
	for _, addr := range []*netip.AddrPort{&s.http, &s.socks, &s.admin} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close() // keep all open until the end, so that no port is chosen twice
		*addr = l.Addr().(*net.TCPAddr).AddrPort()
	}
	return nil
}

var filePlaceholder = regexp.MustCompile(`\{file:([^{}]+)\}`)

// arguments returns the command line of an instance and writes its files.
func (c *candidate) arguments(s *setup) ([]string, error) {
	allowed := filepath.Join(s.dir, "allowed")
	if err := os.WriteFile(allowed, []byte(strings.Join(s.allowed, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	quoted := make([]string, len(s.allowed))
	for i, name := range s.allowed {
		quoted[i] = strconv.Quote(name)
	}
	values := strings.NewReplacer(
		"{http}", s.http.String(), "{port}", strconv.Itoa(int(s.http.Port())),
		"{socks}", s.socks.String(), "{admin}", s.admin.String(), "{udp}", strconv.FormatBool(s.udp),
		"{origin}", s.origin.String(), "{refuses}", strconv.FormatBool(s.refuses), "{allowed}", allowed, "{allowed.toml}", strings.Join(quoted, ",\n"),
		"{dir}", s.dir, "{self}", s.self, "{program}", s.program)

	args := strings.Fields(c.command)
	for i, arg := range args {
		var err error
		arg = filePlaceholder.ReplaceAllStringFunc(arg, func(placeholder string) string {
			name := filePlaceholder.FindStringSubmatch(placeholder)[1]
			template, e := c.read(name)
			path := filepath.Join(s.dir, filepath.Base(name))
			if e == nil {
				e = os.WriteFile(path, []byte(values.Replace(string(template))), 0o644)
			}
			if e != nil {
				err = e
			}
			return path
		})
		if err != nil {
			return nil, err
		}
		args[i] = values.Replace(arg)
	}
	return args, nil
}
