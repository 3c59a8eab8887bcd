package httpproxy

import (
	"sync"
	"time"

	"example.com/networkproxy/internal/hostname"
)

// The record of clients that do not trust the proxy's certificate.
const (
	distrustInterval = time.Minute // between two records about the same session and host
	maxDistrusts     = 1024        // number of records that are remembered
)

// distrusts remembers which sessions have shown distrust of the certificate for which
// hosts. The zero value is ready to use. Safe for concurrent use.
type distrusts struct {
	mu   sync.Mutex
	last map[distrustKey]time.Time
}

type distrustKey struct {
	session string
	host    hostname.Host
}

// first reports whether to record distrust: there is no record of the session and host
// within the last minute. If so, it remembers the time.
func (d *distrusts) first(session string, host hostname.Host, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := distrustKey{session, host}
	if at, ok := d.last[key]; ok && now.Sub(at) < distrustInterval {
		return false
	}
	if len(d.last) >= maxDistrusts || d.last == nil {
		d.last = make(map[distrustKey]time.Time)
	}
	d.last[key] = now
	return true
}
