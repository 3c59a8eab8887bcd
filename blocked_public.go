package networkproxy

import (
	"net/netip"
	"time"

	"example.com/networkproxy/internal/audit"
)

// BlockedRequest is one refusal, as recorded.
type BlockedRequest struct {
	Time       time.Time      `json:"time"`
	Host       string         `json:"host"`
	Port       uint16         `json:"port"`
	Protocol   Protocol       `json:"protocol"`
	Method     string         `json:"method,omitempty"`
	UnixSocket string         `json:"unix_socket,omitempty"` // the path that was asked for in place of the host
	Client     netip.AddrPort `json:"client,omitzero"`
	Reason     Reason         `json:"reason"`
	Source     Source         `json:"source,omitempty"`
	Decision   string         `json:"decision"` // "deny", or "ask" when the user may lift it
	Rule       Rule           `json:"rule,omitzero"`
	Address    netip.Addr     `json:"address,omitzero"`      // the resolved address that decided
	ServerName string         `json:"server_name,omitempty"` // the name in the ClientHello that decided
	Command    string         `json:"command,omitempty"`
	Generation uint64         `json:"generation"` // of the policy that refused
}

func publicRefusal(r *audit.Refusal) BlockedRequest {
	v := &r.Verdict
	return BlockedRequest{
		Time:       r.Time,
		Host:       r.Host,
		Port:       r.Port,
		Protocol:   r.Protocol,
		Method:     r.Method,
		UnixSocket: r.UnixSocket,
		Client:     r.Client,
		Reason:     v.Reason,
		Source:     v.Source,
		Decision:   v.Decision(),
		Rule:       publicRule(v.Rule()),
		Address:    v.Address,
		ServerName: v.ServerName,
		Command:    r.Command,
		Generation: v.Generation,
	}
}

func publicRefusals(list []audit.Refusal) []BlockedRequest {
	public := make([]BlockedRequest, len(list)) // never nil: it is [] in JSON
	for i := range list {
		public[i] = publicRefusal(&list[i])
	}
	return public
}
