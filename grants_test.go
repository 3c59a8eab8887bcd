package networkproxy_test

import (
	"encoding/json"
	"testing"
	"time"

	"example.com/networkproxy"
)

func TestGrantAsJSON(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got, err := json.Marshal([]networkproxy.Grant{
		{ID: 1, Host: "**.a.example", Port: 443, Command: "curl", UsesLeft: 2, Created: created, Expires: created.Add(time.Hour)},
		{ID: 2, Host: "a.example", Command: "curl", UsesLeft: -1, Active: 3, Created: created},
	})
	want := `[{"id":1,"host":"**.a.example","port":443,"command":"curl","uses_left":2,"active":0,` +
		`"created":"2026-01-02T03:04:05Z","expires":"2026-01-02T04:04:05Z"},` +
		`{"id":2,"host":"a.example","port":0,"command":"curl","uses_left":-1,"active":3,"created":"2026-01-02T03:04:05Z"}]`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}
