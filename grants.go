// Grants: a decider's allow, for as long and as far as it said, and what it
// has let in, so that revoking it reaches what is open.

package networkproxy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/share"
)

// maxGrants bounds the grants that can let more requests through, of all
// sessions together. One more ends the grant that was unused for longest, of
// the session that has the most: what that would have covered is asked about
// anew, not refused.
const maxGrants = 4096

// errRevoked ends the context of what a grant let in.
var errRevoked = errors.New("the approval was revoked")

// grantInfo is a grant as it stood at one moment. The public Grant documents
// the fields.
type grantInfo struct {
	ID       uint64
	Host     string
	Port     uint16
	Command  string
	UsesLeft int
	Active   int
	Created  time.Time
	Expires  time.Time
}

// unlimited is the number of uses of a grant that has none.
const unlimited = -1

// grant is a decider's allow. A nil grant is that of requests that needed
// none: its methods do nothing.
type grant struct {
	of         *grants
	id         uint64
	principal  *owner
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
	place    share.Item[*owner, *grant] // in of.recent, while left is not 0
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
	recent share.List[*owner, *grant] // the usable ones
}

func newGrants() *grants {
	return &grants{
		all: make(map[uint64]*grant), usable: make(map[grantKey][]*grant),
		recent: share.List[*owner, *grant]{Limit: maxGrants},
	}
}

// grantKey is where a grant is looked for.
type grantKey struct {
	principal *owner
	host      string
}

func (g *grant) key() grantKey { return grantKey{g.principal, g.target.Host.String()} }

// issue makes a grant of a decider's allow. passes is how many of the waiting
// requests it lets through at once; the uses that are left after those are
// for requests to come. displaced is the grant that had to make room, if any.
func (t *grants) issue(from *owner, target hostname.Target, d decision, waiting int) (g *grant, passes int, displaced *grant) {
	g = &grant{
		of: t, principal: from, target: target, created: time.Now(),
		anyPort: d.AnyPort, subdomains: d.Subdomains && !target.Host.IsIP(),
	}
	g.revoked, g.revoke = context.WithCancelCause(context.Background())
	if d.For > 0 {
		g.expires = g.created.Add(d.For)
	}
	passes = waiting
	left := 0
	switch {
	case d.Times > 0:
		passes = min(waiting, d.Times)
		left = d.Times - passes
	case d.For > 0, d.ForSession:
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
func (t *grants) makeRoom(from *owner, now time.Time) (gone *grant) {
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
func (t *grants) use(from *owner, target hostname.Target) *grant {
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

func (t *grants) drop(from *owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.all {
		if g.principal == from {
			t.end(g)
		}
	}
}

func (t *grants) list() []grantInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(time.Now())
	list := make([]grantInfo, 0, len(t.all))
	for _, g := range t.all {
		list = append(list, g.info())
	}
	slices.SortFunc(list, func(a, b grantInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// info returns the grant as it stands now. of.mu is held.
func (g *grant) info() grantInfo {
	p := grantInfo{
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
