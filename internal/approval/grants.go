// Grants: allows of a decider that cover later requests, and their use by open
// requests.

package approval

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/share"
)

// MaxGrants limits the usable grants of all sessions together. One more grant
// displaces the one that was unused longest, of the session with the most grants.
// The decider is asked again about requests that a displaced grant would have
// covered; they are not refused.
const MaxGrants = 4096

// ErrRevoked is the cause of a context that ended because a grant was revoked.
var ErrRevoked = errors.New("the approval was revoked")

// GrantInfo is a snapshot of a grant. The root package's Grant documents the
// fields.
type GrantInfo struct {
	ID        uint64
	Host      string
	Port      uint16
	Group     string
	SessionID string
	Command   string
	UsesLeft  int
	Active    int
	Created   time.Time
	Expires   time.Time
}

// unlimited is the usesLeft of a grant without a number of uses.
const unlimited = -1

// Grant is an allow of a decider. A nil *Grant belongs to requests that needed
// none: Acquire, Revoked and WithContext then do nothing.
type Grant struct {
	coverage
	set     *Grants
	ID      uint64
	session string // ID of the session that the decider was asked about
	command string // that the decider was asked about
	revoked context.Context
	revoke  context.CancelFunc

	// shared means that requests of other sessions waited for the answer as
	// well, and may outlast the owner.
	shared bool

	// Guarded by set.mu. The grant is in set.usable and set.recent while
	// usesLeft is not 0. It is in set.all while usesLeft or active is not 0,
	// unless it has ended.
	usesLeft int // or unlimited
	active   int // uses by open requests
	ended    bool
	place    share.Item[*audit.Owner, *Grant] // in set.recent
}

// Grants is the set of grants of one proxy. A search costs one atomic load while no
// grant is usable, and otherwise grows with the number of labels of the host.
// Searches and lists remove expired grants; there are no timers. Safe for
// concurrent use.
type Grants struct {
	n atomic.Int64 // number of grants in usable

	mu     sync.Mutex
	lastID uint64
	all    map[uint64]*Grant
	usable map[coverageKey][]*Grant
	recent share.List[*audit.Owner, *Grant] // the usable grants, by last use
}

// NewGrants returns an empty set.
func NewGrants() *Grants {
	return &Grants{
		all: make(map[uint64]*Grant), usable: make(map[coverageKey][]*Grant),
		recent: share.List[*audit.Owner, *Grant]{Limit: MaxGrants},
	}
}

