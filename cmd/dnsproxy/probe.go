package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"dnsproxy/internal/config"
	"dnsproxy/internal/dot"
	"dnsproxy/internal/upstream"
)

const probeHelp = `[OPTIONS] [ADDRESS[:PORT] [SERVER_NAME]]

Shows what an upstream presents: TLS version, suite, group, certificates with
their pins, times; and whether the daemon would accept it, or why not. Without
ADDRESS, every address of the configuration is probed. Needs neither root nor a
daemon. A query is sent only to an upstream that is authenticated.

  --config=FILE   the configuration (` + defaultConfig + `)
  --json          print JSON
  --timeout=TIME  for each step (5s)

The exit code is 1 if any address would be refused.`

// probe is the command "probe".
func probe(args []string, stdout, stderr io.Writer) error {
	o := newOptions("probe", probeHelp, stdout)
	path := o.config()
	asJSON := o.Bool("json", false, "")
	timeout := o.Duration("timeout", 5*time.Second, "")
	target, err := o.parseArgs(args, 2, stderr)
	if err != nil {
		return err
	}
	endpoints, err := probeTargets(*path, target)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return errReported
	}
	var findings []*finding
	refused := false
	for _, e := range endpoints {
		f := inspect(e, *timeout)
		findings = append(findings, f)
		refused = refused || !f.Accepted
		if !*asJSON {
			f.print(stdout)
		}
	}
	if *asJSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(findings); err != nil {
			return err
		}
	}
	if refused {
		return errReported
	}
	return nil
}

// probeTargets returns the endpoints of the configuration at path or, if the command line names
// an address and maybe a server name, that one.
func probeTargets(path string, target []string) ([]dot.Endpoint, error) {
	if len(target) == 0 {
		cfg, err := config.Load(path)
		if err != nil {
			return nil, err
		}
		return endpointsOf(cfg.Upstreams), nil
	}
	// Told as a configuration, the target gets the defaults and the checks of one.
	text := fmt.Sprintf("[[upstream]]\naddresses = [%q]\n", target[0])
	if len(target) == 2 {
		text += fmt.Sprintf("server_name = %q\n", target[1])
	} else {
		text += fmt.Sprintf("pins = [%q]\n", unknownPin)
	}
	cfg, err := config.Parse([]byte(text), "command line", os.ReadFile)
	if err != nil {
		return nil, err
	}
	endpoints := endpointsOf(cfg.Upstreams)
	if len(target) == 1 {
		endpoints[0].Pins = nil
	}
	return endpoints, nil
}

// unknownPin is the pin of no key: it stands in until pins are known.
var unknownPin = strings.Repeat("A", 43) + "="

func endpointsOf(ups []upstream.Upstream) (all []dot.Endpoint) {
	for _, u := range ups {
		all = append(all, u.Endpoints...)
	}
	return all
}
