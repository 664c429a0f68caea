package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"dnsproxy/internal/control"
)

// soon is how long before a certificate's end to speak of it.
const soon = 14 * 24 * time.Hour

// configuration tells of the file.
func (x *examination) configuration() {
	checkIt := fmt.Sprintf(`correct it; "dnsproxy check --config=%s --quiet" tells whether it is good`, x.File)
	if x.Config == nil {
		x.fault(checkIt)
		return
	}
	for _, w := range x.Config.Warnings {
		x.say(checkConfiguration, Warning, w, checkIt)
	}
	if x.Status == nil {
		x.ok(checkConfiguration, x.File+" is good")
		return
	}
	c := &x.Status.Config
	switch {
	case c.LastError != "":
		x.say(checkConfiguration, Problem, fmt.Sprintf("the reload on %s failed, so what was loaded on %s is in force: %s", c.FailedAt.Format(time.DateTime), c.Loaded.Format(time.DateTime), c.LastError),
			`"systemctl reload dnsproxy", as the file is good by itself; "systemctl restart dnsproxy" if that is asked for`)
	case c.File != x.File:
		x.say(checkConfiguration, Note, fmt.Sprintf("%s is good, but the daemon runs with %s", x.File, c.File), "dnsproxy doctor --config="+c.File)
	case x.Modified.After(c.Loaded):
		x.say(checkConfiguration, Warning, fmt.Sprintf("%s was changed on %s, after it was loaded", x.File, x.Modified.Format(time.DateTime)), `"systemctl reload dnsproxy"`)
	default:
		x.ok(checkConfiguration, x.File+" is good, and in force")
	}
}

// fault tells why the file cannot be loaded.
func (x *examination) fault(checkIt string) {
	switch {
	case x.Fault == nil:
	case errors.Is(x.Fault, fs.ErrPermission):
		x.say(checkConfiguration, Note, x.Fault.Error(), `run "dnsproxy doctor" as root`)
	case errors.Is(x.Fault, fs.ErrNotExist):
		x.say(checkConfiguration, Problem, x.Fault.Error(), "cp /usr/share/doc/dnsproxy/examples/dnsproxy.toml "+x.File)
	default:
		for line := range strings.Lines(x.Fault.Error()) {
			x.say(checkConfiguration, Problem, line, checkIt)
		}
	}
}

// daemon tells whether it answers.
func (x *examination) daemon() {
	service := x.Units[serviceUnit]
	switch {
	case x.Status != nil:
		x.ok(checkDaemon, fmt.Sprintf("version %s, up for %s, serves %s", x.Status.Version, x.Status.Uptime.Duration().Round(time.Second), strings.Join(x.Status.Serving, ", ")))
	case x.Silent == nil:
	case x.Reach == Forbidden:
		x.say(checkDaemon, Note, "what it says of itself is not seen: this user may not use "+x.Socket, `run "dnsproxy doctor" as root or as a member of the socket's group`)
	case x.Reach == Absent && service.Active == "active":
		x.say(checkDaemon, Warning, "it runs, but nobody may ask it: there is no "+x.Socket, `"systemctl enable --now dnsproxy-control.socket", then "systemctl restart dnsproxy"`)
	case service.Active == "inactive":
		x.say(checkDaemon, Note, "it does not run, so what it would say of itself is not seen", `"systemctl start dnsproxy"`)
	default:
		finding, fix, _ := strings.Cut(x.Silent.Error(), "; ")
		x.say(checkDaemon, Problem, finding, fix)
	}
}

// sandbox tells what is not enforced.
func (x *examination) sandbox() {
	if x.Status == nil {
		if x.Config != nil && x.Config.Sandbox == "off" {
			x.say(checkSandbox, Warning, "the configuration turns it off", `sandbox = "best-effort" in `+x.File)
		}
		return
	}
	s := &x.Status.Sandbox
	switch {
	case s.Mode == "off":
		x.say(checkSandbox, Warning, "off", `sandbox = "best-effort" in `+x.Status.Config.File+`; then "systemctl restart dnsproxy"`)
	case len(s.Missing) > 0:
		for _, m := range s.Missing {
			x.say(checkSandbox, Warning, "not enforced: "+m, "a kernel with seccomp and Landlock's TCP rules (Linux 6.7), and both in its lsm= and configuration")
		}
	case !s.Complete:
		x.say(checkSandbox, Warning, "not all of it is enforced: "+s.Enforced, `"journalctl -u dnsproxy -g sandbox" tells why`)
	default:
		x.ok(checkSandbox, "all of it is enforced: "+s.Enforced)
	}
}

// upstreams tells which cannot be used.
func (x *examination) upstreams() {
	if x.Status == nil || len(x.Status.Upstreams) == 0 {
		return
	}
	broken := func(a control.Address) bool { return a.Error != "" && a.Session == nil }
	all := x.Status.Upstreams
	s := Warning
	if !slices.ContainsFunc(all, func(a control.Address) bool { return !broken(a) }) {
		s = Problem
		x.say(checkUpstreams, Problem, "none can be used: nothing is answered but from the cache", `see those below; "dnsproxy probe" asks each of them`)
	}
	good := 0
	for _, a := range all {
		switch {
		case broken(a):
			x.say(checkUpstreams, s, fmt.Sprintf("%s (%s) is %s: %s", a.Upstream, a.Address, a.State, a.Error), "dnsproxy probe "+a.Address)
		case a.Session != nil && a.Session.Pin == control.PinMismatch:
			x.say(checkUpstreams, Warning, fmt.Sprintf("%s (%s) presents none of the pins, which is only reported", a.Upstream, a.Address), "dnsproxy probe "+a.Address+`, then correct pins, or pin_mode = "enforce"`)
		default:
			good++
		}
	}
	if good == len(all) {
		x.ok(checkUpstreams, fmt.Sprintf("no fault is known of the %d addresses", good))
	}
}

// certificates tells which end soon.
func (x *examination) certificates() {
	if x.Status == nil {
		return
	}
	seen, first := 0, time.Duration(0)
	for _, a := range x.Status.Upstreams {
		if a.Session == nil || a.Session.NotAfter.IsZero() {
			continue
		}
		left := a.Session.NotAfter.Sub(x.Status.Now)
		if seen++; seen == 1 || left < first {
			first = left
		}
		if left >= soon {
			continue
		}
		finding := fmt.Sprintf("that of %s (%s) ends in %.1f days, on %s", a.Upstream, a.Address, left.Hours()/24, a.Session.NotAfter.Format(time.DateOnly))
		if left < 0 {
			finding = fmt.Sprintf("that of %s (%s) ended on %s: the next session will fail", a.Upstream, a.Address, a.Session.NotAfter.Format(time.DateOnly))
		}
		fix := "its operator is to renew it; have another upstream beside it"
		if a.Session.Pin != control.PinNone {
			fix += `, and the next key's pin in pins`
		}
		x.say(checkCertificates, Warning, finding, fix)
	}
	if seen > 0 && first >= soon {
		x.ok(checkCertificates, fmt.Sprintf("the first of those seen ends in %.0f days", first.Hours()/24))
	}
}
