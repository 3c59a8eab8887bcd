// Places that can be taken back.

package share

import "iter"

// List keeps the items of users up to a limit. Every method takes constant
// time, but All and Of. The zero value is empty and has the limit 0. It is not
// safe for concurrent use.
//
// To add an item to a list that may be full, make room first:
//
//	if old := l.Victim(user); old != nil {
//		l.Remove(old)
//	}
//	l.Push(user, item)
type List[U comparable, T any] struct {
	Limit int // items in all

	n     int
	users map[U]*user[U, T]
	most  int           // items of the user that has the most
	with  []*user[U, T] // with[n] heads a ring of the users that have n items; nil: there are none
}

// Item is a place in a [List], with what it holds. An Item must not be copied
// while it is in a list.
type Item[U comparable, T any] struct {
	Value T

	user       *user[U, T] // nil: it is in no list
	prev, next *Item[U, T] // a ring
}

// user is one user's items.
type user[U comparable, T any] struct {
	key        U
	n          int
	oldest     *Item[U, T] // heads a ring: the one unused for longest
	prev, next *user[U, T] // a ring of the users with as many
}

// Len returns the number of items.
func (l *List[U, T]) Len() int { return l.n }

// Victim returns the item that has to make room for one more of u, or nil
// while there is room: of the user that has the most items, the item that was
// unused for longest. A user that has as many as any other makes room among
// its own. The item stays in the list.
func (l *List[U, T]) Victim(u U) *Item[U, T] {
	if l.n < l.Limit || l.n == 0 {
		return nil
	}
	if of := l.users[u]; of != nil && of.n == l.most {
		return of.oldest
	}
	return l.with[l.most].oldest
}

// Push adds an item of u as the one used last. The item must be in no list.
func (l *List[U, T]) Push(u U, item *Item[U, T]) {
	of := l.users[u]
	if of == nil {
		if l.users == nil {
			l.users = make(map[U]*user[U, T])
		}
		of = &user[U, T]{key: u}
		l.users[u] = of
	}
	item.user = of
	item.link(of)
	l.n++
	l.count(of, of.n+1)
}

// Remove takes an item out. It does nothing for one that is in no list.
func (l *List[U, T]) Remove(item *Item[U, T]) {
	of := item.user
	if of == nil {
		return
	}
	item.unlink(of)
	item.user = nil
	l.n--
	l.count(of, of.n-1)
	if of.n == 0 {
		delete(l.users, of.key)
	}
}

// Touch makes an item the one of its user that was used last. It does nothing
// for one that is in no list.
func (l *List[U, T]) Touch(item *Item[U, T]) {
	if of := item.user; of != nil {
		item.unlink(of)
		item.link(of)
	}
}

// Listed reports whether the item is in a list.
func (item *Item[U, T]) Listed() bool { return item.user != nil }

// Of yields the items of u, the one unused for longest first. The loop may
// remove the item it was given.
func (l *List[U, T]) Of(u U) iter.Seq[*Item[U, T]] {
	return func(yield func(*Item[U, T]) bool) {
		of := l.users[u]
		if of == nil {
			return
		}
		item := of.oldest
		for range of.n {
			next := item.next
			if !yield(item) {
				return
			}
			item = next
		}
	}
}

// All yields all items, in no order. The loop may remove the item it was
// given.
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

// UserOf returns the user of an item that is in a list.
func (l *List[U, T]) UserOf(item *Item[U, T]) U { return item.user.key }

func (item *Item[U, T]) link(of *user[U, T]) {
	if of.oldest == nil {
		item.prev, item.next = item, item
		of.oldest = item
		return
	}
	first := of.oldest
	item.prev, item.next = first.prev, first
	first.prev.next, first.prev = item, item
}

func (item *Item[U, T]) unlink(of *user[U, T]) {
	if of.oldest == item {
		of.oldest = item.next
	}
	if item.next == item {
		of.oldest = nil
	}
	item.prev.next, item.next.prev = item.next, item.prev
	item.prev, item.next = nil, nil
}

// count moves a user to those that have n items: one more or one fewer than
// before.
func (l *List[U, T]) count(of *user[U, T], n int) {
	if of.n > 0 {
		if l.with[of.n] == of {
			l.with[of.n] = of.next
		}
		if of.next == of {
			l.with[of.n] = nil
		}
		of.prev.next, of.next.prev = of.next, of.prev
		of.prev, of.next = nil, nil
	}
	was := of.n
	of.n = n
	for len(l.with) <= n {
		l.with = append(l.with, nil)
	}
	if n > 0 {
		if first := l.with[n]; first == nil {
			of.prev, of.next = of, of
			l.with[n] = of
		} else {
			of.prev, of.next = first.prev, first
			first.prev.next, first.prev = of, of
		}
	}
	switch {
	case n > l.most:
		l.most = n
	case was == l.most && l.with[was] == nil:
		l.most = n
	}
}
