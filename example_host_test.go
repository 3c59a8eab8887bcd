// Three hosts, reduced to the parts that meet the proxy: one with a permission
// service, one that asks by MCP elicitation, and one that wraps its executor.
// docs/embedding.md quotes them.

package networkproxy_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// Permissions is a permission service of a host. Ask returns when the user has
// answered, or with an error when ctx ends.
type Permissions interface {
	Ask(ctx context.Context, conversation, question string) (answer string, err error)
}

// permissionDecider asks a permission service. Its method decide is the decider.
type permissionDecider struct {
	permissions Permissions
	handle      *networkproxy.Handle // set after Run, before the first session is opened
}

func (d *permissionDecider) decide(ctx context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
	answer, err := d.permissions.Ask(ctx, r.Group, fmt.Sprintf("Let %q connect to %s port %d?", r.Command, r.Host, r.Port))
	switch {
	case err != nil:
		return networkproxy.Decision{}, err // refuses the waiting requests, and is not remembered
	case answer == "once":
		return networkproxy.Allow(), nil
	case answer == "conversation":
		return networkproxy.Allow().ForGroup(), nil
	case answer == "always":
		d.remember(context.WithoutCancel(ctx), r) // even if the command no longer waits
		return networkproxy.Allow().ForGroup(), nil
	case answer == "never":
		return networkproxy.Deny("the user said never").ForGroup(), nil
	}
	return networkproxy.Deny("the user said no"), nil
}

// remember allows the host and port of a request for good.
func (d *permissionDecider) remember(ctx context.Context, r networkproxy.PolicyRequest) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := d.handle.Remember(ctx, networkproxy.Amendment{
		Action: networkproxy.AmendAllow, Pattern: net.JoinHostPort(r.Host, fmt.Sprint(r.Port)), Comment: r.Command,
	})
	if err != nil {
		slog.Warn("a host is allowed for this conversation only", "error", err)
	}
}

// Elicitor sends an elicitation/create request of the Model Context Protocol and
// returns the action and the content of its result.
type Elicitor interface {
	Elicit(ctx context.Context, message string, schema map[string]any) (action string, content map[string]any, err error)
}

// elicitApproval returns a decider that asks by elicitation.
func elicitApproval(e Elicitor) networkproxy.PolicyDecider {
	schema := map[string]any{
		"type":       "object",
		"properties": map[string]any{"remember": map[string]any{"type": "boolean", "title": "Allow it until the end of the conversation"}},
	}
	return func(ctx context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
		action, content, err := e.Elicit(ctx, fmt.Sprintf("%q wants to connect to %s port %d.", r.Command, r.Host, r.Port), schema)
		switch {
		case err != nil:
			return networkproxy.Decision{}, err
		case action == "accept" && content["remember"] == true:
			return networkproxy.Allow().ForGroup(), nil
		case action == "accept":
			return networkproxy.Allow(), nil
		case action == "decline":
			return networkproxy.Deny("the user declined"), nil
		}
		return networkproxy.Ask("the user closed the question"), nil // a retry asks again
	}
}

// Executor runs a command with an environment and returns its output.
type Executor func(ctx context.Context, argv, env []string) (output string, err error)

// underPolicy returns an Executor whose commands run in sessions of a conversation.
func underPolicy(handle *networkproxy.Handle, conversation string, execute Executor) Executor {
	return func(ctx context.Context, argv, env []string) (string, error) {
		session, err := handle.OpenSession(ctx, networkproxy.SessionConfig{
			Group:       conversation,
			Attribution: networkproxy.Attribution{Command: strings.Join(argv, " ")},
		})
		if err != nil {
			return "", err // do not run the command without the proxy
		}
		defer session.Close()
		output, err := execute(ctx, argv, session.Environ(env))
		session.Close() // cuts the connections of processes that the command left behind
		return output + session.Report(), err
	}
}

// answers is a user who gives the same answer to every question, as a permission
// service and by elicitation.
type answers struct {
	answer  string
	content map[string]any
	err     error
	asked   []string // conversations and questions
}

