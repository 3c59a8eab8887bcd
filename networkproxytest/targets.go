// The corpus of targets: spellings that might bypass a policy.

package networkproxytest

import (
	"net"
	"net/netip"
	"strings"

	"example.com/networkproxy"
)

// TargetTable is a policy and a list of targets that it must refuse on every
// path into the proxy.
type TargetTable struct {
	Promise string                    // the promise under test
	Policy  networkproxy.PolicyConfig // the policy
	Reason  networkproxy.Reason       // the reason of all refusals
	Targets []string                  // host:port, with the placeholders of [ExpandTarget]
}

// TargetTables returns the corpus. The caller may modify the result.
func TargetTables() []TargetTable {
	everything := networkproxy.PolicyConfig{AllowedDomains: []string{"*", "*.wild.example", "allowed.example"}}
	local := everything
	local.AllowLocalBinding = true
	ask := everything
	ask.AskLocal = true
	denied := everything
	denied.DeniedDomains = []string{"denied.invalid", "**.tracker.invalid", "ip*.v2.invalid", "port.invalid:25",
		"8.8.4.0/24", "1.1.1.1:25", "2001:4860::/32", "127.0.0.9"}
	return []TargetTable{
		{
			Promise: "an empty allowlist allows nothing",
			Reason:  networkproxy.ReasonNotAllowed,
			Targets: []string{"allowed.invalid:80", "a.wild.invalid:443", "invalid:80", "a:80", "93.184.216.34:443", "[2606:4700::1111]:443"},
		},
		{
			Promise: "a target on no list is refused",
			Policy: networkproxy.PolicyConfig{AllowedDomains: []string{"allowed.invalid", "*.wild.invalid", "**.apex.invalid", "port.invalid:8443",
				"region*.v2.invalid", "93.184.216.34", "8.8.0.0/16", "[2606:4700:10::/48]:443", "bücher.invalid"}},
			Reason:  networkproxy.ReasonNotAllowed,
			Targets: nearMisses(),
		},
		{
			Promise: "the denylist wins in every spelling",
			Policy:  denied,
			Reason:  networkproxy.ReasonDenied,
			Targets: []string{
				"denied.invalid:80", "DENIED.Invalid:443", "denied.invalid.:80", "ｄｅｎｉｅｄ.invalid:80", "denied。invalid:80", "deni\u00aded.invalid:80",
				"tracker.invalid:80", "a.b.tracker.invalid:80", "A.TRACKER.INVALID.:443", "ip-7.v2.invalid:80", "port.invalid:25",
				"8.8.4.4:443", "[::ffff:8.8.4.4]:443", "[64:ff9b::8.8.4.4]:443", "[2002:808:404::1]:443", "[2606:4700::5efe:8.8.4.4]:443",
				"1.1.1.1:25", "[64:ff9b::1.1.1.1]:25", "[2001:4860:4860::8888]:53", "127.0.0.9:80", "[::ffff:127.0.0.9]:80",
			},
		},
		{
			Promise: "an invalid target is refused",
			Policy:  local,
			Reason:  networkproxy.ReasonInvalidTarget,
			Targets: MalformedTargets(),
		},
		{
			Promise: "a wildcard does not open local and private networks",
			Policy:  everything,
			Reason:  networkproxy.ReasonNotAllowedLocal,
			Targets: LocalTargets(),
		},
		{
			Promise: "an entry for one local target opens no other",
			Policy:  networkproxy.PolicyConfig{AllowedDomains: []string{"*", "127.0.0.1:1", "localhost:2", "[::1]:3", "10.1.0.0/16"}},
			Reason:  networkproxy.ReasonNotAllowedLocal,
			Targets: []string{
				"127.0.0.1:2", "127.0.0.1:3", "127.0.0.2:1", "localhost:1", "localhost:3", "a.localhost:2", "[::1]:1", "[::1]:2", "[::2]:3", "0.0.0.0:1",
				"[::127.0.0.1]:1", "[64:ff9b::127.0.0.1]:1", "[2002:7f00:1::]:1", "10.2.0.1:80", "[::10.1.2.3]:80", "[64:ff9b::10.1.2.3]:80",
			},
		},
		{
			// This policy allows everything except the proxy itself.
			Promise: "the proxy does not connect to itself",
			Policy:  local,
			Reason:  networkproxy.ReasonNotAllowedLocal,
			Targets: selfTargets(),
		},
		{
			Promise: "ask_local does not ask about the proxy itself",
			Policy:  ask,
			Reason:  networkproxy.ReasonNotAllowedLocal,
			Targets: selfTargets(),
		},
		{
			Promise: "ask_local does not ask about local networks",
			Policy:  ask,
			Reason:  networkproxy.ReasonNotAllowedLocal,
			Targets: []string{
				"0.0.0.0:80", "0.1.2.3:80", "10.0.0.1:80", "172.16.0.1:80", "192.168.1.1:80", "169.254.169.254:80", "100.64.0.1:80", "224.0.0.1:80",
				"[::]:80", "[::2]:80", "[fe80::1]:80", "[fe80::1%25lo]:80", "[fd00:ec2::254]:80", "[ff01::1]:80", "[::ffff:0.0.0.0]:80", "[::ffff:10.0.0.1]:80",
				"[::127.0.0.1]:80", "[::ffff:0:127.0.0.1]:80", "[64:ff9b::127.0.0.1]:80", "[2002:7f00:1::]:80", "[2606:4700::5efe:127.0.0.1]:80",
			},
		},
	}
}

