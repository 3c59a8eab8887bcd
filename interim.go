// Interim answers (RFC 9110 section 15.2), on their way from the origin to the
// client.

package networkproxy

import (
	"context"
	"maps"
	"net/http"
)

// relayInterim passes an interim answer on to the client of a round trip.
func relayInterim(ctx context.Context, status int, interim http.Header) {
	client := carriageOf(ctx).client
	removeHopByHop(interim)
	interim.Del(errorHeader)
	header := client.Header()
	maps.Copy(header, interim)
	client.WriteHeader(status)
	clear(header)
}
