// Denials that a decider gave recently, and denials that last.

package approval

import (
	"slices"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/share"
)

const (
	// DenialTTL is how long a denial without a duration of its own is remembered. It
	// outlasts automatic retries, which are about a second apart, and ends soon
	// enough for a user who has changed their mind.
	DenialTTL = 2 * time.Second

	// MaxDenials limits the remembered denials, because a client may try names
	// faster than denials expire. Those that last have a limit of the same size.
	MaxDenials = 1024
)

// denial is a Deny that is remembered for retries.
type denial struct {
	decision   Decision
	generation uint64 // of the policy in force when it was given
	until      time.Time
}

// denials holds the newest denials, at most MaxDenials, shared fairly among the
// owners. The zero value is empty. Asker.mu guards it.
type denials struct {
	byKey map[questionKey]*listedDenial
	list  share.List[*audit.Owner, questionKey]
}

// listedDenial is a denial with its place in the list.
type listedDenial struct {
	denial
	place share.Item[*audit.Owner, questionKey]
}

// get returns the remembered denial for a key under a policy, if there is one.
func (d *denials) get(key questionKey, generation uint64) (Decision, bool) {
	n := d.byKey[key]
	if n == nil || n.generation != generation || !time.Now().Before(n.until) {
		return Decision{}, false
	}
	return n.decision, true
}

// add remembers a denial. It removes the expired denials of the same owner, and one
// more if there are too many.
func (d *denials) add(key questionKey, n denial) {
	if d.byKey == nil {
		d.byKey = make(map[questionKey]*listedDenial)
		d.list.Limit = MaxDenials
	}
	now := time.Now()
	for item := range d.list.Of(key.owner) { // oldest first; all have the same TTL
		if now.Before(d.byKey[item.Value].until) {
			break
		}
		d.drop(item)
	}
	if old := d.byKey[key]; old != nil {
		d.drop(&old.place)
	}
	if old := d.list.Victim(key.owner); old != nil {
		d.drop(old)
	}
	r := &listedDenial{denial: n}
	r.place.Value = key
	d.byKey[key] = r
	d.list.Push(key.owner, &r.place)
}

// drop removes a denial.
func (d *denials) drop(item *share.Item[*audit.Owner, questionKey]) {
	delete(d.byKey, item.Value)
	d.list.Remove(item)
}

// dropAll removes the denials of an owner.
func (d *denials) dropAll(owner *audit.Owner) {
	for item := range d.list.Of(owner) {
		d.drop(item)
	}
}

// holds reports whether an owner has a denial that has not expired.
func (d *denials) holds(owner *audit.Owner, now time.Time) bool {
	for item := range d.list.Of(owner) {
		if now.Before(d.byKey[item.Value].until) {
			return true
		}
	}
	return false
}

// lastingDenial is a Deny for a time, a session or a group. It covers all requests
// to its targets, unlike a plain denial, which covers identical requests.
type lastingDenial struct {
	coverage
	decision Decision
	place    share.Item[*audit.Owner, *lastingDenial]
}

// lastingDenials holds the lasting denials, at most MaxDenials, shared fairly among
// the owners. If there are too many, the one that was unused longest makes room, and
// the decider is asked again about its targets. The zero value is empty. Asker.mu
// guards it.
type lastingDenials struct {
	byKey map[coverageKey][]*lastingDenial
	list  share.List[*audit.Owner, *lastingDenial]
}

// get returns the denial of an owner or its group for a target, if there is one.
func (d *lastingDenials) get(owner *audit.Owner, target hostname.Target) (Decision, bool) {
	if d.list.Len() == 0 {
		return Decision{}, false
	}
	now := time.Now()
	for key := range keysFor(owner, target.Host) {
		for _, n := range d.byKey[key] {
			if n.matches(target) && !n.expired(now) {
				d.list.Touch(&n.place)
				return n.decision, true
			}
		}
	}
	return Decision{}, false
}

// add remembers a denial. It first removes the expired ones if there are too many.
func (d *lastingDenials) add(n *lastingDenial) {
	if d.byKey == nil {
		d.byKey = make(map[coverageKey][]*lastingDenial)
		d.list.Limit = MaxDenials
	}
	for _, old := range d.byKey[n.key()] {
		if old.anyPort == n.anyPort && old.Target == n.Target && old.subdomains == n.subdomains {
			d.drop(&old.place) // n replaces it
			break
		}
	}
	if d.list.Victim(n.owner) != nil {
		for item := range d.list.All() {
			if item.Value.expired(n.created) {
				d.drop(item)
			}
		}
	}
	if old := d.list.Victim(n.owner); old != nil {
		d.drop(old)
	}
	n.place.Value = n
	d.byKey[n.key()] = append(d.byKey[n.key()], n)
	d.list.Push(n.owner, &n.place)
}

// drop removes a denial.
func (d *lastingDenials) drop(item *share.Item[*audit.Owner, *lastingDenial]) {
	key := item.Value.key()
	d.byKey[key] = slices.DeleteFunc(d.byKey[key], func(other *lastingDenial) bool { return other == item.Value })
	if len(d.byKey[key]) == 0 {
		delete(d.byKey, key)
	}
	d.list.Remove(item)
}

// dropAll removes the denials of an owner.
func (d *lastingDenials) dropAll(owner *audit.Owner) {
	for item := range d.list.Of(owner) {
		d.drop(item)
	}
}

// holds reports whether an owner has a denial that has not expired.
func (d *lastingDenials) holds(owner *audit.Owner, now time.Time) bool {
	for item := range d.list.Of(owner) {
		if !item.Value.expired(now) {
			return true
		}
	}
	return false
}