// ExpandTarget replaces the placeholders in a target: {http}, {admin} and {socks}
// with the ports of the proxy's listeners, and {self} with a non-loopback IPv4
// address of this machine, or 127.0.0.1 if it has none. ExpandTarget returns "" if
// the proxy does not have the listener.
func ExpandTarget(target string, h *networkproxy.Handle) string {
	for placeholder, addr := range map[string]string{"{http}": h.HTTPAddr(), "{admin}": h.AdminAddr(), "{socks}": h.SOCKSAddr()} {
		if !strings.Contains(target, placeholder) {
			continue
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return ""
		}
		target = strings.ReplaceAll(target, placeholder, port)
	}
	if strings.Contains(target, "{self}") {
		target = strings.ReplaceAll(target, "{self}", localAddress())
	}
	return target
}

// localAddress returns a non-loopback IPv4 address of this machine, or 127.0.0.1.
func localAddress() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr().String()
		}
	}
	return "127.0.0.1"
}

// selfTargets returns the proxy's listeners under many names and addresses of this
// machine.
func selfTargets() []string {
	var targets []string
	for _, port := range []string{"{http}", "{admin}", "{socks}"} {
		for _, host := range []string{
			"127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "localhost", "LOCALHOST.", "admin.localhost", "{self}",
			"[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:0.0.0.0]", "[::1%25lo]",
			"[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[::ffff:{self}]",
		} {
			targets = append(targets, host+":"+port)
		}
	}
	return targets
}

// nearMisses returns targets that resemble the table's allowlist entries but do not
// match any.
func nearMisses() []string {
	return []string{
		"wild.invalid:80", "evilwild.invalid:80", "a.wild.invalid.other.invalid:80", "xapex.invalid:80", "port.invalid:8444", "port.invalid:443",
		"region.1.v2.invalid:80", "xregion1.v2.invalid:80", "bucher.invalid:80", "x.allowed.invalid:80", "allowed.invalidother:80",
		"allowed.invalid.other.invalid:80", "-allowed.invalid:80", "allowed-.invalid:80", "localhosts:80", "notlocalhost:80", "localhost.other.invalid:80", "ip6-localhost:80",
		"secret-0123456789abcdef.exfiltration.invalid:80", "allowed.invalid\u2044x:80", // a fraction slash is not a slash
		strings.Repeat("a", 63) + ".invalid:80",
		"93.184.216.35:1", "[64:ff9b::93.184.216.34]:80", "8.9.8.8:53", "[2606:4700:10::1]:80", "[2606:4700:11::1]:443",
	}
}

