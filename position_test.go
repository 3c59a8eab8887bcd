package networkproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

func TestOriginString(t *testing.T) {
	t.Parallel()
	tests := []struct {
		origin Position
		text   string
		json   string
	}{
		{Position{}, "", `{"file":""}`},
		{Position{File: "a.toml"}, "a.toml", `{"file":"a.toml"}`},
		{Position{"a.toml", 12, 3}, "a.toml:12:3", `{"file":"a.toml","line":12,"column":3}`},
	}
	for _, test := range tests {
		if got := test.origin.String(); got != test.text {
			t.Errorf("got %q, want %q", got, test.text)
		}
		if got, err := json.Marshal(test.origin); err != nil || string(got) != test.json {
			t.Errorf("got %s, %v, want %s", got, err, test.json)
		}
	}
}

func TestConfigErrorText(t *testing.T) {
	t.Parallel()
	at := Position{"a.toml", 1, 2}
	cause := errors.New("cause")
	tests := []struct {
		name string
		err  ConfigError
		want string
	}{
		{"everything", ConfigError{at, "k", "v", "problem", cause}, `a.toml:1:2: k = "v": problem`},
		{"cause alone", ConfigError{at, "k", "", "", cause}, `a.toml:1:2: k: cause`},
		{"from Go", ConfigError{Key: "k", Value: "v", Problem: "problem"}, `k = "v": problem`},
		{"whole file", ConfigError{Position: Position{File: "a.toml"}, Problem: "problem"}, `a.toml: problem`},
		{"boolean", ConfigError{Key: "k", Value: "true", Problem: "problem"}, `k = true: problem`},
		{"no line of its own", ConfigError{Key: "k", Value: "v\nlevel=INFO", Problem: "problem"}, `k = "v\nlevel=INFO": problem`},
		{"long value", ConfigError{Key: "k", Value: strings.Repeat("é", 100), Problem: "p"}, `k = "` + strings.Repeat("é", 60) + `"...: p`},
		{"cut between characters", ConfigError{Key: "k", Value: "a" + strings.Repeat("é", 100), Problem: "p"}, `k = "a` + strings.Repeat("é", 59) + `"...: p`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := test.err.Error(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if test.err.Err != nil && !errors.Is(&test.err, cause) {
				t.Error("the cause cannot be found")
			}
		})
	}
}

func TestErrorListBounds(t *testing.T) {
	t.Parallel()
	var l errorList
	if err := l.join(); err != nil {
		t.Errorf("no errors join to %v", err)
	}
	l.add(nil)
	l.add(errors.Join())
	l.add(errors.Join(errors.New("number 0"), errors.New("number 1")))
	for i := range 20 {
		l.add(fmt.Errorf("number %d", i+2))
	}
	l.add(fs.ErrExist)
	got := lines(l.join())
	if len(got) != 21 || got[19] != "number 19" || got[20] != "and 3 more" {
		t.Errorf("got %q", got)
	}
	// Joining changes nothing.
	if again := lines(l.join()); len(again) != 21 {
		t.Errorf("the second time: %q", again)
	}
}
