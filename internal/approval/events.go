// Events about questions, answers and grants.

package approval

import (
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// publishAsked publishes a question. The caller holds a.mu, so that no event of an
// answer comes before.
func (a *Asker) publishAsked(q *question) {
	if a.Events == nil || !a.Events.Wanted(q.first.Owner) {
		return
	}
	q.asked = time.Now()
	e := q.event(audit.KindAsked, &audit.Rare{Generation: q.generation})
	e.Time = q.asked
	a.Events.Publish(q.first.Owner, &e)
}

// publishAnswered publishes the answer to a question that was published, or the
// error in its place, and the grant of the answer. It does nothing when it is called
// again. The caller holds a.mu, so that no event of the requests that wait comes
// before.
func (a *Asker) publishAnswered(q *question, d Decision, err error) {
	if q.asked.IsZero() {
		return
	}
	rare := &audit.Rare{Decision: d.kind(), Reason: d.Reason, Message: d.String()}
	if err != nil {
		rare = &audit.Rare{Error: policy.CleanText(err.Error(), maxErrorText)}
	}
	e := q.event(audit.KindAnswered, rare)
	e.Duration = time.Since(q.asked)
	q.asked = time.Time{}
	a.Events.Publish(q.first.Owner, &e)
	if q.answer != nil && q.answer.Grant != nil {
		e = q.answer.Grant.event(audit.KindGranted)
		e.Attribution, e.Rare.Message = q.first.Attribution, d.String()
		a.Events.Publish(q.first.Owner, &e)
	}
}

// PublishRevoked publishes that g was revoked.
func (g *Grant) PublishRevoked(s *audit.Stream) {
	if s.Wanted(g.owner) {
		e := g.event(audit.KindRevoked)
		if g.owner.IsGroup { // which has no attribution
			e.Attribution = &audit.Attribution{Command: g.command}
		}
		s.Publish(g.owner, &e)
	}
}

// event returns an event about the grant.
func (g *Grant) event(kind audit.Kind) audit.Event {
	e := audit.Event{Kind: kind, Grant: g.ID, Rare: &audit.Rare{Pattern: g.Pattern(), Port: g.Target.Port}}
	if g.anyPort {
		e.Rare.Port = 0
	}
	return e
}

// maxErrorText limits the text of an error in an event, in bytes.
const maxErrorText = 1024

// event returns an event about the question.
func (q *question) event(kind audit.Kind, rare *audit.Rare) audit.Event {
	r := q.first
	return audit.Event{
		Kind: kind, Attribution: r.Attribution, Client: r.Client, Rare: rare,
		Query: &policy.Query{Protocol: r.Protocol, Target: r.Target, Method: r.Method},
	}
}
