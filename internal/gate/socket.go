// Requests to Unix sockets: a refusal after the decision, and the log attribute.

package gate

import (
	"errors"
	"log/slog"

	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/unixsock"
)

// socketRefusal returns a refusal in place of err if the socket is not the one
// that was allowed, and err otherwise. v is the verdict that allowed it.
func socketRefusal(req *Request, v *policy.Verdict, err error) error {
	if !errors.Is(err, unixsock.ErrChanged) {
		return err
	}
	return NewRefusedError(req, policy.Verdict{
		Reason: policy.ReasonNotAllowed, Source: policy.SourceBaselinePolicy, Entry: v.Entry, Generation: v.Generation, Check: policy.CheckUnixSocket,
	})
}

// logger returns log, with the attribute unix_socket if the target is a Unix socket.
func (r *Request) logger(log *slog.Logger) *slog.Logger {
	if !r.Socket.IsZero() {
		log = log.With("unix_socket", r.Socket.Asked)
	}
	return log
}
