package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"dnsproxy/internal/control"
	"dnsproxy/internal/wire"
)

const flushHelp = `[--subtree] [--json] [--socket=PATH] [NAME]

Has the daemon forget what its cache has of NAME, all types and classes, or
all that it has. Prints how many entries that were. Sessions to upstreams stay.

  --subtree      also all names below NAME
  --json         print JSON
  --socket=PATH  the daemon's control socket (` + control.Path + `)`

// flushCommand is the command "flush".
func flushCommand(args []string, stdout, stderr io.Writer) error {
	o := newOptions("flush", flushHelp, stdout)
	subtree := o.Bool("subtree", false, "")
	asJSON := o.Bool("json", false, "")
	path := o.socket()
	operands, err := o.parseArgs(args, 1, stderr)
	if err != nil {
		return err
	}
	r := control.Request{Command: control.CommandFlush, Subtree: *subtree}
	if len(operands) > 0 {
		r.Name = operands[0]
	}
	if err := checkFlush(r, len(operands)); err != nil {
		return o.wrong(err, stderr)
	}
	var done control.Flushed
	if err := ask(*path, r, &done); err != nil {
		return err
	}
	if *asJSON {
		return writeJSON(stdout, done)
	}
	_, err = fmt.Fprintf(stdout, "%s forgotten\n", plural(uint64(done.Entries), "entry", "entries"))
	return err
}

// checkFlush finds what is wrong with a request before the daemon is asked.
func checkFlush(r control.Request, operands int) error {
	switch {
	case operands == 0 && r.Subtree:
		return errors.New("--subtree needs a NAME")
	case operands == 0:
		return nil
	case r.Name == "":
		return errors.New(`NAME is empty; leave it out to forget all, or write "." for the root`)
	}
	_, err := wireName(r.Name)
	return err
}

// isAtOrUnder returns what tells the keys of name, in wire form and lower case, or, if
// subtree is true, also of the names below it.
func isAtOrUnder(name []byte, subtree bool) func(key []byte) bool {
	return func(key []byte) bool {
		at := wire.KeyName(key)
		if !subtree {
			return bytes.Equal(at, name)
		}
		for len(at) > len(name) {
			at = at[1+at[0]:]
		}
		return bytes.Equal(at, name)
	}
}

// socket defines --socket.
func (o options) socket() *string { return o.String("socket", control.Path, "") }

// writeJSON writes v for machines, and for people who look at what machines read.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
