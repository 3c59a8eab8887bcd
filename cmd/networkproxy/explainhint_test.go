//go:build unix

package main

import (
	"regexp"
	"strings"
	"testing"

	"example.com/networkproxy"
)

func TestCheckCommandOfRefusals(t *testing.T) {
	t.Parallel()
	const http, connect = networkproxy.ProtocolHTTP, networkproxy.ProtocolHTTPSConnect
	for _, tt := range []struct {
		name     string
		config   configFlags
		refusals []refusalCount
		want     string
	}{
		{"none", configFlags{}, nil, ""},
		{"CONNECT", configFlags{}, []refusalCount{{Host: "a.example", Port: 443, Protocol: connect}, {Host: "b.example"}}, "networkproxy check a.example:443"},
		{"HTTP", configFlags{}, []refusalCount{{Host: "a.example", Port: 80, Protocol: http}}, "networkproxy check http://a.example:80/"},
		{"SOCKS5", configFlags{}, []refusalCount{{Host: "10.0.0.1", Port: 22, Protocol: networkproxy.ProtocolSOCKS5TCP}}, "networkproxy check socks5://10.0.0.1:22"},
		{"UDP", configFlags{}, []refusalCount{{Host: "::1", Port: 53, Protocol: networkproxy.ProtocolSOCKS5UDP}}, "networkproxy check 'udp://[::1]:53'"},
		{"captured TCP", configFlags{}, []refusalCount{{Host: "a.example", Port: 5432, Protocol: networkproxy.ProtocolCapturedTCP}}, "networkproxy check a.example:5432"},
		{"captured UDP", configFlags{}, []refusalCount{{Host: "a.example", Port: 123, Protocol: networkproxy.ProtocolCapturedUDP}}, "networkproxy check udp://a.example:123"},
		{"lookup", configFlags{}, []refusalCount{{Host: "a.example", Protocol: networkproxy.ProtocolDNS}}, "networkproxy check a.example:443"},
		{"flags", configFlags{files: list{"a b.toml", "c.toml"}, allow: []string{"*.npmjs.org", "it's"}, presets: []string{"go"}, deny: []string{"x.example"}, learned: "l.toml", requirements: "r.toml", observe: true},
			[]refusalCount{{Host: "a.example", Port: 443, Protocol: connect}},
			`networkproxy check -config 'a b.toml' -config c.toml -allow '*.npmjs.org' -allow 'it'\''s' -preset go -deny x.example -learned l.toml -requirements r.toml -observe a.example:443`},
		{"the user's file", configFlags{files: list{"/home/u/c.toml"}, defaultFile: true}, []refusalCount{{Host: "a.example", Port: 443, Protocol: connect}}, "networkproxy check a.example:443"},
		{"unusual characters", configFlags{}, []refusalCount{{Host: "$(x).example", Port: 443, Protocol: connect}, {Host: "-deny", Port: 443, Protocol: connect}, {Port: 1, Protocol: http}, {Host: "a\x1b", Port: 1}}, ""},
		{"the next one", configFlags{}, []refusalCount{{Host: "a;b", Port: 443, Protocol: connect}, {Host: "c.example", Port: 443, Protocol: connect}}, "networkproxy check c.example:443"},
	} {
		if got := tt.config.checkCommand(tt.refusals); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestRunSaysHowToExplain runs the command that the summary of run suggests.
func TestRunSaysHowToExplain(t *testing.T) {
	setChildEnv(t)
	_, _, stderr := runWith(t, "get http://refused.example/", "-config", configFile(t, true, `"x.example"`), "-deny", "refused.example")
	m := regexp.MustCompile(`(?m)^networkproxy: to see why, and what would allow a request: networkproxy (.*)$`).FindStringSubmatch(stderr)
	if m == nil {
		t.Fatalf("no command in\n%s", stderr)
	}
	p := start(t, strings.Fields(m[1])...)
	if status := p.status(t); status != exitRefused || !strings.Contains(p.stdout.String(), `"refused.example" in denied_domains (the flag -deny)`) {
		t.Errorf("%s: exit %d\n%s%s", m[1], status, &p.stdout, &p.stderr)
	}
	if _, _, stderr := runWith(t, "get http://refused.example/", "-allow", "x.example"); !strings.HasSuffix(stderr, ": networkproxy check -allow x.example http://refused.example:80/\n") {
		t.Errorf("standard error %q", stderr)
	}
}
