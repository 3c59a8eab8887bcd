// Package seatbelt writes profiles for sandbox-exec, the program of macOS that runs a
// command with fewer rights (Seatbelt). With a profile of this package, a command connects
// to given ports of this machine and to given Unix sockets, and to nothing else.
//
// A profile is a list of S-expressions. The last rule that matches an action decides.
// Everything that does not lead out stays allowed: files, processes, servers of the command.
//
// The package only makes text, on every system. The profiles have not been tried on a Mac.
package seatbelt

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Program is the path of the program that applies a profile.
const Program = "/usr/bin/sandbox-exec"

// Profile lists the places that a command may connect to. The zero value lists none.
type Profile struct {
	Ports       []uint16 // TCP ports of this machine's loopback addresses
	UnixSockets []string // absolute paths of Unix sockets
}

// deniedServices are system services that act for a command, outside its profile: they
// look names up, download, and start programs.
func deniedServices() []string {
	return []string{
		"com.apple.dnssd.service",
		"com.apple.nsurlsessiond",
		"com.apple.coreservices.launchservicesd",
		"com.apple.coreservices.appleevents",
	}
}

// Text returns the profile for the option -p of [Program]. It returns an error for port 0,
// and for a path that is not absolute or cannot be written in a profile.
//
// Names are not looked up by the command, because queries can carry data out: nothing of
// mDNSResponder is allowed. The proxy looks names up.
func (p Profile) Text() (string, error) {
	var b strings.Builder
	b.WriteString("(version 1)\n(allow default)\n(deny network*)\n(deny mach-lookup")
	for _, name := range deniedServices() {
		fmt.Fprintf(&b, "\n\t(global-name %s)", quote(name))
	}
	// Apple events and launchd jobs make other programs act.
	b.WriteString(")\n(deny appleevent-send)\n(deny job-creation)\n")

	// Servers of the command. A connection to a socket of both families has the local
	// address ::ffff:127.0.0.1, which "localhost" does not match.
	b.WriteString("(allow network-bind (local ip \"*:*\"))\n(allow network-inbound (local ip \"*:*\"))\n")
	// Sockets with which getaddrinfo sorts addresses. They carry no data.
	b.WriteString("(allow system-socket (require-all (socket-domain AF_SYSTEM) (socket-protocol 2)))\n")

	for _, port := range sortedOnce(p.Ports) {
		if port == 0 {
			return "", fmt.Errorf("seatbelt: port 0 cannot be connected to")
		}
		fmt.Fprintf(&b, "(allow network-outbound (remote ip %s))\n", quote(fmt.Sprintf("localhost:%d", port)))
	}
	var sockets []string
	for _, socket := range p.UnixSockets {
		if err := checkPath(socket); err != nil {
			return "", err
		}
		sockets = append(sockets, spellings(socket)...)
	}
	for _, socket := range sortedOnce(sockets) {
		fmt.Fprintf(&b, "(allow network-outbound (remote unix-socket (path-literal %s)))\n", quote(socket))
	}
	return b.String(), nil
}

// Arguments returns the arguments with which [Program] runs a command, without its own
// name. command is the path of the command, and arguments are those after it.
func (p Profile) Arguments(command string, arguments ...string) ([]string, error) {
	text, err := p.Text()
	if err != nil {
		return nil, err
	}
	return append([]string{"-p", text, "--", command}, arguments...), nil
}

// checkPath refuses paths that a profile cannot have. Control characters and invalid
// UTF-8 have no documented spelling in a profile.
func checkPath(socket string) error {
	switch {
	case !path.IsAbs(socket):
		return fmt.Errorf("seatbelt: the path of the Unix socket %q is not absolute", socket)
	case !utf8.ValidString(socket) || strings.ContainsFunc(socket, unicode.IsControl):
		return fmt.Errorf("seatbelt: the path of the Unix socket %q has a control character or invalid UTF-8", socket)
	}
	return nil
}

// spellings returns the paths under which the system may see a socket. /etc, /tmp and /var
// are symbolic links to directories of the same names in /private.
func spellings(socket string) []string {
	socket = path.Clean(socket)
	for _, dir := range []string{"/etc/", "/tmp/", "/var/"} {
		if strings.HasPrefix(socket, dir) {
			return []string{socket, "/private" + socket}
		}
		if strings.HasPrefix(socket, "/private"+dir) {
			return []string{socket, strings.TrimPrefix(socket, "/private")}
		}
	}
	return []string{socket}
}

// quote returns s as a string of a profile. It is the only function that puts text into one.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// sortedOnce returns the elements in order, each once.
func sortedOnce[E uint16 | string](list []E) []E {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
