// Denials that a decider gave recently.

package approval

import (
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/share"
)

const (
	// DenialTTL is how long a denial is remembered. It outlasts automatic
	// retries, which are about a second apart, and ends soon enough for a user
	// who has changed their mind.
	DenialTTL = 2 * time.Second

	// MaxDenials limits the remembered denials, because a client may try names
	// faster than denials expire.
	MaxDenials = 1024
)

// denial is a Deny that is remembered.
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
