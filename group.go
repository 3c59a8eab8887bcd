// The open sessions and their groups, and the grants of both.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
)

// errGroupClosed is the cause for ending the sessions of a closed group.
var errGroupClosed = errors.New("the group of the session is closed")

// group is the state that the sessions of one [SessionConfig.Group] share.
type group struct {
	owner  audit.Owner // of grants and denials for the group; its context ends with the group
	cancel context.CancelCauseFunc
	open   sync.WaitGroup // sessions that have not ended, including those that are being opened
	closed chan struct{}  // closed when CloseGroup has ended the group
	rules  groupRules

	sessions int // the number of open; guarded by groups.mu
}

// groups has the groups of a proxy. A group without sessions stays while something
// is remembered for it. Safe for concurrent use.
type groups struct {
	gate   *gate.Gate
	parent context.Context // of the groups' contexts

	mu      sync.Mutex
	byName  map[string]*group
	closing map[*group]struct{} // being ended by CloseGroup
	sweepAt int                 // number of groups at which those without use are removed
}

// minSweep is the smallest number of groups that join sweeps.
const minSweep = 64

func newGroups(parent context.Context, g *gate.Gate) *groups {
	return &groups{gate: g, parent: parent, byName: make(map[string]*group), closing: make(map[*group]struct{}), sweepAt: minSweep}
}

// join adds a session to the named group, and returns the group. The caller calls
// leave when the session ends, and then open.Done. If name is empty, join returns nil.
func (t *groups) join(name string) *group {
	if name == "" {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.named(name)
	g.sessions++
	g.open.Add(1)
	return g
}

// named returns the named group, and makes it if there is none. The caller holds
// t.mu.
func (t *groups) named(name string) *group {
	g := t.byName[name]
	if g == nil {
		if len(t.byName) >= t.sweepAt {
			t.sweep()
		}
		g = &group{owner: audit.Owner{ID: name, IsGroup: true}, closed: make(chan struct{}), rules: newGroupRules()}
		g.owner.Context, g.cancel = context.WithCancelCause(t.parent)
		t.byName[name] = g
	}
	return g
}

// allow adds entries to the rules of the named group, and makes it if there is none.
func (t *groups) allow(name string, entries runtimeList) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.named(name).rules.allow(entries)
}

// sharedRules returns the rules of g, or nil if g is nil.
func (g *group) sharedRules() *groupRules {
	if g == nil {
		return nil
	}
	return &g.rules
}

