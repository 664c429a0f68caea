package main

import (
	"fmt"
	"io"

	"dnsproxy/internal/config"
)

const checkHelp = `[--config=FILE] [--quiet]

Checks a configuration and prints what is in force: every key, with defaults
filled in. Warnings go to standard error, and so does every fault, with file,
line and key; then the exit code is 1.

  --config=FILE  the configuration (` + defaultConfig + `)
  --quiet        print faults and warnings only`

// check is the command "check".
func check(args []string, stdout, stderr io.Writer) error {
	o := newOptions("check", checkHelp, stdout)
	path := o.config()
	quiet := o.Bool("quiet", false, "")
	if err := o.parse(args, stderr); err != nil {
		return err
	}
	cfg, err := config.Load(*path)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return errReported
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(stderr, "warning:", w)
	}
	if *quiet {
		return nil
	}
	_, err = cfg.WriteTo(stdout)
	return err
}
