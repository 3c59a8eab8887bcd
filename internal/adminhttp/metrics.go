// Metrics in the text format of Prometheus, version 0.0.4. A client library
// would bring more modules into the program than the rest of it has.

package adminhttp

import (
	"fmt"
	"strings"
)

// metricsType is the Content-Type of the format.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// Kinds of metrics.
const (
	Counter = "counter"
	Gauge   = "gauge"
)

// Metrics builds a text in the format. The zero value is an empty text. It is
// not safe for concurrent use.
type Metrics struct{ b strings.Builder }

// Family begins a metric of a kind. Its samples follow.
func (m *Metrics) Family(name, kind, help string) {
	fmt.Fprintf(&m.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// Sample adds a sample of the metric that Family began. value is an integer,
// and labels are names, each with its value after it.
func (m *Metrics) Sample(name string, value any, labels ...string) {
	m.b.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		m.b.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(&m.b, `%s="%s"`, labels[i], escapeLabel(labels[i+1]))
	}
	if len(labels) > 0 {
		m.b.WriteByte('}')
	}
	fmt.Fprintf(&m.b, " %d\n", value)
}

// Metric adds a metric that has one sample and no labels.
func (m *Metrics) Metric(name, kind, help string, value any) {
	m.Family(name, kind, help)
	m.Sample(name, value)
}

// Text returns the text as the body of a response.
func (m *Metrics) Text() Text { return Text{Type: metricsType, Body: m.b.String()} }

func escapeLabel(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
}