// MalformedTargets returns texts that are invalid as targets under every
// configuration.
func MalformedTargets() []string {
	return []string{
		// Brackets, colons and ports.
		":80", "[]:80", "[:80", "]:80", "[::1:80", "[::1]80", "::1:80", "[::1]:80:80", "[127.0.0.1]:80", "[allowed.example]:80",
		"[:::1]:80", "[::1::]:80", "[12345::1]:80", "[1:2:3:4:5:6:7:8:9]:80", "[::256.0.0.1]:80", "[::127.0.0.01]:80",
		"allowed.example:0", "allowed.example:00", "allowed.example:080", "allowed.example:65536",
		"allowed.example:99999999999999999999", "allowed.example:-1", "allowed.example:+80", "allowed.example:0x50", "allowed.example:http",
		"allowed.example:80:80", "allowed.example:８０", "allowed.example:8 0", "::", ":",
		// Labels.
		"allowed..example:80", ".allowed.example:80", "allowed.example..:80", ".:80", "..:80",
		strings.Repeat("a", 64) + ".example:80",
		strings.Repeat("a.", 123) + "bexample:80", // a name of 254 bytes, one too many
		strings.Repeat("a.", 600) + "example:80",
		// Characters.
		"allowed .example:80", "allowed.example\t:80", "allowed\x00.example:80", "allowed.example\x00.evil.example:80", "allowed\x01.example:80",
		"allowed.example\x7f:80", "allowed\r.example:80", "user@allowed.example:80", "user:secret@allowed.example:80", "allowed.example@other.example:80",
		"allowed.example\\other.example:80", "allowed.example#other.example:80", "*.wild.example:80", "*:80", "allowed.example,other.example:80",
		"allowed.example;other.example:80", "allowed.example|other.example:80", `"allowed.example":80`, "<allowed.example>:80", "$(id).example:80",
		"`id`.example:80", "{allowed}.example:80", "allowed=.example:80", "allowed+.example:80", "allowed!.example:80", "allowed'.example:80",
		"allowed.example&:80", "allowed^.example:80",
		// Zones.
		"[fe80::1%25]:80", "[fe80::1%250]:80", "[fe80::1%2501]:80", "[fe80::1%252x]:80", "[fe80::1%25a%00]:80", "[fe80::1%25a b]:80",
		"[fe80::1%25eth0/64]:80", "[fe80::1%25abcdefghijklmnop]:80", "fe80::1%25eth0:80",
		// Escapes.
		"allowed%2eexample:80", "%61llowed.example:80", "allowed.example%00:80", "allowed.example%00.other.example:80", "allowed.example%20:80",
		"b%C3%BCcher.example:80", "%6c%6f%63alhost:80", "127%2e0.0.1:80", "allowed.example%3a80:80", "allowed.example%:80",
		// Internationalised names.
		"\xff.example:80", "xn--a.example:80", "xn--.example:80", "\u202eallowed.example:80", "a\u0338\u0338.b\u200dc:80",
		// Text that inet_aton reads as an address.
		"2130706433:80", "127.1:80", "127.0.1:80", "0x7f.1:80", "0x7f000001:80", "0X7F000001:80", "0177.0.0.1:80", "017700000001:80",
		"0x7f.0x0.0x0.0x1:80", "127.0.0.01:80", "127.0.0.0x1:80", "127.0.0.1.:80", "0:80", "00:80", "0x0:80", "0x:80", "1:80", "08:80", "0b1:80",
		"256.256.256.256:80", "127.0.0.256:80", "1.2.3:80", "1.2.3.4.5:80", "4294967296:80", "0xA9FEA9FE:80", "169.254.43518:80", "10.0x1:80",
		"0300.0250.1:80", "allowed.1:80", "allowed.0x1:80", "１２７.0.0.1:80", "①②⑦.⓪.⓪.①:80", "127。0。0。1:80", "127.0.0.１:80", "０x7f.1:80",
	}
}

