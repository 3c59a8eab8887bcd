// Errors that carry a status, and errors without the peer's data.

package http1

import (
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"net/url"
	"strings"
)

// statusError is an error of a request header that has a more specific status
// than 400.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// withoutQuotes removes quoted text from errors of net/http's parsers. They
// quote what the peer sent: URLs, cookies and values of framing fields. Errors
// of other packages are returned unchanged.
func withoutQuotes(err error) error {
	if err == nil || err == io.EOF {
		return err // every end of a body comes here, and the variables below are allocated
	}
	var inURL *url.Error
	var inHeader textproto.ProtocolError
	switch {
	case errors.As(err, &inURL):
		return errors.New("the URL in the request line cannot be parsed")
	case errors.As(err, &inHeader):
		return errors.New("the header cannot be parsed")
	}
	text, _, quotes := strings.Cut(err.Error(), "\"")
	if quotes && fromHTTPParser(err) {
		return errors.New(strings.TrimRight(text, " :"))
	}
	return err
}

// fromHTTPParser reports whether err may come from one of net/http's parsers.
// Most of them use unexported types.
func fromHTTPParser(err error) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(fmt.Sprintf("%T", err), "*"), ".")
	return name == "errors" || name == "fmt" || name == "http"
}
