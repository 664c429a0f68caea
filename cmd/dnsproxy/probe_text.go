package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dnsproxy/internal/probe"
)

// findingText renders a finding for people.
func findingText(f *probe.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "upstream %q (%s): %s\n", f.Upstream, f.Address, verdictText(f))
	line := func(title, text string) { fmt.Fprintf(&b, "  %-11s %s\n", title, text) }
	if f.ServerName != "" {
		line("server name", f.ServerName)
	}
	if f.Session == nil {
		b.WriteByte('\n')
		return b.String()
	}
	if !f.Authenticated {
		line("", "NOT AUTHENTICATED: no query was sent, and what follows may be anybody's.")
	}
	line("session", sessionText(f.Session))
	line("times", timesOf(f))
	if f.Answers != nil {
		line("answers", answersText(f.Answers))
		line("keepalive", keepaliveText(f.Answers.Keepalive))
	}
	if f.Session.Pin != "" {
		line("pin", pinText(f.Session))
	}
	for _, c := range f.Chain {
		line(c.Role, c.Subject)
		for _, text := range certificateText(&c) {
			line("", text)
		}
	}
	b.WriteByte('\n')
	return b.String()
}

func verdictText(f *probe.Finding) string {
	if f.Accepted {
		return "accepted"
	}
	return "refused: " + f.Error
}

func sessionText(s *probe.Session) string {
	text := s.Version + ", " + s.Suite
	if s.Group != "" {
		quantum := "not post-quantum"
		if s.PostQuantum {
			quantum = "post-quantum"
		}
		text += fmt.Sprintf(", %s (%s)", s.Group, quantum)
	}
	if s.ALPN == "" {
		return text + ", no ALPN"
	}
	return text + ", ALPN " + s.ALPN
}

func timesOf(f *probe.Finding) string {
	t := &f.Times
	parts := []string{"connect " + spent(t.Connect), "handshake " + spent(t.Handshake)}
	if f.Session.Resumes {
		parts = append(parts, "resumed handshake "+spent(t.Resumed))
	} else {
		parts = append(parts, "does not resume")
	}
	if t.Answer > 0 {
		parts = append(parts, "answer "+spent(t.Answer))
	}
	return strings.Join(parts, ", ")
}

// spent returns a time in the unit that suits it.
func spent(seconds float64) string {
	if seconds < 0.001 {
		return fmt.Sprintf("%.0f µs", 1e6*seconds)
	}
	return fmt.Sprintf("%.1f ms", 1e3*seconds)
}

func answersText(a *probe.Answers) string {
	padding := "not padded"
	if a.Padded {
		padding = "padded"
	}
	text := fmt.Sprintf("%s, %d octets, %s", a.RCode, a.Octets, padding)
	if a.Burst == 0 {
		return text
	}
	order := "in order"
	if a.OutOfOrder {
		order = "out of order"
	}
	text += fmt.Sprintf("; %d of %d at once, %s", a.Answered, a.Burst, order)
	if a.BurstError != "" {
		text += ", then: " + a.BurstError
	}
	return text
}

func keepaliveText(seconds *float64) string {
	if seconds == nil {
		return "not announced"
	}
	return fmt.Sprintf("%v announced", time.Duration(*seconds*float64(time.Second)))
}

func pinText(s *probe.Session) string {
	switch s.Pin {
	case probe.PinMatched:
		return "matched: " + s.MatchedPin
	case probe.PinMismatch:
		return `MISMATCH, which pin_mode = "report" lets pass`
	default:
		return s.Pin
	}
}

// namesShown is how many names of a leaf are shown.
const namesShown = 6

func certificateText(c *probe.Certificate) []string {
	var lines []string
	if n := len(c.Names); n > 0 {
		names := strings.Join(c.Names[:min(n, namesShown)], ", ")
		if n > namesShown {
			names += fmt.Sprintf(" and %d more", n-namesShown)
		}
		lines = append(lines, "for "+names)
	}
	issued := "issued by " + c.Issuer
	if c.Issuer == c.Subject {
		issued = "issued by itself"
	}
	if !c.Presented {
		issued += "; from the CA file, not presented"
	}
	pin := "pin " + c.Pin
	if c.Configured {
		pin += " (configured)"
	}
	return append(lines, issued, validText(c, time.Now()), pin)
}

