// The report about the refusals of a session, as text.

package audit

import (
	"fmt"
	"strings"

	"example.com/networkproxy/internal/policy"
)

// Bounds of a report, in bytes. A report becomes a part of a language model's
// input, which one command must not fill.
const (
	MaxReport   = 4096
	maxSentence = 512 // a message or a hint
	maxEnding   = 80  // the line about requests that are left out
)

// Report returns the refusals as text: a heading, and for each distinct refusal
// its message, its number of requests, and its hint unless an earlier one has the
// same. It returns "" if nothing was refused. The text has at most MaxReport
// bytes. Line feeds are its only control characters, and it ends with one.
func (a *Account) Report() string {
	items, left := a.reportItems()
	if left == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "The network proxy refused %s of this command:\n", requestCount(left))
	hints := make(map[string]bool)
	for _, item := range items {
		text := "- " + item.message
		if item.count > 1 {
			text += " (" + requestCount(item.count) + ")"
		}
		text += "\n"
		if item.hint != "" && !hints[item.hint] {
			text += "  " + item.hint + "\n"
		}
		if b.Len()+len(text) > MaxReport-maxEnding {
			break
		}
		b.WriteString(text)
		hints[item.hint] = true
		left -= item.count
	}
	if left > 0 {
		fmt.Fprintf(&b, "- Not listed here: %s more.\n", requestCount(left))
	}
	return b.String()
}

// reportItem is a distinct refusal in a report.
type reportItem struct {
	message, hint string
	count         uint64
}

// reportItems returns the refusals, those with the same texts as one, and the
// number of all refused requests.
func (a *Account) reportItems() (items []*reportItem, total uint64) {
	type counted struct {
		refusal *countedRefusal
		count   uint64
	}
	a.mu.Lock()
	total = a.refused
	refusals := make([]counted, len(a.refusals))
	for i, c := range a.refusals {
		refusals[i] = counted{c, c.count} // the rest of c does not change
	}
	a.mu.Unlock()

	byMessage := make(map[string]*reportItem)
	for _, c := range refusals {
		message, hint := c.refusal.Explain()
		// Names come from the command. A text must not continue in a line of its own.
		message = policy.CleanText(strings.TrimPrefix(message, policy.MessagePrefix), maxSentence)
		item := byMessage[message]
		if item == nil {
			item = &reportItem{message: message, hint: policy.CleanText(hint, maxSentence)}
			byMessage[message] = item
			items = append(items, item)
		}
		item.count += c.count
	}
	return items, total
}

func requestCount(n uint64) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}
