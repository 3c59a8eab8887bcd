// The Date of answers.

package http1

import (
	"net/http"
	"sync/atomic"
	"time"
)

// dateCache is the Date field line of the present second (RFC 9110 section
// 6.6.1). The zero value is ready; safe for concurrent use.
type dateCache struct{ last atomic.Pointer[dateLine] }

type dateLine struct {
	second int64 // since 1970
	text   string
}

func (d *dateCache) fieldLine() string {
	now := time.Now()
	if last := d.last.Load(); last != nil && last.second == now.Unix() {
		return last.text
	}
	line := &dateLine{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
	d.last.Store(line)
	return line.text
}
