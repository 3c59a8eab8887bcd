// Package credential keeps secrets out of commands. A command gets a placeholder that
// looks like the secret. The proxy exchanges it in requests to the destinations that
// the secret is bound to, and nowhere else. A placeholder that a command leaks is
// worthless.
//
// A [Provider] binds a secret to destinations and header fields. A [Session] has the
// placeholders of one command. The [Registry] recognises the placeholders of all
// sessions, so that a request with one in the wrong place is refused. A [Mask] replaces
// a secret that an origin server repeats in a response.
//
// No error, and no text that a type of this package prints, contains a secret.
package credential
