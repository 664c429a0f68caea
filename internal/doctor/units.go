package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The units.
const (
	socketUnit  = "dnsproxy.socket"
	serviceUnit = "dnsproxy.service"
)

// UnitNames are the units that the checks want to know of.
func UnitNames() []string { return []string{socketUnit, serviceUnit, "systemd-resolved.service"} }

// UnitProperties are what they want to know of each.
func UnitProperties() []string {
	return []string{"Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "Result", "Listen"}
}

// Units is what systemd says of units, by their names; empty where there is no systemd to ask.
type Units map[string]Unit

// Unit is one of them; the names are systemctl(1)'s.
type Unit struct {
	Load, Active, Sub string
	File              string // UnitFileState: "enabled", "disabled", ...
	Stale             bool   // NeedDaemonReload
	Result            string
	Listen            []netip.AddrPort
}

func (u Unit) loaded() bool { return u.Load == "loaded" }

// ParseUnits reads what "systemctl show" prints: a paragraph of KEY=VALUE for each unit. Listen= comes once for
// each address, with the kind of socket behind it, and it is long since systemd 240; before, all were on one line.
func ParseUnits(text string) Units {
	units := Units{}
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		var u Unit
		id := ""
		for line := range strings.Lines(paragraph) {
			key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
			switch key {
			case "Id":
				id = value
			case "LoadState":
				u.Load = value
			case "ActiveState":
				u.Active = value
			case "SubState":
				u.Sub = value
			case "UnitFileState":
				u.File = value
			case "NeedDaemonReload":
				u.Stale = value == "yes"
			case "Result":
				u.Result = value
			case "Listen":
				for f := range strings.FieldsSeq(value) {
					if a, err := netip.ParseAddrPort(f); err == nil && !slices.Contains(u.Listen, a) {
						u.Listen = append(u.Listen, a)
					}
				}
			}
		}
		if id != "" {
			units[id] = u
		}
	}
	return units
}

// units tells whether systemd runs dnsproxy, and would after the next start of the machine.
func (x *examination) units() {
	socket, service := x.Units[socketUnit], x.Units[serviceUnit]
	switch {
	case len(x.Units) == 0:
		x.say(checkUnits, Note, "not seen: systemd does not run here, or does not answer", "")
		return
	case !socket.loaded():
		s := Problem
		if x.Status != nil {
			s = Note
		}
		x.say(checkUnits, s, socketUnit+" is "+orUnknown(socket.Load), `install the package; "systemctl unmask dnsproxy.socket" if it is masked`)
		return
	case socket.Stale || service.Stale:
		x.say(checkUnits, Warning, "units of dnsproxy changed since systemd read them", `"systemctl daemon-reload", then "systemctl restart dnsproxy.socket dnsproxy.service"`)
	}
	enabled := strings.HasPrefix(socket.File, "enabled") || strings.HasPrefix(service.File, "enabled")
	switch {
	case socket.Active == "failed":
		x.say(checkUnits, Problem, fmt.Sprintf("%s failed (%s)", socketUnit, socket.Result), `see "port 53" below and "journalctl -u dnsproxy.socket"; then "systemctl restart dnsproxy.socket"`)
	case socket.Active != "active" && !enabled:
		x.say(checkUnits, Problem, socketUnit+" is "+orUnknown(socket.Active)+", and not enabled", `"systemctl enable --now dnsproxy.socket"`)
	case socket.Active != "active":
		x.say(checkUnits, Problem, socketUnit+" is "+orUnknown(socket.Active), `"systemctl start dnsproxy.socket"`)
	case !enabled:
		x.say(checkUnits, Warning, socketUnit+" is active, but not enabled: it is gone after the next start of the machine", `"systemctl enable dnsproxy.socket"`)
	default:
		x.ok(checkUnits, socketUnit+" is active and enabled")
	}
	x.service(service)
}

// service tells of the daemon's unit.
func (x *examination) service(u Unit) {
	why := `"systemctl status dnsproxy" and "journalctl -u dnsproxy" tell why; "dnsproxy check" tells what is wrong with the configuration`
	switch {
	case u.Active == "active" || u.Active == "reloading":
		x.ok(checkUnits, serviceUnit+" is active")
	case u.Active == "inactive" && x.Units[socketUnit].Active != "active": // of which all was said
	case u.Active == "inactive":
		x.say(checkUnits, Note, serviceUnit+" is not running: the first query starts it", "")
	case u.Active == "failed" || u.Sub == "auto-restart":
		x.say(checkUnits, Problem, fmt.Sprintf("%s does not stay up (%s, %s, %s)", serviceUnit, u.Active, u.Sub, u.Result), why)
	default:
		x.say(checkUnits, Note, serviceUnit+" is "+orUnknown(u.Active), "")
	}
}

func orUnknown(state string) string {
	if state == "" {
		return "unknown"
	}
	return state
}
