package main

import (
	"fmt"
	"io"
	"time"
)

// print writes the finding for people, and last a table to paste.
func (f *finding) print(w io.Writer) {
	fmt.Fprintf(w, "%s (%s", f.Address, f.Upstream)
	if f.ServerName != "" && f.ServerName != f.Upstream {
		fmt.Fprintf(w, ", %s", f.ServerName)
	}
	fmt.Fprintln(w, ")")
	if f.Accepted {
		fmt.Fprintln(w, "  accepted")
	} else {
		fmt.Fprintf(w, "  refused: %s\n", f.Refused)
	}
	if f.Version == "" {
		return
	}
	quantum := "not post-quantum"
	if f.PostQuantum {
		quantum = "post-quantum"
	}
	alpn := "none"
	if f.ALPN != "" {
		alpn = f.ALPN
	}
	resumes := "sessions do not resume"
	if f.Resumes {
		resumes = fmt.Sprintf("resumed in %.1f ms", f.Resumed)
	}
	fmt.Fprintf(w, "  session    %s, %s, %s (%s), ALPN %s\n", f.Version, f.Suite, f.Group, quantum, alpn)
	fmt.Fprintf(w, "  times      connect %.1f ms, handshake %.1f ms, %s", f.Connect, f.Handshake, resumes)
	if f.Accepted {
		fmt.Fprintf(w, ", answer %.1f ms, %d at once %.1f ms", f.Answer, burstSize, f.Burst)
	}
	fmt.Fprintln(w)
	if f.IdleTimeout > 0 {
		fmt.Fprintf(w, "  idle       closed after %v\n", time.Duration(f.IdleTimeout)*time.Millisecond)
	}
	for i, c := range f.Chain {
		role := "issuer"
		if i == 0 {
			role = "leaf"
		}
		fmt.Fprintf(w, "  %-9s  %s\n             issued by %s\n             valid until %s (%d days)\n             pin %s%s\n",
			role, c.Subject, c.Issuer, c.NotAfter.Format(time.DateOnly), int(time.Until(c.NotAfter).Hours()/24), c.Pin, f.match(c))
	}
	f.printTable(w)
}

// match says whether a certificate's pin is configured, if any is.
func (f *finding) match(c certificate) string {
	switch {
	case c.Match:
		return " (configured)"
	case f.pinned:
		return " (not configured)"
	default:
		return ""
	}
}

// printTable writes an [[upstream]] that has the pins of leaf and issuer.
func (f *finding) printTable(w io.Writer) {
	if len(f.Chain) == 0 {
		return
	}
	fmt.Fprintf(w, "\n[[upstream]]\naddresses = [%q]\n", f.Address)
	if f.ServerName != "" {
		fmt.Fprintf(w, "server_name = %q\n", f.ServerName)
	}
	fmt.Fprintln(w, "pins = [")
	for i, c := range f.Chain[:min(2, len(f.Chain))] {
		role := "its issuer, which outlives it"
		if i == 0 {
			role = "the leaf"
		}
		fmt.Fprintf(w, "  %q, # %s\n", c.Pin, role)
	}
	fmt.Fprint(w, "]\n\n")
}
