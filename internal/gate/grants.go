// The end of grants.

package gate

import (
	"fmt"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// Revoke returns how many connections were cut.
func (g *Gate) Revoke(id uint64) (cut int, err error) {
	grant := g.Grants.Take(id)
	if grant == nil {
		return 0, fmt.Errorf("grant %d: %w", id, ErrNoGrant)
	}
	// Requests are cut before the grant's context ends, because they would end
	// with it and not be counted, and again afterwards, because one may have
	// begun meanwhile.
	v := policy.Revoked(g.Policy().Generation)
	cut = g.Live.cutGrant(grant, v)
	grant.Revoke()
	cut += g.Live.cutGrant(grant, v)
	g.Counters.Cut.Add(uint64(cut))
	g.Log.Info("grant revoked", "grant", id, "host", grant.Pattern(), "port", grant.Target.Port, "connections_cut", cut)
	return cut, nil
}

// Drop drops what was granted and denied to a principal. Its ends must have
// ended before, so that no answer that is still to come adds to it.
func (g *Gate) Drop(from *audit.Owner) {
	g.Asker.Drop(from)
	g.Grants.Drop(from)
	g.Blocked.Release(from)
}
