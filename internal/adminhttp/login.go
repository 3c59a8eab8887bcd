// Logging the page in with a code that can be used once.

package adminhttp

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
)

// maxCodes is the number of unused codes that are kept.
const maxCodes = 8

// codes are codes that can be used once. Safe for concurrent use.
type codes struct {
	mu     sync.Mutex
	unused [][sha256.Size]byte // digests, so that a comparison tells nothing about a code; oldest first
}

// add returns a new code with 128 random bits. The oldest unused one ends if there
// are too many.
func (c *codes) add() string {
	code := rand.Text()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unused = append(c.unused, sha256.Sum256([]byte(code)))
	if len(c.unused) > maxCodes {
		c.unused = c.unused[1:]
	}
	return code
}

// use reports whether code is unused, and ends it.
func (c *codes) use(code string) bool {
	sum := sha256.Sum256([]byte(code))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, unused := range c.unused {
		if sum == unused {
			c.unused = append(c.unused[:i:i], c.unused[i+1:]...)
			return true
		}
	}
	return false
}

// NewCode returns a code that [Server.Login] accepts once. Show it to the user only,
// because it is worth as much as the token.
func (s *Server) NewCode() string { return s.codes.add() }

// Login returns the token for a code of NewCode. ok is false if the code was used
// before, or is not one.
func (s *Server) Login(code string) (token string, ok bool) {
	if !s.codes.use(code) {
		return "", false
	}
	return s.pageToken, true
}
