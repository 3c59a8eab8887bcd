// Counting places that cannot be taken back.

package share

// Allows reports whether a user with used places may have one more while free
// places are left. It is the dynamic threshold of shared-memory switches
// (Choudhury and Hahne, 1998) with the factor 3.
func Allows(used, free int) bool { return free > 0 && used < 3*free }

// Counter counts the places of each user. The zero value has no places. It is
// not safe for concurrent use.
type Counter[U comparable] struct {
	Limit int // total number of places

	used  int
	users map[U]int // users without places are absent
}

// Acquire gives u a place if the rule allows it, and reports whether it did.
func (c *Counter[U]) Acquire(u U) bool {
	if !Allows(c.users[u], c.Limit-c.used) {
		return false
	}
	if c.users == nil {
		c.users = make(map[U]int)
	}
	c.users[u]++
	c.used++
	return true
}

// Release takes back a place of u.
func (c *Counter[U]) Release(u U) {
	c.used--
	if c.users[u]--; c.users[u] == 0 {
		delete(c.users, u)
	}
}

// Reset takes back all places.
func (c *Counter[U]) Reset() {
	c.used = 0
	clear(c.users)
}

// Len returns the number of places in use.
func (c *Counter[U]) Len() int { return c.used }
