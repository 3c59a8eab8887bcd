package ca

import (
	"sync/atomic"

	"golang.org/x/sync/singleflight"
)

// Once makes an authority when it is first needed. It does not change after the first Get; safe for concurrent use.
type Once struct {
	Make func() (*Authority, error)

	making singleflight.Group
	made   atomic.Pointer[Authority]
}

// Get returns the authority that Make returned when it first succeeded. After an error, the next call tries again.
func (o *Once) Get() (*Authority, error) {
	if a := o.made.Load(); a != nil {
		return a, nil
	}
	a, err, _ := o.making.Do("", func() (any, error) {
		if a := o.made.Load(); a != nil {
			return a, nil // made after the look-up above
		}
		a, err := o.Make()
		if err == nil {
			o.made.Store(a)
		}
		return a, err
	})
	return a.(*Authority), err
}
