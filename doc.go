// Package networkproxy decides, on the user's own machine, which network
// hosts an AI agent's commands may reach, and carries the traffic it allows.
// A Go program imports it, runs it in-process and stops it through a handle:
//
//	proxy, err := networkproxy.NewBuilder().
//		ConfigFile("config.toml").
//		PolicyDecider(func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
//			if req.Host == "docs.example.com" {
//				return networkproxy.Allow(), nil
//			}
//			return networkproxy.Deny("not needed for this task"), nil
//		}).
//		Build()
//	if err != nil {
//		return err // says which file, line and key, and what to write instead
//	}
//	handle, err := proxy.Run(ctx)
//	if err != nil {
//		return err // a port in use, say; nothing stays bound
//	}
//	defer handle.Close()
//
//	session, err := handle.OpenSession(ctx, networkproxy.Attribution{Command: "curl https://docs.example.com/"})
//	if err != nil {
//		return err
//	}
//	defer session.Close() // with all that the command still has under way
//
//	cmd := exec.CommandContext(ctx, "curl", "https://docs.example.com/")
//	cmd.Env = session.Environ(os.Environ())
//
// # What it decides
//
// Every request, by whatever protocol, passes the same checks in the same
// order: the proxy's own listeners are never a target; the denylist wins over
// every allow; local and private addresses need to be allowed by exact entry;
// then the allowlist; then, for a miss only, a grant or the decider; then the
// mode; and then, once the name has been looked up, every address that it
// has; in a tunnel, at last, TLS must ask for the name that was allowed. The
// result is one [Verdict], from which the client's answer, the log line and
// the record of refusals are all made.
//
// # Sessions
//
// A [Session] is one command's own way in. A request belongs to the session
// whose port accepted it, or whose secret token it carries in the proxy's URL,
// and never to whom its header names. On a loopback network that commands
// share, any process can find a session's port: only the token identifies a
// client there, and [SessionConfig] RequireToken demands it. The decider is told the
// session's command, what it grants holds for that session, and closing the
// session ends everything that the command has under way. [Session.Environ]
// leads the usual clients through it; [Handle.Transport] and
// [Handle.DialContext] put the host's own requests under the same policy.
//
// # Security model
//
// The client is not trusted: not its target, its headers, its framing or its
// timing. The configuration, the decider and the programs that can reach the
// admin API are. The proxy is a gate, not a fence: something else (a sandbox,
// a network namespace, a firewall rule) has to make it the only way out, or a
// command that ignores HTTP_PROXY goes round it. TLS is not opened, so what
// is allowed is a host and a port, never a path. SECURITY.md has the
// promises, one by one, each with the test that holds it.
//
// # Compatibility
//
// The package has no global state, installs no signal handler and never
// exits the process; several proxies can run in one process. Reasons,
// sources, protocols, header values and JSON keys are stable.
package networkproxy
