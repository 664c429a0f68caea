package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dnsproxy/internal/control"
	"dnsproxy/internal/dot"
)

// page writes text for a screen: facts, each under its title, folded at the screen's width.
type page struct {
	bytes.Buffer
	width int
}

// titleWidth is the room for a fact's title.
const titleWidth = 15

// fact writes a title and a text beside it. Without a text it writes nothing; without a title the text
// belongs to the title above.
func (p *page) fact(title, text string) {
	text = printable(text)
	for text != "" {
		line := text
		if room := max(p.width-titleWidth-1, 20); len(line) > room {
			if cut := strings.LastIndexByte(line[:room+1], ' '); cut > 0 {
				line = line[:cut]
			} else {
				line, _, _ = strings.Cut(line, " ") // a word that is too long stands out
			}
		}
		fmt.Fprintf(p, "%-*s %s\n", titleWidth, title, line)
		title, text = "", strings.TrimLeft(text[len(line):], " ")
	}
}

// printable keeps text from moving the cursor: some of it was said by others than us.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

// statusText renders a status.
func statusText(s *control.Status, on screen) []byte {
	p := &page{width: on.width}
	p.fact("dnsproxy", fmt.Sprintf("%s, up %s, serving %s", s.Version, span(s.Uptime.Duration()), strings.Join(s.Serving, ", ")))
	p.fact("configuration", configText(s))
	if s.Config.LastError != "" {
		p.fact("", fmt.Sprintf("RELOAD FAILED %s ago, the previous configuration is in force:", span(s.Now.Sub(s.Config.FailedAt))))
		for line := range strings.Lines(s.Config.LastError) {
			p.fact("", "  "+line)
		}
	}
	for _, w := range s.Config.Warnings {
		p.fact("", "warning: "+w)
	}
	p.fact("sandbox", s.Sandbox.Enforced)
	for _, missing := range s.Sandbox.Missing {
		p.fact("", "NOT ENFORCED "+missing)
	}
	for i := range s.Upstreams {
		p.WriteByte('\n')
		p.address(&s.Upstreams[i], s.Now)
	}
	p.WriteByte('\n')
	p.totals(s)
	if on.terminal {
		p.history(&s.History)
	}
	return p.Bytes()
}

func configText(s *control.Status) string {
	file := s.Config.File
	if file == "" {
		file = "none"
	}
	text := fmt.Sprintf("%s, loaded %s ago", file, span(s.Now.Sub(s.Config.Loaded)))
	if s.Config.Reloads+s.Config.Failures > 0 {
		text += fmt.Sprintf(" (%s, %d failed)", plural(s.Config.Reloads, "reload", "reloads"), s.Config.Failures)
	}
	return text
}

// idle is the state of an address that could be used and need not be.
var idle = dot.Idle.String()

// address writes how one address of an upstream fares.
func (p *page) address(a *control.Address, now time.Time) {
	where := a.Address
	if a.ServerName != "" {
		where += " " + a.ServerName
	}
	p.fact(a.Upstream, where+": "+stateText(a, now))
	if a.Error != "" && a.Session == nil && (a.State != idle || !a.InUse) { // that a session ended is no trouble
		p.fact("", "because of: "+a.Error)
	}
	if s := a.Session; s != nil {
		p.fact("  session", fmt.Sprintf("%s, %s, %s; pin %s; certificate %s", s.Version, s.Suite, s.Group, s.Pin, days(s.DaysLeft)))
		resumed := "new"
		if s.Resumed {
			resumed = "resumed"
		}
		p.fact("", fmt.Sprintf("%s old, %s, %s", span(s.Age.Duration()), resumed, plural(s.Queries, "query", "queries")))
	}
	n := a.Sessions
	if n.Attempts > 0 {
		p.fact("  sessions", fmt.Sprintf("%d opened, %d resumed, %d failed, %d suspected; closed: %s", n.Opened, n.Resumed, n.Failed, n.Suspected, tally(n.Closed)))
	}
	switch {
	case a.Answers > 0:
		p.fact("  queries", fmt.Sprintf("%d, %d answered: %s; failures: %s", a.Queries, a.Answers, timesText(a.Times), tally(a.Failures)))
	case a.Queries > 0:
		p.fact("  queries", fmt.Sprintf("%d, none answered; failures: %s", a.Queries, tally(a.Failures)))
	}
}

