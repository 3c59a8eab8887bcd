// Grants: a decider's allow, for as long and as far as it said, and what it
// has let in, so that revoking it reaches what is open.

package networkproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/share"
)

// maxGrants bounds the grants that can let more requests through, of all
// sessions together. One more ends the grant that was unused for longest, of
// the session that has the most: what that would have covered is asked about
// anew, not refused.
const maxGrants = 4096

// errRevoked ends the context of what a grant let in.
var errRevoked = errors.New("the approval was revoked")

// Grant is a decider's allow while it lasts, as it stood when it was listed.
type Grant struct {
	ID      uint64 `json:"id"`      // unique in this proxy, growing with time
	Host    string `json:"host"`    // a pattern as in a list: "example.com", or "**.example.com" for it and all below
	Port    uint16 `json:"port"`    // 0: every port
	Command string `json:"command"` // the session's; empty for the shared listeners

	UsesLeft int       `json:"uses_left"` // requests that may still pass; -1: any number
	Active   int       `json:"active"`    // tunnels and requests under way that it let in
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"` // zero: with the session, or the proxy
}

// Grants returns the grants that can let more requests through or have let in
// something that is still under way, oldest first. Those that are used up or
// over, and done with, are gone; so are those of sessions that were closed.
func (h *Handle) Grants() []Grant { return h.enforcer.grants.list() }

// Revoke ends a grant and cuts the tunnels and connections that it opened,
// before it returns. What it would have covered is asked about again. The
// error is [ErrNoGrant] for an ID that Grants would not list now.
func (h *Handle) Revoke(id uint64) error {
	_, err := h.revoke(id)
	return err
}

// revoke is Revoke that also returns how many connections were cut.
func (h *Handle) revoke(id uint64) (cut int, err error) { return h.enforcer.revoke(id) }

// revoke returns how many connections were cut.
func (e *enforcer) revoke(id uint64) (cut int, err error) {
	g := e.grants.take(id)
	if g == nil {
		return 0, fmt.Errorf("grant %d: %w", id, ErrNoGrant)
	}
	// Requests are cut before the grant's context ends, because they would end
	// with it and not be counted, and again afterwards, because one may have
	// begun meanwhile.
	v := policy.Revoked(e.current.Load().Generation)
	cut = e.live.cutGrant(g, v)
	g.revoke(errRevoked)
	cut += e.live.cutGrant(g, v)
	e.count.cut.Add(uint64(cut))
	e.log.Info("grant revoked", "grant", id, "host", g.pattern(), "port", g.target.Port, "connections_cut", cut)
	return cut, nil
}

// drop drops what was granted and denied to a principal. Its ends must have
// ended before, so that no answer that is still to come adds to it.
func (e *enforcer) drop(from *principal) {
	e.asker.drop(from)
	e.grants.drop(from)
	e.blocked.drop(from)
}

// unlimited is the number of uses of a grant that has none.
const unlimited = -1

// grant is a decider's allow. A nil grant is that of requests that needed
// none: its methods do nothing.
type grant struct {
	of         *grants
	id         uint64
	principal  *principal
	target     hostname.Target // as it was asked about
	anyPort    bool
	subdomains bool
	created    time.Time
	expires    time.Time // zero: with the principal
	revoked    context.Context
	revoke     context.CancelCauseFunc

	// Guarded by of.mu.
	usesLeft int // uses, or unlimited; while it is not 0 the grant is among of.usable
	active   int // what is under way; while either is not 0, among of.all
	ended    bool
	place    share.Item[*principal, *grant] // in of.recent, while left is not 0
}

// grants are those of one proxy. Looking for one costs a single atomic load
// as long as there are none, and else grows with the labels of the host. What
// has expired is found out when it is met: no timer waits for it. Safe for
// concurrent use.
type grants struct {
	n atomic.Int64 // how many are in usable

	mu     sync.Mutex
	last   uint64
	all    map[uint64]*grant
	usable map[grantKey][]*grant
	recent share.List[*principal, *grant] // the usable ones
}

func newGrants() *grants {
	return &grants{
		all: make(map[uint64]*grant), usable: make(map[grantKey][]*grant),
		recent: share.List[*principal, *grant]{Limit: maxGrants},
	}
}

// grantKey is where a grant is looked for.
type grantKey struct {
	principal *principal
	host      string
}

func (g *grant) key() grantKey { return grantKey{g.principal, g.target.Host.String()} }

