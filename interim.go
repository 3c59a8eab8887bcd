// Interim answers (RFC 9110 section 15.2), on their way from the origin to the
// client.

package networkproxy

import (
	"maps"
	"net/http"
)

// relayInterim passes an interim answer on to the client of a round trip.
func relayInterim(status int, interim http.Header, hint any) {
	client := hint.(*carriage).client
	removeHopByHop(interim)
	interim.Del(errorHeader)
	header := client.Header()
	maps.Copy(header, interim)
	client.WriteHeader(status)
	clear(header)
}