// LocalTargets returns valid spellings of this machine and of non-public addresses.
// They have the placeholders of [ExpandTarget].
func LocalTargets() []string {
	return []string{
		"localhost:80", "LOCALHOST:80", "LocalHost.:80", "a.localhost:80", "a.b.LOCALHOST.:80", "ｌｏｃａｌｈｏｓｔ:80", "localhost。:80", "_x.localhost:443",
		// IPv4
		"127.0.0.1:80", "127.0.0.2:80", "127.255.255.254:80", "0.0.0.0:80", "0.1.2.3:80", "10.0.0.1:80", "172.16.0.1:80", "172.31.255.255:80",
		"192.168.1.1:80", "169.254.169.254:80", "100.64.0.1:80", "100.127.255.255:80", "192.0.0.1:80", "192.0.0.192:80", "192.0.2.1:80",
		"192.88.99.1:80", "198.18.0.1:80", "198.19.255.255:80", "198.51.100.1:80", "203.0.113.1:80", "224.0.0.1:80", "239.255.255.250:1900",
		"240.0.0.1:80", "255.255.255.255:80", "168.63.129.16:80",
		// IPv6
		"[::]:80", "[::1]:80", "[0:0:0:0:0:0:0:1]:80", "[0000:0000:0000:0000:0000:0000:0000:0001]:80", "[::1%25lo]:80", "[fe80::1]:80",
		"[fe80::1%25eth0]:80", "[FE80::1%251]:80", "[fc00::1]:80", "[fd00:ec2::254]:80", "[fec0::1]:80", "[ff02::1]:80", "[ff05::2]:80", "[100::1]:80",
		"[2001:db8::1]:80", "[3fff::1]:80", "[5f00::1]:80", "[4000::1]:80", "[8000::1]:80", "[2001:10::1]:80", "[2001:20::1]:80", "[2620:4f:8000::1]:80",
		// IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP
		"[::ffff:127.0.0.1]:80", "[::ffff:7f00:1]:80", "[::FFFF:10.0.0.1]:80", "[::ffff:169.254.169.254]:80", "[::ffff:0.0.0.0]:80",
		"[0:0:0:0:0:ffff:7f00:0001]:80", "[::ffff:127.0.0.1%25lo]:80", "[::127.0.0.1]:80", "[::7f00:1]:80", "[::8.8.8.8]:80", "[::ffff:0:127.0.0.1]:80",
		"[::ffff:0:8.8.8.8]:80", "[64:ff9b::127.0.0.1]:80", "[64:ff9b::a00:1]:80", "[64:ff9b::169.254.169.254]:80", "[64:ff9b:1::1]:80",
		"[64:ff9b:1::808:808]:80", "[2002:7f00:1::]:80", "[2002:a00:1::1]:80", "[2002:c0a8:101::1]:80", "[2002:a9fe:a9fe::1]:80", "[2001::1]:80",
		"[2001:0:4136:e378:8000:63bf:3fff:fdd2]:80", "[2606:4700::5efe:10.0.0.1]:80", "[2606:4700::200:5efe:7f00:1]:80", "[fe80::5efe:10.0.0.1]:80",
		"[2002:808:808::5efe:10.0.0.1]:80",
		// The proxy itself.
		"127.0.0.1:{http}", "127.0.0.1:{admin}", "localhost:{admin}", "[::1]:{admin}", "[::ffff:127.0.0.1]:{http}", "0.0.0.0:{admin}", "{self}:{admin}",
	}
}
