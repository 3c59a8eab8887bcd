// Interim answers (RFC 9110 section 15.2), on their way from the origin to the
// client.

package networkproxy

import (
	"maps"
	"net/http"
	"net/textproto"
)

// interimRelay passes interim answers on. The transport calls it on the
// goroutine of the round trip.
type interimRelay struct {
	w http.ResponseWriter
}

func (i *interimRelay) relay(code int, header textproto.MIMEHeader) error {
	interim := http.Header(header)
	removeHopByHop(interim)
	interim.Del(errorHeader)
	h := i.w.Header()
	maps.Copy(h, interim)
	i.w.WriteHeader(code)
	clear(h)
	return nil
}
