// The owner of requests, for accounts and fair shares.

package audit

import "context"

// Attribution describes the command that makes the requests. The host sets it.
type Attribution struct {
	Command        string
	ExecPolicyHint string
	Labels         map[string]string
}

// Owner is the part of a principal that audit and approval know. Limits are shared
// fairly among owners, and every question, grant and refusal belongs to one. An
// Owner is identified by its address and does not change.
type Owner struct {
	ID          string // the session's; empty outside sessions
	Attribution Attribution
	Context     context.Context // ends with the owner
}
