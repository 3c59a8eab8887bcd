// A list of places that can be taken back.

package share

import "iter"

// List keeps the items of all users, up to a limit. Every method except All and
// Of takes constant time. The zero value is empty and has the limit 0. It is
// not safe for concurrent use.
//
// To add an item to a list that may be full, make room first:
//
//	if old := l.Victim(user); old != nil {
//		l.Remove(old)
//	}
//	l.Push(user, item)
type List[U comparable, T any] struct {
	Limit int // maximum number of items

	len      int
	users    map[U]*user[U, T]
	maxCount int           // items of the user with the most
	byCount  []*user[U, T] // byCount[n] heads a ring of the users with n items; nil if there are none
}

// Item is one place in a [List], and its value. An Item must not be copied
// while it is in a list.
type Item[U comparable, T any] struct {
	Value T

	user       *user[U, T] // nil if the item is in no list
	prev, next *Item[U, T] // ring
}

// user holds the items of one user.
type user[U comparable, T any] struct {
	key        U
	count      int
	oldest     *Item[U, T] // heads a ring; the item unused for longest
	prev, next *user[U, T] // ring of the users with the same count
}

// Len returns the number of items.
func (l *List[U, T]) Len() int { return l.len }

// Victim returns the item to remove before another item of u is added, or nil
// if there is room. It is the item unused for longest of the user with the most
// items; of u itself if no other user has more. The item stays in the list.
func (l *List[U, T]) Victim(u U) *Item[U, T] {
	if l.len < l.Limit || l.len == 0 {
		return nil
	}
	if owner := l.users[u]; owner != nil && owner.count == l.maxCount {
		return owner.oldest
	}
	return l.byCount[l.maxCount].oldest
}

// Push adds an item of u as its most recently used one. The item must be in no
// list.
func (l *List[U, T]) Push(u U, item *Item[U, T]) {
	owner := l.users[u]
	if owner == nil {
		if l.users == nil {
			l.users = make(map[U]*user[U, T])
		}
		owner = &user[U, T]{key: u}
		l.users[u] = owner
	}
	item.user = owner
	item.link(owner)
	l.len++
	l.setCount(owner, owner.count+1)
}

// Remove removes an item. It does nothing if the item is in no list.
func (l *List[U, T]) Remove(item *Item[U, T]) {
	owner := item.user
	if owner == nil {
		return
	}
	item.unlink(owner)
	item.user = nil
	l.len--
	l.setCount(owner, owner.count-1)
	if owner.count == 0 {
		delete(l.users, owner.key)
	}
}

// Touch makes an item the most recently used one of its user. It does nothing
// if the item is in no list.
func (l *List[U, T]) Touch(item *Item[U, T]) {
	if owner := item.user; owner != nil {
		item.unlink(owner)
		item.link(owner)
	}
}

// Listed reports whether the item is in a list.
func (item *Item[U, T]) Listed() bool { return item.user != nil }

// Of yields the items of u, the one unused for longest first. The loop may
// remove the current item.
func (l *List[U, T]) Of(u U) iter.Seq[*Item[U, T]] {
	return func(yield func(*Item[U, T]) bool) {
		owner := l.users[u]
		if owner == nil {
			return
		}
		item := owner.oldest
		for range owner.count {
			next := item.next
			if !yield(item) {
				return
			}
			item = next
		}
	}
}

// All yields all items in no particular order. The loop may remove the current
// item.
func (l *List[U, T]) All() iter.Seq[*Item[U, T]] {
	return func(yield func(*Item[U, T]) bool) {
		for u := range l.users {
			for item := range l.Of(u) {
				if !yield(item) {
					return
				}
			}
		}
	}
}

// UserOf returns the user of an item, which must be in a list.
func (l *List[U, T]) UserOf(item *Item[U, T]) U { return item.user.key }

func (item *Item[U, T]) link(owner *user[U, T]) {
	if owner.oldest == nil {
		item.prev, item.next = item, item
		owner.oldest = item
		return
	}
	first := owner.oldest
	item.prev, item.next = first.prev, first
	first.prev.next, first.prev = item, item
}

func (item *Item[U, T]) unlink(owner *user[U, T]) {
	if owner.oldest == item {
		owner.oldest = item.next
	}
	if item.next == item {
		owner.oldest = nil
	}
	item.prev.next, item.next.prev = item.next, item.prev
	item.prev, item.next = nil, nil
}

// setCount moves a user to the ring of users with n items. n is one more or one
// less than before.
func (l *List[U, T]) setCount(owner *user[U, T], n int) {
	if owner.count > 0 {
		if l.byCount[owner.count] == owner {
			l.byCount[owner.count] = owner.next
		}
		if owner.next == owner {
			l.byCount[owner.count] = nil
		}
		owner.prev.next, owner.next.prev = owner.next, owner.prev
		owner.prev, owner.next = nil, nil
	}
	was := owner.count
	owner.count = n
	for len(l.byCount) <= n {
		l.byCount = append(l.byCount, nil)
	}
	if n > 0 {
		if first := l.byCount[n]; first == nil {
			owner.prev, owner.next = owner, owner
			l.byCount[n] = owner
		} else {
			owner.prev, owner.next = first.prev, first
			first.prev.next, first.prev = owner, owner
		}
	}
	switch {
	case n > l.maxCount:
		l.maxCount = n
	case was == l.maxCount && l.byCount[was] == nil:
		l.maxCount = n
	}
}
