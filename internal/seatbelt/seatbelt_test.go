package seatbelt

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Profile{
		"nothing": {},
		"proxies": {Ports: []uint16{3128, 1080}},
		"sockets": {Ports: []uint16{8080}, UnixSockets: []string{
			"/var/run/docker.sock", "/private/tmp/agent.1/socket", "/Users/me/Library/Group Containers/x/s",
			`/Users/me/a "quoted" (one)\n; /s`, "/Users/zoë/agent", "/Users/me/../me/./agent",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := p.Text()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".sb")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the profile is\n%s\nwant\n%s", got, want)
			}
			if err := check(p, got); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Profile{
		"port 0":            {Ports: []uint16{80, 0}},
		"relative path":     {UnixSockets: []string{"run/socket"}},
		"empty path":        {UnixSockets: []string{""}},
		"newline":           {UnixSockets: []string{"/run/a\nb"}},
		"NUL":               {UnixSockets: []string{"/run/a\x00b"}},
		"DEL":               {UnixSockets: []string{"/run/a\x7fb"}},
		"C1 control":        {UnixSockets: []string{"/run/a\u0085b"}},
		"invalid UTF-8":     {UnixSockets: []string{"/run/a\xffb"}},
		"after a valid one": {UnixSockets: []string{"/run/a", "b"}},
	} {
		if text, err := p.Text(); err == nil || text != "" {
			t.Errorf("%s: the profile is %q, %v; want an error", name, text, err)
		}
		if arguments, err := p.Arguments("/bin/true"); err == nil || arguments != nil {
			t.Errorf("%s: the arguments are %q, %v; want an error", name, arguments, err)
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	p := Profile{Ports: []uint16{80}}
	text, _ := p.Text()
	got, err := p.Arguments("/bin/ls", "-p", "--", "x y")
	if want := []string{"-p", text, "--", "/bin/ls", "-p", "--", "x y"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("the arguments are %q, %v; want %q", got, err, want)
	}
}

// TestCheck shows that check finds what is wrong with a profile.
func TestCheck(t *testing.T) {
	t.Parallel()
	p := Profile{Ports: []uint16{80}, UnixSockets: []string{"/run/s"}}
	good, err := p.Text()
	if err != nil {
		t.Fatal(err)
	}
	if err := check(p, good); err != nil {
		t.Fatal(err)
	}
	rule := "(allow network-outbound (remote ip \"localhost:80\"))\n"
	for name, wrong := range map[string]string{
		"a port twice":        good + rule,
		"a port too many":     good + strings.Replace(rule, "80", "81", 1),
		"every local port":    good + strings.Replace(rule, "80", "*", 1),
		"every host":          good + strings.Replace(rule, "localhost:80", "*:*", 1),
		"no port":             strings.Replace(good, rule, "", 1),
		"everything":          good + "(allow network*)\n",
		"outbound":            good + "(allow network-outbound)\n",
		"no denial":           strings.Replace(good, "(deny network*)\n", "", 1),
		"denial at the end":   strings.Replace(good, "(deny network*)\n", "", 1) + "(deny network*)\n",
		"a socket too many":   good + "(allow network-outbound (remote unix-socket (path-literal \"/run/t\")))\n",
		"every socket":        good + "(allow network-outbound (remote unix-socket))\n",
		"a service":           strings.Replace(good, "\n\t(global-name \"com.apple.dnssd.service\")", "", 1),
		"Apple events":        strings.Replace(good, "(deny appleevent-send)\n", "", 1),
		"jobs":                strings.Replace(good, "(deny job-creation)\n", "", 1),
		"name lookups":        good + "(allow mach-lookup)\n",
		"not an S-expression": good + ")",
		"an open string":      good + "(\"",
	} {
		if wrong == good {
			t.Errorf("%s: the test changes nothing", name)
		}
		if check(p, wrong) == nil {
			t.Errorf("%s: check finds nothing wrong", name)
		}
	}
}

// check checks the properties of the profile p, whose text is given: it is denied before
// anything is allowed, the rules that lead out are those of p and no others, and every
// string is read as it was given.
func check(p Profile, text string) error {
	rules, err := readAll(text)
	if err != nil {
		return err
	}
	first := []list{
		{symbol("version"), symbol("1")},
		{symbol("allow"), symbol("default")},
		{symbol("deny"), symbol("network*")},
	}
	if len(rules) < len(first) || !reflect.DeepEqual(rules[:len(first)], first) {
		return fmt.Errorf("the profile does not begin with %v", first)
	}
	wanted := make(map[string]bool)
	for _, port := range p.Ports {
		wanted[fmt.Sprint("ip ", "localhost:", port)] = true
	}
	for _, socket := range p.UnixSockets {
		socket = path.Clean(socket)
		wanted["unix "+socket] = true
		for _, dir := range []string{"/etc/", "/tmp/", "/var/"} {
			if strings.HasPrefix(socket, dir) {
				wanted["unix /private"+socket] = true
			} else if rest, ok := strings.CutPrefix(socket, "/private"); ok && strings.HasPrefix(rest, dir) {
				wanted["unix "+rest] = true
			}
		}
	}
	var deniedActions, services []string
	allowing := false
	for _, rule := range rules[len(first):] {
		if len(rule) < 2 {
			return fmt.Errorf("rule %v has no action", rule)
		}
		action, ok := rule[1].(symbol)
		if !ok {
			return fmt.Errorf("rule %v has no action", rule)
		}
		switch rule[0] {
		case symbol("deny"):
			if allowing {
				return fmt.Errorf("%v comes after a rule that allows", rule)
			}
			deniedActions = append(deniedActions, string(action))
			services = append(services, stringsIn(rule)...)
		case symbol("allow"):
			allowing = true
			key, err := allowed(action, rule[2:])
			if err != nil {
				return err
			}
			if key != "" && !wanted[key] {
				return fmt.Errorf("%v is not in the configuration, or stands there twice", rule)
			}
			delete(wanted, key)
		default:
			return fmt.Errorf("unknown rule %v", rule)
		}
	}
	if len(wanted) > 0 {
		return fmt.Errorf("these are not allowed: %v", wanted)
	}
	if want := []string{"mach-lookup", "appleevent-send", "job-creation"}; !slices.Equal(deniedActions, want) {
		return fmt.Errorf("denied are %q, want %q", deniedActions, want)
	}
	want := []string{"com.apple.dnssd.service", "com.apple.nsurlsessiond", "com.apple.coreservices.launchservicesd", "com.apple.coreservices.appleevents"}
	if !slices.Equal(services, want) {
		return fmt.Errorf("denied services are %q, want %q", services, want)
	}
	return nil
}

// allowed returns the place that a rule allows a command to connect to, or "" if the rule
// is one of those for own servers and sorting.
func allowed(action symbol, conditions list) (string, error) {
	all := append(list{action}, conditions...)
	for _, harmless := range []list{
		{symbol("network-bind"), list{symbol("local"), symbol("ip"), "*:*"}},
		{symbol("network-inbound"), list{symbol("local"), symbol("ip"), "*:*"}},
		{symbol("system-socket"), list{symbol("require-all"), list{symbol("socket-domain"), symbol("AF_SYSTEM")}, list{symbol("socket-protocol"), symbol("2")}}},
	} {
		if reflect.DeepEqual(all, harmless) {
			return "", nil
		}
	}
	texts := stringsIn(all)
	if len(texts) != 1 {
		return "", fmt.Errorf("%v allows more than one place", all)
	}
	switch {
	case reflect.DeepEqual(all, list{symbol("network-outbound"), list{symbol("remote"), symbol("ip"), texts[0]}}):
		return "ip " + texts[0], nil
	case reflect.DeepEqual(all, list{symbol("network-outbound"), list{symbol("remote"), symbol("unix-socket"), list{symbol("path-literal"), texts[0]}}}):
		return "unix " + texts[0], nil
	}
	return "", fmt.Errorf("unknown rule %v", all)
}

// FuzzProfile checks that no path and no port changes more of a profile than its own rules.
func FuzzProfile(f *testing.F) {
	f.Add(uint16(3128), uint16(1080), "/var/run/docker.sock", "/Users/me/a")
	f.Add(uint16(1), uint16(1), `/a"))(allow network*)("`, `/a\`)
	f.Add(uint16(80), uint16(65535), `/a\"))(allow default);`, "/private/tmp/../../etc/x")
	f.Add(uint16(80), uint16(443), "/ü/\u2028/#|x|#", "/var/../private/var/x")
	f.Add(uint16(80), uint16(443), "/tmp/\n", "/\xff")
	f.Fuzz(func(t *testing.T, port1, port2 uint16, path1, path2 string) {
		p := Profile{Ports: []uint16{port1, port2}, UnixSockets: []string{path1, path2}}
		text, err := p.Text()
		if err != nil {
			if text != "" {
				t.Errorf("the profile is %q with the error %v", text, err)
			}
			return
		}
		if err := check(p, text); err != nil {
			t.Errorf("%+v: %v, in\n%s", p, err, text)
		}
		if read, err := readAll("(" + quote(path1) + ")"); err != nil || len(read) != 1 || len(read[0]) != 1 || read[0][0] != path1 {
			t.Errorf("%q is read as %q, %v", path1, read, err)
		}
	})
}
