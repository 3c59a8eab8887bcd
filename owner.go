package networkproxy

import "context"

// attribution says on whose behalf requests are made, in the host's words.
type attribution struct {
	Command        string
	ExecPolicyHint string
	Labels         map[string]string
}

// owner is a principal as it is accounted for: budgets are shared fairly among
// owners, and questions, grants and records belong to one.
type owner struct {
	id          string // of the session; empty if there is none
	attribution attribution
	ctx         context.Context // ends with the owner
}
