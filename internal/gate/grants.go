// Revoked grants, and grants of ended principals.

package gate

import (
	"fmt"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// Revoke ends a grant and cuts the requests that it has let in. It returns the number
// of cut requests.
func (g *Gate) Revoke(id uint64) (cut int, err error) {
	grant := g.Grants.Take(id)
	if grant == nil {
		return 0, fmt.Errorf("grant %d: %w", id, ErrNoGrant)
	}
	// Cut the requests before the grant's contexts end, because requests that
	// end with their context are not counted. Cut again afterwards, because a
	// request may have begun meanwhile.
	v := policy.Revoked(g.Policy().Generation)
	grant.PublishRevoked(&g.Events)
	cut = g.cutGrant(grant, v)
	grant.Revoke()
	cut += g.cutGrant(grant, v)
	g.Log.Info("grant revoked", "grant", id, "host", grant.Pattern(), "port", grant.Target.Port, "connections_cut", cut)
	return cut, nil
}

// Drop removes the grants and denials of an owner, and moves its refusals to the
// share of ended sessions. The owner's context must have ended before, so that a
// late answer of the decider adds no grant.
func (g *Gate) Drop(owner *audit.Owner) {
	g.Asker.Drop(owner)
	g.Grants.Drop(owner)
	g.Blocked.Release(owner)
}