// leave removes an ended session with its rules from its group, and the group if
// nothing is left in it.
func (t *groups) leave(g *group, r *sessionRules) {
	if g == nil {
		return
	}
	g.rules.detach(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	g.sessions--
	t.removeUnused(g)
}

// sweep removes the groups without use. Their number doubles between two sweeps, so
// that opening a session stays cheap. The caller holds t.mu.
func (t *groups) sweep() {
	for _, g := range t.byName {
		t.removeUnused(g)
	}
	t.sweepAt = max(minSweep, 2*len(t.byName))
}

// removeUnused removes a group that has neither sessions nor anything remembered.
// The caller holds t.mu.
func (t *groups) removeUnused(g *group) {
	if g.sessions == 0 && t.byName[g.owner.ID] == g && g.rules.empty() && !t.gate.Asker.Remembers(&g.owner) {
		delete(t.byName, g.owner.ID)
		g.cancel(errGroupClosed)
		t.gate.Drop(&g.owner) // its expired grants and denials
	}
}

// abandon is leave and open.Done for a session that could not be opened.
func (t *groups) abandon(g *group, r *sessionRules) {
	if g != nil {
		t.leave(g, r)
		g.open.Done()
	}
}

// close ends the named group, and waits until everything in it has ended.
func (t *groups) close(name string) {
	t.mu.Lock()
	var waits []*group
	for g := range t.closing { // by other calls
		if g.owner.ID == name {
			waits = append(waits, g)
		}
	}
	g := t.byName[name]
	if g != nil {
		delete(t.byName, name)
		t.closing[g] = struct{}{}
	}
	t.mu.Unlock()

	if g != nil {
		g.cancel(errGroupClosed) // ends its sessions and questions
		t.gate.Drop(&g.owner)
		g.open.Wait()
		t.mu.Lock()
		delete(t.closing, g)
		t.mu.Unlock()
		close(g.closed)
	}
	for _, g := range waits {
		<-g.closed
	}
}

// drop removes the grants and denials of all groups. Their contexts must have ended.
func (t *groups) drop() {
	t.mu.Lock()
	var all []*group
	for _, g := range t.byName {
		all = append(all, g)
	}
	clear(t.byName)
	t.mu.Unlock()
	for _, g := range all {
		t.gate.Drop(&g.owner)
	}
}

// CloseGroup ends the named group, see [SessionConfig.Group]: it closes the group's
// sessions and cuts their connections, cancels its questions to the decider,
// and ends its grants and remembered denials. When CloseGroup returns, nothing of
// the group is left. A session that is opened with the name later is the first of
// a new group.
//
// A name that no group has is no error, because a group without sessions is
// forgotten when nothing is remembered for it. CloseGroup may be called from every
// callback.
func (h *Handle) CloseGroup(name string) error {
	if name == "" {
		return errors.New("CloseGroup: the name of the group is empty")
	}
	h.groups.close(name)
	return nil
}

// AllowGroup is [Session.Allow] for the open and future sessions of a group, until
// [Handle.CloseGroup] or the end of the proxy. It may be called before a session
// names the group.
func (h *Handle) AllowGroup(group string, patterns ...string) error {
	if group == "" {
		return errors.New("AllowGroup: the name of the group is empty")
	}
	limits, err := h.active.limits()
	if err != nil {
		return err
	}
	entries, err := parseAllowedEntries(patterns, limits)
	if err != nil {
		return fmt.Errorf("group %q: %w", group, err)
	}
	if len(entries.entries) > 0 {
		h.groups.allow(group, entries)
		for _, pattern := range entries.entries {
			h.gate.PublishRule(nil, DecisionAllow, pattern, fmt.Sprintf("allowed for the group %q", group))
		}
		h.log.Info("group rules changed", "group", group, "allowed", entries.entries)
	}
	return nil
}

// Group returns the [SessionConfig.Group] of the session, or "" if it has none.
func (s *Session) Group() string { return s.principal.GroupName() }

// Grant is a remembered Allow of the decider, as it was when [Handle.Grants] was
// called.
type Grant struct {
	ID    uint64 `json:"id"`              // unique in this proxy; later grants have higher ones
	Host  string `json:"host"`            // a pattern as in a list: "example.com", or "**.example.com" for it and all below
	Port  uint16 `json:"port"`            // 0: every port
	Group string `json:"group,omitempty"` // the group that it is for; empty if it is for one session

	// SessionID and Command are those that the decider was asked about. They are
	// empty for the shared listeners. The session of a grant for a group may have
	// ended.
	SessionID string `json:"session,omitempty"`
	Command   string `json:"command"`

	UsesLeft int       `json:"uses_left"` // further requests that it allows; -1: any number
	Active   int       `json:"active"`    // open requests and tunnels that it allowed
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"` // zero: when the session, the group or the proxy ends
}

// Grants returns the grants that can allow further requests or have open requests
// and tunnels, oldest first. It returns a grant of a closed session only while open
// requests of other sessions use it, and no grants of a closed group.
func (h *Handle) Grants() []Grant {
	list := h.gate.Grants.List()
	grants := make([]Grant, len(list))
	for i, g := range list {
		grants[i] = Grant(g)
	}
	return grants
}

// Revoke ends a grant. When it returns, the tunnels and connections that the grant
// allowed are cut. The decider is asked again about further requests. The error
// is [ErrNoGrant] if Grants does not list the ID.
func (h *Handle) Revoke(id uint64) error {
	_, err := h.revoke(id)
	return err
}

// revoke is Revoke that also returns how many connections were cut.
func (h *Handle) revoke(id uint64) (cut int, err error) { return h.gate.Revoke(id) }

func newSessions(requireToken bool) *sessions {
	return &sessions{tokens: gate.Tokens{Required: requireToken}, open: make(map[*Session]struct{})}
}

// sessions has the open sessions of a proxy. Safe for concurrent use.
type sessions struct {
	tokens  gate.Tokens
	running sync.WaitGroup // sessions that have not ended

	mu     sync.Mutex
	open   map[*Session]struct{}
	last   int  // number of the last session
	closed bool // add refuses
}

// add adds a session and starts to serve it. After refuse, it returns ErrClosed.
func (t *sessions) add(s *Session) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	t.last++
	s.id = "s" + strconv.Itoa(t.last)
	s.principal.ID = s.id
	s.handle.gate.SessionOpened(s.principal)
	t.running.Add(1)
	t.open[s] = struct{}{}
	t.tokens.Add(s.token, s.principal)
	for _, l := range s.listeners {
		// The failure of a session's listener ends only the session.
		s.handle.serving.Go(func() error { s.serve(l); return nil })
	}
	return nil
}

func (t *sessions) remove(s *Session) {
	t.tokens.Remove(s.token)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, s)
}

func (t *sessions) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// refuse makes add fail, and closes the listeners of the open sessions.
func (t *sessions) refuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for s := range t.open {
		for _, l := range s.listeners {
			l.Close()
		}
	}
}

// wait waits until all sessions have ended. Their contexts must have ended.
func (t *sessions) wait() { t.running.Wait() }

// sessionFences are the started fences of a session. Safe for concurrent use.
type sessionFences struct {
	mu     sync.Mutex
	open   map[*Fence]FenceLevel // empty while the command is being started
	closed bool
}

// add adds a fence. It returns false if the session has ended.
func (t *sessionFences) add(f *Fence) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.open == nil {
		t.open = make(map[*Fence]FenceLevel)
	}
	t.open[f] = ""
	return true
}

// running sets the level of a fence whose command runs.
func (t *sessionFences) running(f *Fence, level FenceLevel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.open[f]; open {
		t.open[f] = level
	}
}

// count adds the fences whose command runs to the numbers of their levels.
func (t *sessionFences) count(levels map[FenceLevel]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, level := range t.open {
		if level != "" {
			levels[level]++
		}
	}
}

func (t *sessionFences) remove(f *Fence) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, f)
}

// close closes the fences and refuses later ones.
func (t *sessionFences) close() {
	t.mu.Lock()
	t.closed = true
	open := slices.Collect(maps.Keys(t.open))
	t.mu.Unlock()
	for _, f := range open {
		f.Close()
	}
}
