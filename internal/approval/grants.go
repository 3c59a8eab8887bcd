// Grants: a decider's allow, for as long and as far as it said, and what it
// has let in, so that revoking it reaches what is open.

package approval

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/share"
)

// MaxGrants bounds the grants that can let more requests through, of all
// sessions together. One more ends the grant that was unused for longest, of
// the session that has the most: what that would have covered is asked about
// anew, not refused.
const MaxGrants = 4096

// ErrRevoked ends the context of what a grant let in.
var ErrRevoked = errors.New("the approval was revoked")

// GrantInfo is a grant as it stood at one moment. The public Grant documents
// the fields.
type GrantInfo struct {
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

// Grant is a decider's allow. A nil grant is that of requests that needed
// none: its methods do nothing.
type Grant struct {
	of         *Grants
	ID         uint64
	principal  *audit.Owner
	Target     hostname.Target // as it was asked about
	anyPort    bool
	subdomains bool
	created    time.Time
	expires    time.Time // zero: with the principal
	revoked    context.Context
	revoke     context.CancelFunc

	// Guarded by of.mu.
	usesLeft int // uses, or unlimited; while it is not 0 the grant is among of.usable
	active   int // what is under way; while either is not 0, among of.all
	ended    bool
	place    share.Item[*audit.Owner, *Grant] // in of.recent, while left is not 0
}

// Grants are those of one proxy. Looking for one costs a single atomic load
// as long as there are none, and else grows with the labels of the host. What
// has expired is found out when it is met: no timer waits for it. Safe for
// concurrent use.
type Grants struct {
	n atomic.Int64 // how many are in usable

	mu     sync.Mutex
	last   uint64
	all    map[uint64]*Grant
	usable map[grantKey][]*Grant
	recent share.List[*audit.Owner, *Grant] // the usable ones
}

func NewGrants() *Grants {
	return &Grants{
		all: make(map[uint64]*Grant), usable: make(map[grantKey][]*Grant),
		recent: share.List[*audit.Owner, *Grant]{Limit: MaxGrants},
	}
}

// grantKey is where a grant is looked for.
type grantKey struct {
	principal *audit.Owner
	host      string
}

func (g *Grant) key() grantKey { return grantKey{g.principal, g.Target.Host.String()} }

// issue makes a grant of a decider's allow. passes is how many of the waiting
// requests it lets through at once; the uses that are left after those are
// for requests to come. displaced is the grant that had to make room, if any.
func (t *Grants) issue(from *audit.Owner, target hostname.Target, d Decision, waiting int) (g *Grant, passes int, displaced *Grant) {
	g = &Grant{
		of: t, principal: from, Target: target, created: time.Now(),
		anyPort: d.anyPort, subdomains: d.subdomains && !target.Host.IsIP(),
	}
	g.revoked, g.revoke = context.WithCancel(context.Background())
	if d.duration > 0 {
		g.expires = g.created.Add(d.duration)
	}
	passes = waiting
	left := 0
	switch {
	case d.times > 0:
		passes = min(waiting, d.times)
		left = d.times - passes
	case d.duration > 0, d.session:
		left = unlimited
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	g.ID = t.last
	if left != 0 && from.Context.Err() == nil {
		displaced = t.makeRoom(from, g.created)
		t.add(g, left)
	}
	return g, passes, displaced
}

// makeRoom makes sure that one more usable grant fits in, and returns the one
// that had to go, if any. What it let in stays open. t.mu is held.
func (t *Grants) makeRoom(from *audit.Owner, now time.Time) (gone *Grant) {
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
func (t *Grants) add(g *Grant, left int) {
	g.usesLeft = left
	t.all[g.ID] = g
	t.usable[g.key()] = append(t.usable[g.key()], g)
	g.place.Value = g
	t.recent.Push(g.principal, &g.place)
	t.n.Add(1)
}

// Use finds a grant for a target and takes one use of it; nil when there is
// none. Among several the narrowest name comes first, then the oldest.
func (t *Grants) Use(from *audit.Owner, target hostname.Target) *Grant {
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
func (t *Grants) find(key grantKey, target hostname.Target, now time.Time) *Grant {
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
func (g *Grant) matches(target hostname.Target) bool {
	return (g.anyPort || g.Target.Port == target.Port) && (g.subdomains || g.Target.Host == target.Host)
}

// retire lets a grant do no more. t.mu is held.
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

// remove drops a grant that can do no more and has nothing under way. t.mu is
// held.
func (t *Grants) remove(g *Grant) {
	if g.usesLeft == 0 && g.active == 0 || g.ended {
		delete(t.all, g.ID)
	}
}

// sweep retires what has expired. t.mu is held.
func (t *Grants) sweep(now time.Time) {
	for _, g := range t.all {
		if g.expired(now) {
			t.retire(g)
		}
	}
}

// expired reports whether a grant's time has passed. Both clocks count: the
// monotonic one may stand still while the machine sleeps, and the wall clock
// may be set back.
func (g *Grant) expired(now time.Time) bool {
	return !g.expires.IsZero() && (!now.Before(g.expires) || !now.Round(0).Before(g.expires.Round(0)))
}

// end takes a grant out for good. t.mu is held.
func (t *Grants) end(g *Grant) {
	g.ended = true
	t.retire(g)
	t.remove(g)
}

// Take takes a grant out of the list, so that it lets nothing more through.
// It returns nil if there is no such grant. The caller ends the grant's
// context, without t.mu.
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

func (t *Grants) Drop(from *audit.Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.all {
		if g.principal == from {
			t.end(g)
		}
	}
}

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

// info returns the grant as it stands now. of.mu is held.
func (g *Grant) info() GrantInfo {
	p := GrantInfo{
		ID:       g.ID,
		Host:     g.Pattern(),
		Port:     g.Target.Port,
		Command:  g.principal.Attribution.Command,
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

func (g *Grant) Pattern() string {
	if g.subdomains {
		return "**." + g.Target.Host.String()
	}
	return g.Target.Host.String()
}

// Acquire counts something among what a grant has under way, until done is
// called. done may be called more than once.
func (g *Grant) Acquire() (done func()) {
	if g == nil {
		return func() {}
	}
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	g.active++
	if !g.ended {
		g.of.all[g.ID] = g
	}
	return sync.OnceFunc(func() {
		g.of.mu.Lock()
		defer g.of.mu.Unlock()
		g.active--
		g.of.remove(g)
	})
}

// Revoke ends the contexts of WithContext. Take the grant out of Grants before.
func (g *Grant) Revoke() { g.revoke() }

// Revoked reports whether what a grant let in has to end.
func (g *Grant) Revoked() bool { return g != nil && g.revoked.Err() != nil }

// WithContext returns a context that ends when the grant is revoked. done must be
// called when it is no longer used.
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
