package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"dnsproxy/internal/control"
	"dnsproxy/internal/doctor"
)

const doctorHelp = `[--json] [--config=FILE] [--socket=PATH] [--root=DIR]

Finds what keeps this host from using dnsproxy: who holds port 53, whom
/etc/resolv.conf and /etc/nsswitch.conf name and who writes them, loops, whom
containers ask, the clock, the units, and what the daemon says of its
configuration, sandbox, upstreams and their certificates. Tells for each finding
what to do. It changes nothing, and asks nobody but the daemon, systemd and the
kernel. Without root it sees less, and says so.

  --json         print JSON, a list: for each finding "check", "severity" ("ok",
                 "note", "warning" or "problem"), "finding" and "fix"
  --config=FILE  the configuration (the daemon's; if none runs,
                 ` + defaultConfig + `)
  --socket=PATH  the daemon's control socket (` + control.Path + `)
  --root=DIR     look at the files of the system under DIR, and at neither
                 units, interfaces nor clock

The exit code is 1 if there is a problem.`

// doctorCommand is the command "doctor".
func doctorCommand(args []string, stdout, stderr io.Writer) error {
	o := newOptions("doctor", doctorHelp, stdout)
	asJSON := o.Bool("json", false, "")
	file := o.String("config", "", "")
	root := o.String("root", "/", "")
	socket := o.socket()
	if err := o.parse(args, stderr); err != nil {
		return err
	}
	host := hostAt(*root)
	findings := doctor.Examine(host, patient(*file, *socket, *root, host.Units))
	if *asJSON {
		if err := writeJSON(stdout, findings); err != nil {
			return err
		}
	} else if _, err := stdout.Write(findingsText(findings)); err != nil {
		return err
	}
	if slices.ContainsFunc(findings, func(f doctor.Finding) bool { return f.Severity == doctor.Problem }) {
		return errReported
	}
	return nil
}

// findingsText returns a line for each finding, and one for each fix.
func findingsText(findings []doctor.Finding) []byte {
	var out bytes.Buffer
	for _, f := range findings {
		severity := string(f.Severity)
		if f.Severity == doctor.Problem {
			severity = strings.ToUpper(severity)
		}
		fmt.Fprintf(&out, "%-8s %s: %s\n", severity, f.Check, f.Finding)
		if f.Fix != "" {
			fmt.Fprintf(&out, "%-8s fix: %s\n", "", f.Fix)
		}
	}
	return out.Bytes()
}
