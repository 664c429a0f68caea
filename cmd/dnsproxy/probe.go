package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"dnsproxy/internal/config"
	"dnsproxy/internal/dot"
	"dnsproxy/internal/probe"
)

const probeHelp = `[OPTIONS] [ADDRESS[:PORT] [SERVER_NAME]]

Shows what answers at each address of the configuration, or at ADDRESS: TLS
version, suite, group, certificates with their pins, times, how it answers; and
whether the daemon would use it, or why not. It ends with an [[upstream]] table
to paste. Needs neither root nor a daemon. Only what is authenticated, by
SERVER_NAME or as the configuration has it for ADDRESS, is sent a query.

  --config=FILE   the configuration (` + defaultConfig + `)
  --json          print JSON, a list: for each address "upstream", "address",
                  "server_name", "accepted", "authenticated", "reason", "error",
                  "session", "times", "answers" and "chain"; see dnsproxy(8)
  --timeout=TIME  for each step (5s)

The exit code is 1 if any address would be refused.`

// probeCommand is the command "probe".
func probeCommand(args []string, stdout, stderr io.Writer) error {
	o := newOptions("probe", probeHelp, stdout)
	path := o.config()
	asJSON := o.Bool("json", false, "")
	timeout := o.Duration("timeout", 5*time.Second, "")
	operands, err := o.parseArgs(args, 2, stderr)
	if err != nil {
		return err
	}
	if *timeout <= 0 {
		return o.wrong(fmt.Errorf("want a --timeout above 0, got %v", *timeout), stderr)
	}
	var targets []target
	chosen := false
	o.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "config" })
	if len(operands) == 0 {
		targets, err = configured(*path)
	} else {
		targets, err = named(operands, *path, chosen, stderr)
	}
	var wrong *operandError
	switch {
	case errors.As(err, &wrong):
		return o.wrong(wrong, stderr)
	case err != nil:
		fmt.Fprintln(stderr, err)
		return errReported
	}
	findings, err := inspectAll(targets, *timeout, stdout, *asJSON)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(findings, func(f *probe.Finding) bool { return !f.Accepted }) {
		return errReported
	}
	return nil
}

// target is what is probed.
type target struct {
	dot.Endpoint
	caFile string // the upstream's own, for the table; "" if it has none
	adHoc  bool   // it is the command line's: the configuration does not have it
}

// configured returns all that the configuration at path has.
func configured(path string) ([]target, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	return targetsOf(cfg), nil
}

func targetsOf(cfg *config.Config) (all []target) {
	for _, u := range cfg.Upstreams {
		own := cfg.CAFileOf(u.Name)
		if own == cfg.TLS.CAFile {
			own = ""
		}
		for _, e := range u.Endpoints {
			all = append(all, target{Endpoint: e, caFile: own})
		}
	}
	return all
}

// operandError is what is wrong with an address or a name of the command line.
type operandError struct{ error }

// unknownPin is the pin of no key: it stands in where nothing authenticates yet.
var unknownPin = strings.Repeat("A", 43) + "="

// named returns what the command line names: ADDRESS as the configuration has it unless
// SERVER_NAME is another, else under its [tls].
func named(operands []string, path string, mustLoad bool, stderr io.Writer) ([]target, error) {
	cfg, err := config.Load(path)
	switch {
	case err == nil:
	case mustLoad:
		return nil, err
	case !errors.Is(err, fs.ErrNotExist):
		// Whoever is about to write it needs pins.
		fmt.Fprintf(stderr, "dnsproxy probe: taking the defaults, since %s cannot be used; see \"dnsproxy check\"\n", path)
	}
	one, err := parseTarget(operands, cfg)
	if err != nil || cfg == nil {
		return []target{one}, err
	}
	known := slices.DeleteFunc(targetsOf(cfg), func(t target) bool {
		return t.Addr != one.Addr || one.ServerName != "" && t.ServerName != one.ServerName
	})
	if len(known) > 0 {
		return known, nil
	}
	one.Suites, one.Groups, one.RequirePQ = cfg.TLS.Suites, cfg.TLS.Groups, cfg.TLS.RequirePQ
	return []target{one}, nil
}

// parseTarget reads ADDRESS and SERVER_NAME. Told as a configuration, they get its checks.
func parseTarget(operands []string, cfg *config.Config) (target, error) {
	var text strings.Builder
	if cfg != nil && cfg.TLS.CAFile != "" {
		fmt.Fprintf(&text, "tls.ca_file = %s\n", quoted(cfg.TLS.CAFile))
	}
	fmt.Fprintf(&text, "[[upstream]]\naddresses = [%s]\n", quoted(operands[0]))
	if len(operands) == 2 {
		fmt.Fprintf(&text, "server_name = %s\n", quoted(operands[1]))
	} else {
		fmt.Fprintf(&text, "pins = [%q]\n", unknownPin)
	}
	one, err := config.Parse([]byte(text.String()), "the command line", os.ReadFile)
	var faults config.Faults
	switch {
	case errors.As(err, &faults) && !strings.HasPrefix(faults[0].Key, "tls."):
		problem := faults[0].Problem
		if faults[0].Hint != "" {
			problem += "; " + faults[0].Hint
		}
		return target{}, &operandError{errors.New(problem)}
	case err != nil:
		return target{}, err
	}
	t := target{Endpoint: one.Upstreams[0].Endpoints[0], adHoc: true}
	if len(operands) == 1 {
		t.Pins = nil
	}
	return t, nil
}

// quoted returns s as a string of TOML, which JSON's are.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("dnsproxy: internal error: " + err.Error()) // any string has a JSON
	}
	return string(b)
}

// atOnce is how many addresses are probed at the same time: those that do not answer should not hold up
// the others, and few at a time do not spoil each other's times.
const atOnce = 4

// inspectAll probes all targets and prints what it finds, in their order.
func inspectAll(targets []target, timeout time.Duration, stdout io.Writer, asJSON bool) ([]*probe.Finding, error) {
	findings := make([]*probe.Finding, len(targets))
	ready := make([]chan struct{}, len(targets))
	turns := make(chan struct{}, atOnce)
	for i := range targets {
		ready[i] = make(chan struct{})
		go func() {
			defer close(ready[i])
			turns <- struct{}{}
			defer func() { <-turns }()
			findings[i] = probe.Inspect(context.Background(), targets[i].Endpoint, timeout)
		}()
	}
	for i := range targets {
		<-ready[i]
		if !asJSON {
			if _, err := io.WriteString(stdout, findingText(findings[i])); err != nil {
				return nil, err
			}
		}
	}
	if asJSON {
		out := json.NewEncoder(stdout)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return findings, out.Encode(findings)
	}
	_, err := io.WriteString(stdout, tablesText(targets, findings))
	return findings, err
}
