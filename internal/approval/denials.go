// Denials that a decider gave a moment ago.

package approval

import (
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/share"
)

const (
	// DenialTTL outlasts the tries that clients make on their own, a
	// second or so apart, and ends before a user who has changed their mind
	// wonders why nothing happens.
	DenialTTL = 2 * time.Second

	// MaxDenials bounds the denials remembered: a client may go through
	// names faster than they are forgotten.
	MaxDenials = 1024
)

// denial is a Deny that stands for a while.
type denial struct {
	decision   Decision
	generation uint64 // of the policy that it was given under
	until      time.Time
}

// denials are the newest denials, at most maxDenials, shared fairly among the
// sessions. The zero value is empty.
type denials struct {
	by   map[questionKey]*remembered
	list share.List[*audit.Owner, questionKey]
}

// remembered is a denial with its place in the list.
type remembered struct {
	denial
	place share.Item[*audit.Owner, questionKey]
}

func (d *denials) get(key questionKey, generation uint64) (Decision, bool) {
	n := d.by[key]
	if n == nil || n.generation != generation || !time.Now().Before(n.until) {
		return Decision{}, false
	}
	return n.decision, true
}

// add remembers a denial. It forgets those of the same principal that are over,
// and another one where there are too many.
func (d *denials) add(key questionKey, n denial) {
	if d.by == nil {
		d.by = make(map[questionKey]*remembered)
		d.list.Limit = MaxDenials
	}
	now := time.Now()
	for item := range d.list.Of(key.principal) { // all stand equally long: the oldest is the first to be over
		if now.Before(d.by[item.Value].until) {
			break
		}
		d.drop(item)
	}
	if old := d.by[key]; old != nil {
		d.drop(&old.place)
	}
	if old := d.list.Victim(key.principal); old != nil {
		d.drop(old)
	}
	r := &remembered{denial: n}
	r.place.Value = key
	d.by[key] = r
	d.list.Push(key.principal, &r.place)
}

func (d *denials) drop(item *share.Item[*audit.Owner, questionKey]) {
	delete(d.by, item.Value)
	d.list.Remove(item)
}

// dropAll forgets the denials of a principal.
func (d *denials) dropAll(from *audit.Owner) {
	for item := range d.list.Of(from) {
		d.drop(item)
	}
}
