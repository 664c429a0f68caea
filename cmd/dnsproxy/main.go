// Command dnsproxy forwards DNS queries to upstream resolvers over TLS 1.3.
//
// It is the composition root: the only package that knows all others. Each
// command has a file; run.go is the daemon.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// command is what the first argument names.
type command struct {
	name, synopsis string
	run            func(args []string, stdout, stderr io.Writer) error
}

func commands() []command {
	return []command{
		{"serve", "forward queries until told to stop", serve},
		{"check", "check a configuration and print what is in force", check},
		{"reload", "check the configuration and have the daemon read it", reloadCommand},
		{"status", "show what the daemon does and how its upstreams fare", status},
		{"flush", "have the daemon forget cached answers", flushCommand},
		{"explain", "have the daemon resolve a name, and tell how it did", explainCommand},
		{"probe", "show what an upstream presents, with its pins", probeCommand},
		{"doctor", "find what keeps this host from using dnsproxy", doctorCommand},
		{"demo", "try it: the same daemon beside an upstream of its own", demo},
		{"version", "print the version", printVersion},
	}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "--help", "-help", "-h":
		usage(stdout)
		return exitOK
	case "--version", "-version":
		args[0] = "version"
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return exitCode(c.name, c.run(args[1:], stdout, stderr), stderr)
		}
	}
	fmt.Fprintf(stderr, "dnsproxy: unknown command %q; run \"dnsproxy help\" to see all\n", args[0])
	return exitUsage
}

// errUsage is a command line that cannot be understood. What is wrong with it has been printed.
var errUsage = errors.New("wrong usage")

// errReported is a failure that has been printed.
var errReported = errors.New("failed")

func exitCode(name string, err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errReported):
		return exitFailed
	default:
		fmt.Fprintf(stderr, "dnsproxy %s: %v\n", name, err)
		return exitFailed
	}
}

func usage(w io.Writer) {
	fmt.Fprint(w, "dnsproxy forwards DNS queries to upstream resolvers over TLS 1.3.\n\nUsage: dnsproxy COMMAND [OPTIONS]\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-8s  %s\n", c.name, c.synopsis)
	}
	fmt.Fprint(w, "\n\"dnsproxy COMMAND --help\" tells the options of a command.\nThe manual is dnsproxy(8), the configuration's dnsproxy.toml(5).\n")
}

// defaultConfig is where the packages install the configuration.
const defaultConfig = "/etc/dnsproxy/dnsproxy.toml"

// options is a command's command line.
type options struct {
	*flag.FlagSet
	help func() // prints it
}

// newOptions returns the options of a command. help is what "--help" prints behind the command's name.
func newOptions(name, help string, stdout io.Writer) options {
	text := strings.Replace(name+" "+strings.TrimRight(help, "\n"), " \n", "\n", 1) // there may be no options
	o := options{flag.NewFlagSet(name, flag.ContinueOnError), func() { fmt.Fprintf(stdout, "Usage: dnsproxy %s\n", text) }}
	o.SetOutput(io.Discard) // parse says what is wrong, in one line
	o.Usage = func() {}     // which the package calls for what is wrong, too
	return o
}

// Parse is the FlagSet's, but prints help to those alone who ask for it.
func (o options) Parse(args []string) error {
	err := o.FlagSet.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		o.help()
	}
	return err
}

// config defines --config.
func (o options) config() *string { return o.String("config", defaultConfig, "") }

// parse reads args, which may hold no more than options.
func (o options) parse(args []string, stderr io.Writer) error {
	_, err := o.parseArgs(args, 0, stderr)
	return err
}

// parseArgs reads args and returns what is there beside options, at most so many. Options may
// stand before and behind it.
func (o options) parseArgs(args []string, most int, stderr io.Writer) (operands []string, err error) {
	for {
		err := o.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return nil, err
		case err != nil:
			return nil, o.wrong(err, stderr)
		case o.NArg() == 0:
			return operands, nil
		case len(operands) == most:
			return nil, o.wrong(fmt.Errorf("unexpected argument %q", o.Arg(0)), stderr)
		}
		operands, args = append(operands, o.Arg(0)), o.Args()[1:]
	}
}

// wrong says what is wrong with the command line.
func (o options) wrong(err error, stderr io.Writer) error {
	fmt.Fprintf(stderr, "dnsproxy %s: %v; see \"dnsproxy %s --help\"\n", o.Name(), err, o.Name())
	return errUsage
}
