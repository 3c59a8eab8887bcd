// Package networkproxy decides, on the user's own machine, which network
// hosts an AI agent's commands may reach, and relays the traffic it allows.
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
//		return err // names the file, line and key, and what to write instead
//	}
//	handle, err := proxy.Run(ctx)
//	if err != nil {
//		return err // for example a port in use; no listener stays open
//	}
//	defer handle.Close()
//
//	session, err := handle.OpenSession(ctx, networkproxy.SessionConfig{
//		Attribution: networkproxy.Attribution{Command: "curl https://docs.example.com/"},
//	})
//	if err != nil {
//		return err
//	}
//	defer session.Close() // cuts the command's open connections
//
//	cmd := exec.CommandContext(ctx, "curl", "https://docs.example.com/")
//	cmd.Env = session.Environ(os.Environ())
//
// # What it decides
//
// Every request passes the same checks in the same order, whatever its
// protocol:
//
//  1. The proxy's own listeners are never a target.
//  2. The denylist wins over every allow.
//  3. A local or private address needs an entry without a wildcard, unless
//     allow_local_binding is on.
//  4. The allowlist must have an entry for the host. If it has none, a grant
//     or the decider may allow the host instead. They decide nothing else.
//  5. The mode must permit the request.
//  6. Every address that the name resolves to is judged.
//  7. In a tunnel, TLS must ask for the name that was allowed.
//
// The result is one [Verdict]. The response to the client, the log line and
// the record of refusals are all made from it.
//
// # Sessions
//
// A [Session] is the access of one command to the proxy. A request belongs to
// the session whose port accepted it, or whose secret token it carries in the
// proxy's URL. What its headers claim does not matter. On a loopback network
// that commands share, any process can find a session's port. Only the token
// identifies a client there, and [SessionConfig] RequireToken demands it.
//
// The decider gets the session's command, and its grants hold for that
// session. Closing the session cuts all of the command's connections.
// [Session.Environ] makes the usual clients use the session.
// [Handle.Transport] and [Handle.DialContext] put the host's own requests under
// the same policy.
//
// # Security model
//
// The proxy does not trust the client: not its target, its header fields, its
// framing or its timing. It trusts the configuration, the decider and the
// programs that can reach the admin API.
//
// The proxy is a gate, not a fence. A command that ignores HTTP_PROXY bypasses
// it, unless something else makes it the only way out: a sandbox, a network
// namespace, a firewall rule. The proxy does not decrypt TLS, so for HTTPS it
// allows a host and a port, never a path. SECURITY.md lists the promises, each
// with the tests that check it.
//
// # Compatibility
//
// The package has no global state, installs no signal handler and never
// exits the process. Several proxies can run in one process. Reasons,
// sources, protocols, header values and JSON keys are stable.
package networkproxy
