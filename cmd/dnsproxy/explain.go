package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/miekg/dns"

	"dnsproxy/internal/control"
	"dnsproxy/internal/dot"
)

const explainHelp = `[--dnssec] [--json] [--socket=PATH] NAME [TYPE]

Has the daemon answer a query, and tells the way that it took: the route, what
the cache had, each upstream asked with times and errors, the answer.

  --dnssec       ask for DNSSEC records too, as validating clients do: such
                 answers are cached apart
  --json         print JSON
  --socket=PATH  the daemon's control socket (` + control.Path + `)

TYPE is A unless given. The exit code is 1 if no upstream gave an answer.`

// explainCommand is the command "explain".
func explainCommand(args []string, stdout, stderr io.Writer) error {
	o := newOptions("explain", explainHelp, stdout)
	dnssec := o.Bool("dnssec", false, "")
	asJSON := o.Bool("json", false, "")
	path := o.socket()
	operands, err := o.parseArgs(args, 2, stderr)
	if err != nil {
		return err
	}
	r := control.Request{Command: control.CommandExplain, DNSSEC: *dnssec}
	switch len(operands) {
	case 0:
		return o.wrong(fmt.Errorf("NAME is missing"), stderr)
	case 2:
		r.Type = operands[1]
	}
	r.Name = operands[0]
	if _, err := queryOf(r); err != nil { // as the daemon would say
		return o.wrong(err, stderr)
	}
	var e control.Explanation
	if err := ask(*path, r, &e); err != nil {
		return err
	}
	if *asJSON {
		err = writeJSON(stdout, &e)
	} else {
		_, err = stdout.Write(explanationText(&e, screenOf(stdout)))
	}
	if err == nil && (e.Source == control.SourceNone || e.Source == control.SourceFailure) {
		return errReported
	}
	return err
}

// explanationText renders an explanation for people.
func explanationText(e *control.Explanation, on screen) []byte {
	p := &page{width: on.width}
	p.fact("query", e.Name+" "+e.Type)
	if e.Local != "" {
		p.fact("local", "answered by dnsproxy itself, asking nobody")
	} else {
		p.fact("route", routeText(e))
		p.fact("cache", cacheText(e))
		for _, s := range e.Steps {
			p.fact(fmt.Sprintf("  %6.1f ms", 1000*float64(s.After)), stepText(&s))
		}
	}
	p.fact("answer", e.RCode+", "+sourceText(e))
	for _, ede := range e.EDE {
		p.fact("", "EDE "+ede)
	}
	p.records(e.Message)
	return p.Bytes()
}

// ready is the state of an address with a session.
var ready = dot.Ready.String()

func routeText(e *control.Explanation) string {
	var all []string
	for _, v := range e.Via {
		text := fmt.Sprintf("%s %s (%s", v.Upstream, v.Address, v.State)
		if v.Error != "" && v.State != idle && v.State != ready {
			text += ", " + v.Error
		}
		all = append(all, text+")")
	}
	route := "the default"
	if e.Route != "." {
		route = e.Route
	}
	return route + ": " + strings.Join(all, ", ")
}

func cacheText(e *control.Explanation) string {
	text := "nothing"
	if s := e.Entry; s != nil {
		used := plural(uint64(s.Hits), "time", "times")
		if s.Hits >= control.MaxHits {
			used = "at least " + used
		}
		text = fmt.Sprintf("%s, %s old, used %s, ", s.RCode, span(s.Age.Duration()), used)
		if s.Fresh {
			text += span(s.Left.Duration()) + " left"
		} else {
			text += "expired " + span(-s.Left.Duration()) + " ago"
		}
	}
	if s := e.Failure; s != nil {
		text += fmt.Sprintf("; a failure (%s), remembered for another %s", s.RCode, span(s.Left.Duration()))
	}
	return text
}

func stepText(s *control.Step) string {
	text := fmt.Sprintf("%s %s %s", s.Upstream, s.Address, s.Event)
	if strings.HasPrefix(s.Event, "asked") {
		text += fmt.Sprintf(" (session %s)", s.State)
	}
	switch {
	case s.Reason != "" && s.Error != "":
		text += ": " + s.Reason + ", " + s.Error
	case s.Reason+s.Error != "":
		text += ": " + s.Reason + s.Error
	}
	return text
}

func sourceText(e *control.Explanation) string {
	switch e.Source {
	case control.SourceLocal:
		return "from a local rule"
	case control.SourceCache:
		return "from the cache"
	case control.SourceStale:
		return "from the cache, though expired, since no upstream gave one in time"
	case control.SourceFailure:
		return "a failure that is remembered; \"dnsproxy flush " + e.Name + "\" forgets it"
	case control.SourceUpstream:
		if len(e.Steps) == 0 {
			return "from an upstream, together with others who asked the same, after " + short(e.Took)
		}
		return "from an upstream after " + short(e.Took)
	default:
		return "as no upstream answered within " + short(e.Took)
	}
}

// records writes an answer's records as zone files have them (RFC 1035, section 5.1).
func (p *page) records(msg []byte) {
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil {
		p.fact("", fmt.Sprintf("(%d octets with records that cannot be shown: %v)", len(msg), err))
		return
	}
	for _, section := range []struct {
		title string
		rrs   []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", m.Extra}} {
		for _, rr := range section.rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				fmt.Fprintf(p, "  %-10s  %s\n", section.title, printable(strings.ReplaceAll(rr.String(), "\t", " ")))
			}
		}
	}
}
