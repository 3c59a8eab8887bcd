// Measurements of credentials: requests whose placeholder is exchanged, and responses in
// which the secret is masked, compared with opened requests without credentials.

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Sides. Both are "networkproxy run" with a command that has a token.
const (
	inExchanged  = "exchanged"
	inExchanged2 = "exchanged HTTP/2"
	inSent       = "sent as it is"
	inSent2      = "sent as it is, HTTP/2"
)

// The token of the command. The client sends what the command has: the placeholder with
// the template brokered.toml, and else the token.
const (
	tokenVariable = "BENCH_TOKEN"
	benchToken    = "ghp_MeasuredMeasuredMeasuredMeasured0123"
)

// serveAgent is the first argument with which this program runs as that command. The full
// arguments are serve-agent ADDRESS FILE.
const serveAgent = "serve-agent"

// withAgent returns "networkproxy run" with the configuration of a template.
func withAgent(name, template string) candidate {
	return candidate{name: name, command: "env " + tokenVariable + "=" + benchToken + " {program} run -quiet -config {file:" + template + "} -- {self} " + serveAgent + " {http} {dir}/" + agentFile,
		can: tunnels, read: builtin}
}

// agentFile is the name of the file in which the command leaves what the client needs.
const agentFile = "agent"

// runAgent leaves what the client needs, accepts connections as a sign of that, and waits
// for the end of networkproxy.
func runAgent(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: bench %s ADDRESS FILE", serveAgent)
	}
	if err := writeAgent(args[1], os.Getenv); err != nil {
		return err
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	defer l.Close()
	for parent := os.Getppid(); os.Getppid() == parent; {
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func writeAgent(file string, getenv func(string) string) error {
	return os.WriteFile(file, []byte(strings.TrimPrefix(getenv("HTTPS_PROXY"), "http://")+" "+getenv(tokenVariable)), 0o600)
}

// agent is what the client needs.
type agent struct {
	proxy netip.AddrPort
	token string
}

func (t *trial) agent() (a agent, err error) {
	text, err := os.ReadFile(filepath.Join(t.proxy.dir, agentFile))
	if err != nil {
		return a, err
	}
	addr, token, _ := strings.Cut(string(text), " ")
	a.token = token
	if a.proxy, err = netip.ParseAddrPort(addr); err != nil {
		return a, err
	}
	if exchanged := t.candidate.name == inExchanged; token == "" || exchanged != (token != benchToken) {
		return a, errors.New("the command has the wrong kind of token")
	}
	return a, nil
}

// brokered returns the script of a client that sends the token in each request.
func (p inspectionParts) brokered(t *trial) (session, error) {
	a, err := t.agent()
	s := p.session(t, true, "Authorization: Bearer "+a.token)
	s.to, s.header = a.proxy, http.Header{"Authorization": {"Bearer " + a.token}}
	return s, err
}

// exchange is the work of requests with a placeholder, on connections that stay open.
func (p inspectionParts) exchange() inspectionWork {
	const conns = 8
	run := func(http2 bool) func(*trial) (readings, error) {
		return func(t *trial) (readings, error) {
			s, err := p.brokered(t)
			if err != nil {
				return nil, err
			}
			s.http2, s.url = http2, "https://"+t.target()+"/"
			return t.session(conns, s)
		}
	}
	origin2 := func() (origin, error) {
		return startHTTP2Origin(smallBody, &tls.Config{Certificates: []tls.Certificate{*p.cert}})
	}
	return inspectionWork{
		name: "inspect-exchange",
		sides: []side{
			{inExchanged, p.exchanging, p.secure(smallBody), run(false)},
			{inSent, p.sending, p.secure(smallBody), run(false)},
			{inExchanged2, p.exchanging, origin2, run(true)},
			{inSent2, p.sending, origin2, run(true)},
		},
		pairs: []pair{
			{inExchanged, inSent, "kept HTTP/1.1, placeholder exchanged, to a token sent as it is", sessionMetrics("request", 1/1.05)},
			{inExchanged2, inSent2, "kept HTTP/2, placeholder exchanged, to a token sent as it is", sessionMetrics("request", 1/1.05)},
		},
	}
}

// masked is the work of downloads in which the secret is looked for.
func (p inspectionParts) masked() inspectionWork {
	run := func(t *trial) (readings, error) {
		s, err := p.brokered(t)
		if err != nil {
			return nil, err
		}
		return t.download(s)
	}
	return inspectionWork{
		name: "inspect-masked",
		sides: []side{
			{inExchanged, p.exchanging, p.secure(largeBody), run},
			{inSent, p.sending, p.secure(largeBody), run},
		},
		pairs: []pair{{inExchanged, inSent, "download of 16 MiB, 2 connections, masked, to one that is not", bulkMetrics(1 / 1.2)}},
	}
}