// issue makes a grant of a decider's allow. passes is how many of the waiting
// requests it lets through at once; the uses that are left after those are
// for requests to come. displaced is the grant that had to make room, if any.
func (t *grants) issue(from *principal, target hostname.Target, d Decision, waiting int) (g *grant, passes int, displaced *grant) {
	g = &grant{
		of: t, principal: from, target: target, created: time.Now(),
		anyPort: d.anyPort, subdomains: d.subdomains && !target.Host.IsIP(),
	}
	g.revoked, g.revoke = context.WithCancelCause(context.Background())
	if d.lasting > 0 {
		g.expires = g.created.Add(d.lasting)
	}
	passes = waiting
	left := 0
	switch {
	case d.times > 0:
		passes = min(waiting, d.times)
		left = d.times - passes
	case d.lasting > 0, d.session:
		left = unlimited
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	g.id = t.last
	if left != 0 && from.ctx.Err() == nil {
		displaced = t.makeRoom(from, g.created)
		t.add(g, left)
	}
	return g, passes, displaced
}

// makeRoom makes sure that one more usable grant fits in, and returns the one
// that had to go, if any. What it let in stays open. t.mu is held.
func (t *grants) makeRoom(from *principal, now time.Time) (gone *grant) {
	if t.recent.Victim(from) == nil {
		return nil
	}
	t.sweep(now)
	old := t.recent.Victim(from)
	if old == nil {
		return nil
	}
	t.retire(old.Value)
	return old.Value
}

// add lists a grant as usable. t.mu is held.
func (t *grants) add(g *grant, left int) {
	g.usesLeft = left
	t.all[g.id] = g
	t.usable[g.key()] = append(t.usable[g.key()], g)
	g.place.Value = g
	t.recent.Push(g.principal, &g.place)
	t.n.Add(1)
}

// use finds a grant for a target and takes one use of it; nil when there is
// none. Among several the narrowest name comes first, then the oldest.
func (t *grants) use(from *principal, target hostname.Target) *grant {
	if t.n.Load() == 0 {
		return nil
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	host, name := target.Host.String(), target.Host.Name()
	for {
		if g := t.find(grantKey{from, host}, target, now); g != nil {
			switch {
			case g.usesLeft == 1:
				t.retire(g)
			case g.usesLeft > 1:
				g.usesLeft--
			}
			t.recent.Touch(&g.place)
			return g
		}
		var below bool
		if _, name, below = strings.Cut(name, "."); !below {
			return nil
		}
		host = name
	}
}

// find looks in one place, and retires what has expired there. t.mu is held.
func (t *grants) find(key grantKey, target hostname.Target, now time.Time) *grant {
	for i := 0; i < len(t.usable[key]); {
		g := t.usable[key][i]
		switch {
		case g.expired(now):
			t.retire(g) // which takes it out of the list
		case g.matches(target):
			return g
		default:
			i++
		}
	}
	return nil
}

// matches reports whether a target that is found under the grant's name, or
// under that of a domain above it, is the grant's to let through.
func (g *grant) matches(target hostname.Target) bool {
	return (g.anyPort || g.target.Port == target.Port) && (g.subdomains || g.target.Host == target.Host)
}

// retire lets a grant do no more. t.mu is held.
func (t *grants) retire(g *grant) {
	if g.usesLeft == 0 {
		return
	}
	g.usesLeft = 0
	t.n.Add(-1)
	t.recent.Remove(&g.place)
	key := g.key()
	t.usable[key] = slices.DeleteFunc(t.usable[key], func(other *grant) bool { return other == g })
	if len(t.usable[key]) == 0 {
		delete(t.usable, key)
	}
	t.remove(g)
}

// remove drops a grant that can do no more and has nothing under way. t.mu is
// held.
func (t *grants) remove(g *grant) {
	if g.usesLeft == 0 && g.active == 0 || g.ended {
		delete(t.all, g.id)
	}
}

// sweep retires what has expired. t.mu is held.
func (t *grants) sweep(now time.Time) {
	for _, g := range t.all {
		if g.expired(now) {
			t.retire(g)
		}
	}
}

// expired reports whether a grant's time has passed. Both clocks count: the
// monotonic one may stand still while the machine sleeps, and the wall clock
// may be set back.
func (g *grant) expired(now time.Time) bool {
	return !g.expires.IsZero() && (!now.Before(g.expires) || !now.Round(0).Before(g.expires.Round(0)))
}

// end takes a grant out for good. t.mu is held.
func (t *grants) end(g *grant) {
	g.ended = true
	t.retire(g)
	t.remove(g)
}

// take takes a grant out of the list, so that it lets nothing more through.
// It returns nil if there is no such grant. The caller ends the grant's
// context, without t.mu.
func (t *grants) take(id uint64) *grant {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(time.Now())
	g := t.all[id]
	if g != nil {
		t.end(g)
	}
	return g
}

func (t *grants) drop(from *principal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.all {
		if g.principal == from {
			t.end(g)
		}
	}
}

func (t *grants) list() []Grant {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(time.Now())
	list := make([]Grant, 0, len(t.all))
	for _, g := range t.all {
		list = append(list, g.public())
	}
	slices.SortFunc(list, func(a, b Grant) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// public is the grant as a host sees it. of.mu is held.
func (g *grant) public() Grant {
	p := Grant{
		ID:       g.id,
		Host:     g.pattern(),
		Port:     g.target.Port,
		Command:  g.principal.attribution.Command,
		UsesLeft: g.usesLeft,
		Active:   g.active,
		Created:  g.created.Round(0),
		Expires:  g.expires.Round(0),
	}
	if g.anyPort {
		p.Port = 0
	}
	return p
}

func (g *grant) pattern() string {
	if g.subdomains {
		return "**." + g.target.Host.String()
	}
	return g.target.Host.String()
}

// acquire counts something among what a grant has under way, until done is
// called. done may be called more than once.
func (g *grant) acquire() (done func()) {
	if g == nil {
		return func() {}
	}
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	g.active++
	if !g.ended {
		g.of.all[g.id] = g
	}
	return sync.OnceFunc(func() {
		g.of.mu.Lock()
		defer g.of.mu.Unlock()
		g.active--
		g.of.remove(g)
	})
}

// wasRevoked reports whether what a grant let in has to end.
func (g *grant) wasRevoked() bool { return g != nil && g.revoked.Err() != nil }

// withContext returns a context that ends when the grant is revoked. done must be
// called when it is no longer used.
func (g *grant) withContext(ctx context.Context) (_ context.Context, done func()) {
	if g == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.revoked, func() { cancel(errRevoked) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