func stateText(a *control.Address, now time.Time) string {
	text := a.State
	if !a.Until.IsZero() {
		text += " for " + span(max(0, a.Until.Sub(now)))
	}
	if !a.InUse {
		text += ", NOT IN USE"
	}
	if a.Pending > 0 {
		text += fmt.Sprintf(", %d in flight", a.Pending)
	}
	return text
}

// totals writes what was counted for all together.
func (p *page) totals(s *control.Status) {
	q, c, l := &s.Queries, &s.Cache, &s.Clients
	p.fact("upstreams", fmt.Sprintf("%s: %d asked for, %d failed; %d retried, %d failed over, %d hedged (%d to another upstream)",
		s.Policy, q.Exchanges, q.Failed, q.Retries, q.Failovers, q.Hedges, q.Crossed))
	p.fact("cache", fmt.Sprintf("%s, %s of %s; %.1f %% hits of %d, %d stale, %d prefetched, %d evicted",
		plural(uint64(c.Entries), "entry", "entries"), octets(c.Bytes), octets(c.MaxBytes), 100*c.HitRatio, c.Hits+c.Misses, c.Stale, c.Prefetches, c.Evictions))
	p.fact("", fmt.Sprintf("%d answered locally, %d from remembered failures", c.Local, c.FailuresCached))
	p.fact("clients", fmt.Sprintf("%d over UDP, %d over TCP (%d connected, %d turned away), %d waiting; %d refused, %d malformed, %d shed, %d ignored",
		l.UDPQueries, l.TCPQueries, l.TCPNow, l.TCPShed, l.Pending, l.Refused, l.Malformed, l.Shed, l.Ignored))
	if l.UDPQueries+l.TCPQueries > 0 {
		p.fact("answers", fmt.Sprintf("known at once: %s; waited for: %s", timesText(l.KnownTimes), timesText(l.WaitedTimes)))
	}
}

func timesText(t control.Times) string {
	if t == (control.Times{}) {
		return "none"
	}
	return fmt.Sprintf("p50 %s, p95 %s, p99 %s", short(t.P50), short(t.P95), short(t.P99))
}

// history draws the last hour.
func (p *page) history(h *control.History) {
	if len(h.Rate) == 0 {
		return
	}
	seconds := make([]float64, len(h.P95))
	for i, s := range h.P95 {
		seconds[i] = float64(s)
	}
	fmt.Fprintf(p, "\n%-*s minute by minute, now at the right\n", titleWidth, "last hour")
	p.line("  queries/s", h.Rate, func(v float64) string { return fmt.Sprintf("%.1f", v) })
	p.line("  hit ratio", h.HitRatio, func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) })
	p.line("  p95", seconds, func(v float64) string { return short(control.Seconds(v)) })
}

// line draws one curve, with its last and its largest value.
func (p *page) line(title string, values []float64, text func(float64) string) {
	last, most := values[len(values)-1], slices.Max(values)
	legend := fmt.Sprintf(" now %s, most %s", text(last), text(most))
	room := max(p.width-titleWidth-1-len(legend), 10)
	values = values[max(0, len(values)-room):]
	fmt.Fprintf(p, "%-*s %s%s\n", titleWidth, title, sparkline(values), legend)
}

// sparkline draws values as blocks whose height is relative to the largest.
func sparkline(values []float64) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	most := slices.Max(values)
	var b strings.Builder
	for _, v := range values {
		at := 0
		if most > 0 {
			at = min(int(v/most*float64(len(blocks))), len(blocks)-1)
		}
		b.WriteRune(blocks[at])
	}
	return b.String()
}

// tally lists counts by name, the largest first.
func tally(counts map[string]uint64) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return int(min(max(int64(counts[b])-int64(counts[a]), -1), 1))
		}
		return strings.Compare(a, b)
	})
	if len(names) == 0 {
		return "none"
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	return strings.Join(names, ", ")
}

// plural returns n of something.
func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// span returns a time span as people say it: two units at most.
func span(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%s %d h", plural(uint64(d/day), "day", "days"), d%day/time.Hour)
	}
}

// days returns how long a certificate is still valid.
func days(left float64) string {
	switch {
	case left < 0:
		return "no longer valid"
	case left < 2:
		return fmt.Sprintf("%.0f h", left*24)
	default:
		return fmt.Sprintf("%.0f days", left)
	}
}

// short returns a time with two digits.
func short(s control.Seconds) string {
	switch d := s.Duration(); {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

// octets returns a size in the unit that suits it.
func octets(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
