package audit

import "context"

// Attribution says on whose behalf requests are made, in the host's words.
type Attribution struct {
	Command        string
	ExecPolicyHint string
	Labels         map[string]string
}

// Owner is a principal as it is accounted for: budgets are shared fairly among
// owners, and questions, grants and records belong to one.
type Owner struct {
	ID          string // of the session; empty if there is none
	Attribution Attribution
	Context     context.Context // ends with the owner
}