func (a *answers) Ask(_ context.Context, conversation, question string) (string, error) {
	a.asked = append(a.asked, conversation+": "+question)
	return a.answer, a.err
}

func (a *answers) Elicit(_ context.Context, message string, _ map[string]any) (string, map[string]any, error) {
	a.asked = append(a.asked, message)
	return a.answer, a.content, a.err
}

// TestHostMappings runs two commands of a conversation in each host, and one
// command of another conversation, and checks who is asked and what is refused.
func TestHostMappings(t *testing.T) {
	t.Parallel()
	remember := map[string]any{"remember": true}
	for _, tt := range []struct {
		name   string
		user   answers
		elicit bool
		asked  int // for three commands; 0: 2 or 3, because a no lasts two seconds
		want   networkproxy.Outcome
	}{
		{"once", answers{answer: "once"}, false, 3, networkproxy.OutcomeNothingRefused},
		{"for the conversation", answers{answer: "conversation"}, false, 2, networkproxy.OutcomeNothingRefused},
		{"always", answers{answer: "always"}, false, 1, networkproxy.OutcomeNothingRefused},
		{"never", answers{answer: "never"}, false, 2, networkproxy.OutcomeRefusedByUser},
		{"no", answers{answer: "no"}, false, 0, networkproxy.OutcomeRefusedByUser},
		{"the service fails", answers{err: context.Canceled}, false, 3, networkproxy.OutcomeRefusedByPolicy},
		{"accept", answers{answer: "accept"}, true, 3, networkproxy.OutcomeNothingRefused},
		{"accept and remember", answers{answer: "accept", content: remember}, true, 2, networkproxy.OutcomeNothingRefused},
		{"decline", answers{answer: "decline", content: remember}, true, 0, networkproxy.OutcomeRefusedByUser},
		{"cancel", answers{answer: "cancel"}, true, 3, networkproxy.OutcomeRefusedByUser},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			service := &permissionDecider{permissions: &tt.user}
			decide := networkproxy.PolicyDecider(service.decide)
			if tt.elicit {
				decide = elicitApproval(&tt.user)
			}
			l := start(t, networkproxy.DefaultConfig(), func(b *networkproxy.Builder) {
				b.PolicyDecider(decide).LearnedFile(filepath.Join(t.TempDir(), "learned.toml"))
			})
			service.handle = l.Handle
			l.dns.Set("new.example") // allowed requests fail
			for _, conversation := range []string{"one", "one", "two"} {
				execute := underPolicy(l.Handle, conversation, func(_ context.Context, argv, env []string) (string, error) {
					s := l.Sessions()[0]
					doRequest(t, clientThrough(t, environProxy(t, env)), "GET", argv[1], "")
					if got := s.Outcome(); got != tt.want || s.Group() != conversation {
						t.Errorf("got the outcome %s in the conversation %s, want %s in %s", got, s.Group(), tt.want, conversation)
					}
					return "done\n", nil
				})
				output, err := execute(t.Context(), []string{"curl", "http://new.example/"}, nil)
				refused := tt.want != networkproxy.OutcomeNothingRefused
				if err != nil || !strings.HasPrefix(output, "done\n") || strings.Contains(output, "- new.example:80: ") != refused {
					t.Errorf("got the result %q, %v", output, err)
				}
			}
			n := len(tt.user.asked)
			if tt.asked == 0 && (n == 2 || n == 3) {
				tt.asked = n
			}
			if n != tt.asked || !strings.Contains(tt.user.asked[0], `"curl http://new.example/"`) {
				t.Errorf("asked %q, want %d questions", tt.user.asked, tt.asked)
			}
		})
	}
}

// environProxy returns HTTP_PROXY of an environment.
func environProxy(t *testing.T, env []string) string {
	t.Helper()
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "HTTP_PROXY="); ok {
			return value
		}
	}
	t.Fatal("the environment has no HTTP_PROXY")
	return ""
}
