package httprule

import "testing"

// TestHostProblems: a URL in place of a host is recognised, with what to write.
func TestHostProblems(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"https://a.example/v1":    `the host "https://a.example/v1" is a URL; write "a.example", and the path in path_prefixes`,
		"http://a.example":        `the host "http://a.example" is a URL; write "a.example:80", and the path in path_prefixes`,
		"https://a.example:444/":  `the host "https://a.example:444/" is a URL; write "a.example:444", and the path in path_prefixes`,
		"a.example/v1":            `the host "a.example/v1" has a path; write "a.example", and the path in path_prefixes`,
		"[::1]/v1":                `the host "[::1]/v1" has a path; write "[::1]", and the path in path_prefixes`,
		"https://":                `the host "https://" is a URL; write the host alone, or host:port, and the path in path_prefixes`,
		"https://u:p@a.example/x": `the host "https://u:p@a.example/x" is a URL; write the host alone, or host:port, and the path in path_prefixes`,
		"*.a.example/v1":          `the host "*.a.example/v1" has a wildcard; a rule is for one host, so write one rule for each`,
	} {
		_, problems := Parse(&Spec{Host: host, Access: "read-only"})
		if len(problems) != 1 || problems[0].Key != "host" || problems[0].Text != want {
			t.Errorf("got  %+v\nwant %s", problems, want)
		}
	}
}
