package http1

import (
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"net/url"
	"strings"
)

// statusError is what is wrong with a head, where a status says more than 400.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// withoutQuotes returns an error of net/http's parsers without what it quotes,
// which is whatever the peer wrote: URLs, cookies and the values of framing
// fields. Errors of other packages are returned as they are.
func withoutQuotes(err error) error {
	if err == nil || err == io.EOF {
		return err // the end of every content comes here; the variables below cost memory
	}
	var inURL *url.Error
	var inHeader textproto.ProtocolError
	switch {
	case errors.As(err, &inURL):
		return errors.New("the URL in the request line cannot be parsed")
	case errors.As(err, &inHeader):
		return errors.New("the header cannot be parsed")
	}
	what, _, quotes := strings.Cut(err.Error(), "\"")
	if quotes && fromHTTPParser(err) {
		return errors.New(strings.TrimRight(what, " :"))
	}
	return err
}

// fromHTTPParser reports whether err may come from one of net/http's parsers, most
// of which use types that are not exported.
func fromHTTPParser(err error) bool {
	of, _, _ := strings.Cut(strings.TrimLeft(fmt.Sprintf("%T", err), "*"), ".")
	return of == "errors" || of == "fmt" || of == "http"
}
