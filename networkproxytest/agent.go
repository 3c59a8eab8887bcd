// The command in a fence. It connects where the kit asks it to, and hands the
// connections to the kit.

package networkproxytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// agentVariable is set in the environment of the command.
const agentVariable = "NETWORKPROXYTEST_FENCE"

// agentDescriptor is the descriptor of the command's socket to the kit.
const agentDescriptor = 3

// nameServer is the name server that the command asks. No server has its address (RFC 5737):
// a fence answers for all.
const nameServer = "192.0.2.53:53"

// lookup returns the IPv4 address of a name in the fence. It sends the bytes of the name as
// they are.
func (a *agent) lookup(name string) (netip.Addr, error) {
	if name == "" || name[len(name)-1] != '.' {
		name += "."
	}
	wire, err := dnsmessage.NewName(name)
	if err != nil {
		return netip.Addr{}, err
	}
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: wire, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	packet, err := query.Pack()
	if err != nil {
		return netip.Addr{}, err // such as an empty label
	}
	c, err := a.dial("udp", nameServer)
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	for range lookupAttempts {
		c.SetDeadline(time.Now().Add(lookupTimeout))
		if _, err = c.Write(packet); err != nil {
			return netip.Addr{}, err
		}
		buf := make([]byte, 1500)
		var n int
		if n, err = c.Read(buf); err == nil {
			return parseAnswer(buf[:n])
		}
	}
	return netip.Addr{}, fmt.Errorf("no answer for %q: %w", name, err)
}

const (
	lookupAttempts = 3
	lookupTimeout  = time.Second
)

func parseAnswer(packet []byte) (netip.Addr, error) {
	var answer dnsmessage.Message
	if err := answer.Unpack(packet); err != nil {
		return netip.Addr{}, err
	}
	for _, record := range answer.Answers {
		if a, ok := record.Body.(*dnsmessage.AResource); ok {
			return netip.AddrFrom4(a.A), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: %v", errLookup, answer.RCode)
}

// agentRequest asks the command for a connection.
type agentRequest struct {
	Network string `json:"network"`
	Addr    string `json:"addr"`
}

// agentResponse comes with the descriptor of the connection, or has an error.
type agentResponse struct {
	Error string `json:"error,omitempty"`
}

// errAgentGone is returned if the command does not respond. It says nothing about a target.
var errAgentGone = errors.New("the command in the fence is gone")

// errLookup is returned for names without an address.
var errLookup = errors.New("the name has no address")

// dialTimeout bounds a connection of the command.
const dialTimeout = 5 * time.Second

// connect is what the command does for a request of the kit.
func connect(network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	return new(net.Dialer).DialContext(ctx, network, addr)
}
