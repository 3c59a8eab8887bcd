// Interim responses (RFC 9110 section 15.2), on their way from the origin to
// the client.

package networkproxy

import "example.com/networkproxy/internal/http1"

// relayInformational passes an interim response on to the client of a round trip.
func relayInformational(r *http1.Response, hint any) {
	relay := hint.(*dialInfo).client.(http1.Relayer)
	fields := answerFields(r.Fields[:0], r.Fields, namedByConnection(r.Fields))
	relay.RelayInformational(r.Status, r.Reason, fields)
}
