// The Date field of responses.

package http1

import (
	"net/http"
	"sync/atomic"
	"time"
)

// dateCache caches the Date field line of the current second (RFC 9110 section
// 6.6.1). The zero value is ready to use. It is safe for concurrent use.
type dateCache struct{ last atomic.Pointer[dateLine] }

// dateLine is the field line of one second.
type dateLine struct {
	second int64 // since 1970
	text   string
}

// fieldLine returns the Date field line with its CRLF.
func (d *dateCache) fieldLine() string {
	now := time.Now()
	if last := d.last.Load(); last != nil && last.second == now.Unix() {
		return last.text
	}
	line := &dateLine{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
	d.last.Store(line)
	return line.text
}
