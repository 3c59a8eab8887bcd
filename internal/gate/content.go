// The check of a request's body, for requests that are allowed because of their kind.

package gate

import (
	"io"
	"net/http"

	"example.com/networkproxy/internal/httprule"
)

// CheckContent reads as much of the body of an allowed request as it takes to see that
// the request is of the kind that its verdict permits. It returns a body that yields
// every byte again. The error is a *[RefusedError] if the content is of another kind, or
// that of reading it.
func (g *Gate) CheckContent(req *Request, v *Ruling, header http.Header, body io.ReadCloser) (io.ReadCloser, error) {
	if v.Content == httprule.ContentAny {
		return body, nil
	}
	if body == nil {
		body = http.NoBody
	}
	source := &errorKeeper{Reader: body}
	replay, err := v.Content.Check(header, source)
	switch {
	case err == nil:
		req.checked = v.Content
		return replayedBody{replay, body}, nil
	case source.err != nil:
		return nil, source.err
	}
	return nil, NewRefusedError(req, g.Policy().JudgeContent(&req.Query, v.Verdict, err.Error()))
}

// errorKeeper keeps the error of a reader, unless it is io.EOF.
type errorKeeper struct {
	io.Reader
	err error
}

func (r *errorKeeper) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// replayedBody is a body whose beginning was read before.
type replayedBody struct {
	io.Reader
	io.Closer
}
