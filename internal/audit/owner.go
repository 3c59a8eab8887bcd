// The owner of requests, for accounts and fair shares.

package audit

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Attribution describes the command that makes the requests. The host sets it. It
// does not change. Get one from [NewAttribution].
type Attribution struct {
	Command        string
	ExecPolicyHint string
	Labels         map[string]string

	labelText string // the labels as text, which is the same for equal labels
}

// NewAttribution returns an attribution with a copy of the labels.
func NewAttribution(command, execPolicyHint string, labels map[string]string) *Attribution {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		text.WriteString(strconv.Quote(name) + "=" + strconv.Quote(labels[name]) + " ")
	}
	return &Attribution{command, execPolicyHint, maps.Clone(labels), text.String()}
}

// LabelText returns the labels as text. Equal texts mean equal labels.
func (a *Attribution) LabelText() string { return a.labelText }

// Owner is the part of a principal that audit and approval know. Limits are shared
// fairly among owners, and every question, grant and refusal belongs to one. An
// Owner is identified by its address. Only its attribution changes.
type Owner struct {
	ID      string          // of a session, or the name of a group; otherwise empty
	IsGroup bool            // it is a group, which owns the grants and denials that its sessions share
	Context context.Context // ends with the owner
	Values  context.Context // has the values for the decider's context; nil if there are none
	Group   *Owner          // of the session's group; nil if it has none
	Events  *Queue          // of the consumer that gets only its events; nil if there is none

	attribution atomic.Pointer[Attribution] // nil means an empty one
}

// Attribution returns the attribution of requests that begin now. It is not nil.
func (o *Owner) Attribution() *Attribution {
	if a := o.attribution.Load(); a != nil {
		return a
	}
	return new(Attribution)
}

// SetAttribution sets the attribution of later requests.
func (o *Owner) SetAttribution(a *Attribution) { o.attribution.Store(a) }

// Names returns the ID of the session and the name of the group that the owner is
// or belongs to; both may be empty.
func (o *Owner) Names() (session, group string) {
	if o.IsGroup {
		return "", o.ID
	}
	return o.ID, o.GroupName()
}

// GroupName returns the name of the owner's group, or "" if it has none.
func (o *Owner) GroupName() string {
	if o.Group == nil {
		return ""
	}
	return o.Group.ID
}
