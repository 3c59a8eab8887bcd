//go:build linux

// The proxies under measurement: how each is started, and what it can do.

package main

import (
	"embed"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// capabilities is a set of what a proxy can do.
type capabilities uint8

const (
	forwards   capabilities = 1 << iota // plain HTTP
	filters                             // has an allowlist
	refuses                             // answers what it does not carry
	tunnels                             // CONNECT
	associates                          // datagrams over SOCKS5
)

// candidate is one way to run a proxy. A command is split at spaces, without a
// shell, and in it and in its files these are replaced:
//
//	{http} {port}   the address it is to listen on, and that address's port
//	{socks} {admin} more addresses of its own
//	{udp}           whether SOCKS5 with datagrams is wanted: true or false
//	{origin}        where a relay connects to
//	{refuses}       whether everything is to be refused: true or false
//	{allowed}       a file with the allowed names, one a line
//	{allowed.toml}  the same as the elements of a TOML array
//	{dir}           a directory of its own
//	{self}          this program
//	{program}       networkproxy
//	{file:NAME}     a file made of the template NAME
type candidate struct {
	name    string
	command string
	can     capabilities
	rawTCP  bool // knows no HTTP: every connection goes to the origin
	read    func(name string) ([]byte, error)
}

// The templates of the proxies that bench knows by name.
//
//go:embed templates
var templates embed.FS

func builtin(name string) ([]byte, error) { return templates.ReadFile("templates/" + name) }

func subject() candidate {
	return candidate{subjectName, "{program} -config {file:networkproxy.toml}", forwards | filters | refuses | tunnels | associates, false, builtin}
}

func base() candidate {
	return candidate{baseName, "{self} " + serveBase + " {http} {socks} {allowed}", forwards | filters | refuses | tunnels | associates, false, builtin}
}

func relay() candidate {
	return candidate{relayName, "{self} " + serveRelay + " {http} {origin} {refuses}", forwards | refuses | tunnels, true, builtin}
}

// knownPeers are commands of proxies that -peer takes by name alone.
var knownPeers = map[string]string{
	"squid":     "squid -N -f {file:squid.conf}",
	"tinyproxy": "tinyproxy -d -c {file:tinyproxy.conf}",
}

// parsePeer reads the value of -peer: NAME of a known peer, or NAME=COMMAND.
func parsePeer(s string) (candidate, error) {
	name, command, custom := strings.Cut(s, "=")
	c := candidate{name: name, command: command, can: forwards | filters | refuses | tunnels, read: os.ReadFile}
	if !custom {
		c.command, c.read = knownPeers[name], builtin
	}
	switch {
	case name == "" || name == subjectName || name == baseName || name == relayName:
		return candidate{}, fmt.Errorf("peer %q: the name must be another than those that bench uses itself", s)
	case strings.TrimSpace(c.command) == "":
		return candidate{}, fmt.Errorf("peer %q: write NAME=COMMAND; only squid and tinyproxy are known by name", s)
	}
	return c, nil
}

// setup is what one instance of a candidate is to be.
type setup struct {
	dir     string
	program string // networkproxy
	self    string
	allowed []string
	origin  netip.AddrPort
	udp     bool
	refuses bool // everything is to be refused

	http, socks, admin netip.AddrPort
}

// choosePorts finds ports that are free. Nothing else is to bind any meanwhile;
// if something does, the proxy says so and the measurement fails.
func (s *setup) choosePorts() error {
	for _, addr := range []*netip.AddrPort{&s.http, &s.socks, &s.admin} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close() // all of them at once, or the same port may come twice
		*addr = l.Addr().(*net.TCPAddr).AddrPort()
	}
	return nil
}

var filePlaceholder = regexp.MustCompile(`\{file:([^{}]+)\}`)

// arguments makes the command line of an instance, and writes its files.
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