// issue creates a grant from a decider's allow. req is the request that the decider
// was asked about, and waiting the number of requests that wait for the answer.
// admitted is how many of them the grant allows at once; later requests can take
// the remaining uses. displaced is the grant that was removed to make room, or nil.
func (t *Grants) issue(req *Request, d Decision, waiting int, shared bool) (g *Grant, admitted int, displaced *Grant) {
	g = &Grant{coverage: newCoverage(req, d), set: t, session: req.Owner.ID, command: req.Attribution.Command, shared: shared}
	g.revoked, g.revoke = context.WithCancel(context.Background())
	admitted = waiting
	usesLeft := 0
	switch {
	case d.times > 0:
		admitted = min(waiting, d.times)
		usesLeft = d.times - admitted
	case d.lasts():
		usesLeft = unlimited
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastID++
	g.ID = t.lastID
	if usesLeft != 0 && g.owner.Context.Err() == nil {
		displaced = t.makeRoom(g.owner, g.created)
		t.add(g, usesLeft)
	}
	return g, admitted, displaced
}

// isUnlimited reports whether a new grant can allow any number of further requests.
func (g *Grant) isUnlimited() bool {
	g.set.mu.Lock()
	defer g.set.mu.Unlock()
	return g.usesLeft == unlimited
}

// makeRoom makes room for one more usable grant of owner. It returns the grant
// that it retired, or nil. Requests that this grant has let in stay open. The
// caller holds t.mu.
func (t *Grants) makeRoom(owner *audit.Owner, now time.Time) (displaced *Grant) {
	if t.recent.Victim(owner) == nil {
		return nil
	}
	t.sweep(now)
	old := t.recent.Victim(owner)
	if old == nil {
		return nil
	}
	t.retire(old.Value)
	return old.Value
}

// add adds a usable grant. The caller holds t.mu.
func (t *Grants) add(g *Grant, usesLeft int) {
	g.usesLeft = usesLeft
	t.all[g.ID] = g
	t.usable[g.key()] = append(t.usable[g.key()], g)
	g.place.Value = g
	t.recent.Push(g.owner, &g.place)
	t.n.Add(1)
}

// Use finds a grant of an owner or its group for a target and takes one use of it.
// It returns nil if there is none. Of several grants it takes that for the longest
// name, then that of the owner, then the oldest.
func (t *Grants) Use(owner *audit.Owner, target hostname.Target) *Grant {
	if t.n.Load() == 0 {
		return nil
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range keysFor(owner, target.Host) {
		g := t.find(key, target, now)
		if g == nil {
			continue
		}
		switch {
		case g.usesLeft == 1:
			t.retire(g)
		case g.usesLeft > 1:
			g.usesLeft--
		}
		t.recent.Touch(&g.place)
		return g
	}
	return nil
}

// find returns a grant for target that is indexed under key, or nil. It retires
// expired grants that it meets. The caller holds t.mu.
func (t *Grants) find(key coverageKey, target hostname.Target, now time.Time) *Grant {
	for i := 0; i < len(t.usable[key]); {
		g := t.usable[key][i]
		switch {
		case g.expired(now):
			t.retire(g) // removes it from this slice
		case g.matches(target):
			return g
		default:
			i++
		}
	}
	return nil
}

// retire makes a grant unusable. Requests that it has let in stay open. The caller
// holds t.mu.
func (t *Grants) retire(g *Grant) {
	if g.usesLeft == 0 {
		return
	}
	g.usesLeft = 0
	t.n.Add(-1)
	t.recent.Remove(&g.place)
	key := g.key()
	t.usable[key] = slices.DeleteFunc(t.usable[key], func(other *Grant) bool { return other == g })
	if len(t.usable[key]) == 0 {
		delete(t.usable, key)
	}
	t.remove(g)
}

// remove removes a grant from t.all if it has ended, or has neither uses left nor
// open requests. The caller holds t.mu.
func (t *Grants) remove(g *Grant) {
	if g.usesLeft == 0 && g.active == 0 || g.ended {
		delete(t.all, g.ID)
	}
}

// sweep retires the expired grants. The caller holds t.mu.
func (t *Grants) sweep(now time.Time) {
	for _, g := range t.all {
		if g.expired(now) {
			t.retire(g)
		}
	}
}

// end removes a grant for good, even if it has open requests. The caller holds
// t.mu.
func (t *Grants) end(g *Grant) {
	g.ended = true
	t.retire(g)
	t.remove(g)
}

// Take removes and returns a grant, which then allows no more requests. It returns
// nil if there is no such grant. Call [Grant.Revoke] to end the requests that it
// has let in.
func (t *Grants) Take(id uint64) *Grant {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(time.Now())
	g := t.all[id]
	if g != nil {
		t.end(g)
	}
	return g
}

// Drop removes the grants of an owner. A grant that requests of other sessions use
// stays until they end, but allows no more requests.
func (t *Grants) Drop(owner *audit.Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.all {
		switch {
		case g.owner != owner:
		case g.shared:
			t.retire(g)
		default:
			t.end(g)
		}
	}
}

// holds reports whether an owner has a grant that can allow further requests.
func (t *Grants) holds(owner *audit.Owner) bool {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for item := range t.recent.Of(owner) {
		if !item.Value.expired(now) {
			return true
		}
	}
	return false
}

// List returns the grants that are usable or have open requests, by ID.
func (t *Grants) List() []GrantInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(time.Now())
	list := make([]GrantInfo, 0, len(t.all))
	for _, g := range t.all {
		list = append(list, g.info())
	}
	slices.SortFunc(list, func(a, b GrantInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// info returns a snapshot of the grant. The caller holds g.set.mu.
func (g *Grant) info() GrantInfo {
	info := GrantInfo{
		ID:        g.ID,
		Host:      g.Pattern(),
		Port:      g.Target.Port,
		SessionID: g.session,
		Command:   g.command,
		UsesLeft:  g.usesLeft,
		Active:    g.active,
		Created:   g.created.Round(0),
		Expires:   g.expires.Round(0),
	}
	if g.owner.IsGroup {
		info.Group = g.owner.ID
	}
	if g.anyPort {
		info.Port = 0 // any
	}
	return info
}

// Pattern returns the hosts that the grant covers, in the syntax of allowlist
// entries.
func (g *Grant) Pattern() string {
	if g.subdomains {
		return "**." + g.Target.Host.String()
	}
	return g.Target.Host.String()
}

// Acquire increments the grant's number of open requests. Call release, once or
// more, to decrement it.
func (g *Grant) Acquire() (release func()) {
	if g == nil {
		return func() {}
	}
	g.set.mu.Lock()
	defer g.set.mu.Unlock()
	g.active++
	if !g.ended {
		g.set.all[g.ID] = g
	}
	return sync.OnceFunc(func() {
		g.set.mu.Lock()
		defer g.set.mu.Unlock()
		g.active--
		g.set.remove(g)
	})
}

// Revoke ends the contexts of WithContext, now and later. Call [Grants.Take]
// before, so that the grant allows no new request.
func (g *Grant) Revoke() { g.revoke() }

// Revoked reports whether Revoke was called: requests that the grant has let in
// must end.
func (g *Grant) Revoked() bool { return g != nil && g.revoked.Err() != nil }

// WithContext returns a context that ends when ctx ends or the grant is revoked.
// Call done when the context is no longer used.
func (g *Grant) WithContext(ctx context.Context) (_ context.Context, done func()) {
	if g == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(g.revoked, func() { cancel(ErrRevoked) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
