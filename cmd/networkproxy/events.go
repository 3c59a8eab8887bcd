// The events command shows what a running proxy does.

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.com/networkproxy"
)

// eventsFlags are the flags of events.
type eventsFlags struct {
	admin, tokenFile string
	json, follow     bool
}

func (p *program) events(f *flag.FlagSet) func(context.Context) error {
	var e eventsFlags
	f.StringVar(&e.admin, "admin", "127.0.0.1:8080", "`address` of the admin API: host:port, or the path of its Unix socket")
	f.StringVar(&e.tokenFile, "admin-token-file", "", "`file` with the token of the admin API")
	f.BoolVar(&e.json, "json", false, "print each event as one line of JSON, as in the audit log")
	f.BoolVar(&e.follow, "follow", false, "go on with the events to come")
	addLogFlags(p, f)
	return func(ctx context.Context) error {
		if err := noOperands(f); err != nil {
			return err
		}
		return p.showEvents(ctx, e)
	}
}

// retryDelay is the time between two attempts to connect to the admin API again.
const retryDelay = 2 * time.Second

// showEvents prints events until the proxy or ctx ends. With -follow, it connects again
// after a loss.
func (p *program) showEvents(ctx context.Context, e eventsFlags) error {
	s, err := p.newEventStream(e)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		err := s.read(ctx)
		var failed *adminError
		switch {
		case ctx.Err() != nil:
			return nil
		case !e.follow, first && s.last == "" && err != nil, errors.As(err, &failed), errors.Is(err, errOutput):
			return err
		}
		p.report(slog.LevelWarn, fmt.Sprintf("the connection to the admin API is lost; trying again (%v)", cmp.Or(err, io.ErrUnexpectedEOF)))
		select {
		case <-time.After(retryDelay):
		case <-ctx.Done():
			return nil
		}
	}
}

// adminError is an error response of the admin API.
type adminError struct{ text string }

func (e *adminError) Error() string { return "the admin API answers: " + e.text }

// errOutput is the error for standard output that cannot be written.
var errOutput = errors.New("cannot write the events")

// eventStream reads the events of a proxy and prints them.
type eventStream struct {
	client *http.Client
	url    string
	token  string // empty: none
	last   string // the ID of the last event; empty before the first
	print  func(data []byte) error
}

func (p *program) newEventStream(e eventsFlags) (*eventStream, error) {
	s := &eventStream{client: new(http.Client), url: "http://" + e.admin + "/events", print: p.printEvent}
	dialer := new(net.Dialer)
	transport := &http.Transport{DialContext: dialer.DialContext} // ignores proxy variables, because the admin API is near
	if filepath.IsAbs(e.admin) {
		s.url = "http://localhost/events"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", e.admin)
		}
	}
	s.client.Transport = transport
	if !e.follow {
		s.url += "?follow=0"
	}
	if e.json {
		s.print = func(data []byte) error {
			_, err := fmt.Fprintf(p.stdout, "%s\n", data)
			return err
		}
	}
	if e.tokenFile != "" {
		token, err := os.ReadFile(e.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("-admin-token-file: %w", err)
		}
		s.token = strings.TrimSpace(string(token))
	}
	return s, nil
}

// read prints the events of one response.
func (s *eventStream) read(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return fmt.Errorf("-admin: %w", err)
	}
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	if s.last != "" {
		r.Header.Set("Last-Event-ID", s.last)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return fmt.Errorf("cannot reach the admin API; -admin names its address: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Error string }
		if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&problem); err != nil || problem.Error == "" {
			problem.Error = resp.Status
		}
		return &adminError{problem.Error}
	}
	return s.parse(resp.Body)
}

// maxEventLine is more than the longest line of a stream.
const maxEventLine = 2 << 20

// parse prints the events of a stream of server-sent events (WHATWG HTML section 9.2).
func (s *eventStream) parse(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEventLine)
	id := ""
	for lines.Scan() {
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(": "))
		switch string(name) {
		case "id":
			id = string(value)
		case "data":
			if err := s.print(value); err != nil {
				return fmt.Errorf("%w: %w", errOutput, err)
			}
			s.last = id
		}
	}
	return lines.Err()
}

// printEvent prints an event for people.
func (p *program) printEvent(data []byte) error {
	var e networkproxy.Event
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("an event that is not JSON: %w", err)
	}
	color := ""
	switch e.Kind {
	case networkproxy.EventRefused, networkproxy.EventCut:
		color = red
	case networkproxy.EventAsked, networkproxy.EventFailed, networkproxy.EventDropped:
		color = yellow
	}
	line := e.Time.Local().Format(time.TimeOnly) + " " + e.String() + "\n"
	if color != "" && showsColors(p.stdout, p.env) {
		line = color + strings.TrimSuffix(line, "\n") + reset + "\n"
	}
	_, err := io.WriteString(p.stdout, line)
	return err
}
