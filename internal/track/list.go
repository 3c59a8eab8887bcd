// An intrusive doubly linked list: adding and removing an element allocates
// nothing, and no map has to grow.

package track

import "iter"

// links is embedded in the elements of a list.
type links[T any] struct {
	prev, next T
	linked     bool
}

func (l *links[T]) node() *links[T] { return l }

// list is a set of elements. The zero value is empty. The owner's lock guards
// it.
type list[T interface {
	comparable
	node() *links[T]
}] struct {
	head T
}

// push adds v, which must not be in a list.
func (l *list[T]) push(v T) {
	var none T
	p := v.node()
	p.prev, p.next, p.linked = none, l.head, true
	if l.head != none {
		l.head.node().prev = v
	}
	l.head = v
}

// remove removes v. It does nothing if v is in no list.
func (l *list[T]) remove(v T) {
	var none T
	p := v.node()
	if !p.linked {
		return
	}
	if p.prev != none {
		p.prev.node().next = p.next
	} else {
		l.head = p.next
	}
	if p.next != none {
		p.next.node().prev = p.prev
	}
	*p = links[T]{}
}

// all yields the elements, newest first. The list must not change during the
// loop.
func (l *list[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		var none T
		for v := l.head; v != none && yield(v); v = v.node().next {
		}
	}
}
