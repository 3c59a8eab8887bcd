// Placeholders of credentials in requests.

package gate

import (
	"errors"
	"net/http"

	"context"

	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/policy"
)

// Exchange returns what to change in an allowed request and in its response, because of
// the placeholders of credentials and of request rules. The error is a *[RefusedError] if
// a secret may not be sent there, or that of a secret that cannot be had.
func (g *Gate) Exchange(ctx context.Context, req *Request, v *Ruling, header http.Header) (credential.Exchange, error) {
	p := g.Policy()
	if req.HTTP == nil || g.Credentials.Empty() && (p.Inspection == nil || p.Inspection.Edits == nil) {
		return credential.Exchange{}, nil
	}
	x, err := g.exchange(ctx, p.Inspection, req, v, header)
	var misplaced *credential.NotAllowedError
	if errors.As(err, &misplaced) {
		return x, NewRefusedError(req, policy.Verdict{
			Reason: policy.ReasonCredentialNotAllowed, Source: policy.SourceBaselinePolicy, Check: policy.CheckCredential,
			Problem: misplaced.Error(), Generation: p.Generation,
		})
	}
	return x, err
}

func (g *Gate) exchange(ctx context.Context, in *policy.Inspection, req *Request, v *Ruling, header http.Header) (credential.Exchange, error) {
	var set *credential.Set
	if in != nil {
		set = in.Credentials
	}
	secure := req.Protocol == policy.ProtocolHTTPS
	x, err := g.Credentials.Exchange(ctx, set, &credential.Request{
		Secure: secure, Target: req.Target, HTTP: req.HTTP, Session: req.Principal.Credentials,
	}, header)
	if err != nil || in == nil || in.Edits == nil {
		return x, err
	}
	in.Rules.For(req.Target).Allowing(req.HTTP, v.Content, func(rule int) {
		if e := in.Edits[rule]; e != nil && err == nil {
			err = x.Apply(ctx, e, secure)
		}
	})
	return x, err
}