func validText(c *probe.Certificate, now time.Time) string {
	text := fmt.Sprintf("valid %s to %s, ", c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))
	switch {
	case now.Before(c.NotBefore):
		return text + "NOT YET VALID"
	case c.DaysLeft < 0:
		return text + "EXPIRED"
	case c.DaysLeft < 2:
		return text + fmt.Sprintf("%.0f h left", 24*c.DaysLeft)
	default:
		return text + fmt.Sprintf("%d days left", int(c.DaysLeft))
	}
}

// tablesText renders an [[upstream]] for each upstream, with the pins that were found.
func tablesText(targets []target, findings []*probe.Finding) string {
	var b strings.Builder
	for from := 0; from < len(targets); {
		to := from + 1
		for to < len(targets) && targets[to].Upstream == targets[from].Upstream && targets[to].ServerName == targets[from].ServerName {
			to++
		}
		b.WriteString(tableText(targets[from:to], findings[from:to]))
		from = to
	}
	return b.String()
}

// tableText renders one upstream: its addresses that are accepted or, if none is, those that present
// something.
func tableText(targets []target, findings []*probe.Finding) string {
	accepted := slices.ContainsFunc(findings, func(f *probe.Finding) bool { return f.Accepted })
	var addresses, comments []string
	var shown []*probe.Finding
	for _, f := range findings {
		switch {
		case accepted && !f.Accepted:
			comments = append(comments, fmt.Sprintf("# Left out: %s, since it is refused.", f.Address))
		case len(f.Chain) > 0:
			addresses, shown = append(addresses, quoted(f.Address)), append(shown, f)
		}
	}
	if len(shown) == 0 {
		return ""
	}
	if !shown[0].Authenticated {
		comments = append(comments, "# NOT AUTHENTICATED: these pins may be anybody's. Compare them with those that",
			"# the upstream's operator publishes.")
	}
	var b strings.Builder
	for _, comment := range comments {
		fmt.Fprintln(&b, comment)
	}
	t := &targets[0]
	b.WriteString("[[upstream]]\n")
	key := func(name, value string) { fmt.Fprintf(&b, "%-11s = %s\n", name, value) }
	if !t.adHoc {
		key("name", quoted(t.Upstream))
	}
	key("addresses", "["+strings.Join(addresses, ", ")+"]")
	if t.ServerName != "" {
		key("server_name", quoted(t.ServerName))
	}
	if t.caFile != "" {
		key("ca_file", quoted(t.caFile))
	}
	if t.ReportOnly {
		key("pin_mode", quoted("report"))
	}
	b.WriteString("pins        = [\n" + pinsText(shown) + "]\n\n")
	return b.String()
}

// pinsText renders the pins of leaves and their issuers, each once.
func pinsText(shown []*probe.Finding) string {
	var order []string
	comments := map[string]string{} // by pin
	at := map[string][]string{}     // addresses, by pin of a leaf
	add := func(c *probe.Certificate) {
		if c != nil && comments[c.Pin] == "" {
			order = append(order, c.Pin)
			comments[c.Pin] = c.Role + " " + c.Subject
		}
	}
	for _, f := range shown {
		leaf, _ := f.Pinnable()
		add(leaf)
		at[leaf.Pin] = append(at[leaf.Pin], f.Address)
	}
	leaves := len(order)
	for _, f := range shown {
		_, issuer := f.Pinnable()
		add(issuer)
	}
	var b strings.Builder
	for i, pin := range order {
		comment := comments[pin]
		if i < leaves && leaves > 1 {
			comment += " at " + strings.Join(at[pin], ", ")
		}
		fmt.Fprintf(&b, "  %q, # %s\n", pin, comment)
	}
	if leaves == len(order) {
		b.WriteString("  # No issuer is known: add the pin of a backup key (RFC 7858, section 4.2).\n")
	}
	return b.String()
}
