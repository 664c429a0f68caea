// Package control is the daemon's word to its operator: one question and one answer over a
// Unix socket, each a line of JSON.
//
// It binds no socket and knows nothing of what is asked about: the daemon passes the
// listeners and a Handler. The names in the JSON are a contract; more may join
// them. Client and server are safe for concurrent use.
package control

import (
	"encoding/json"
	"errors"
	"time"
)

// Path is where the packages put the socket.
const Path = "/run/dnsproxy/control"

// The commands.
const (
	CommandStatus  = "status"
	CommandFlush   = "flush"
	CommandExplain = "explain"
	CommandReload  = "reload"
)

// Bounds of what either side sends, in octets, and of the time that it may take.
const (
	maxRequest = 4 << 10
	maxAnswer  = 4 << 20
	patience   = 5 * time.Second // for the other side to read or write
)

// workTime is how long the work in between may take. That of a query is bounded by the
// configuration's timeout, a minute at most.
func workTime(command string) time.Duration {
	if command == CommandExplain {
		return 65 * time.Second
	}
	return 15 * time.Second
}

// Request is what a client asks.
type Request struct {
	Command string `json:"command"`
	Name    string `json:"name,omitempty"`    // flush, explain: a domain name
	Type    string `json:"type,omitempty"`    // explain: a QTYPE; "" is A
	DNSSEC  bool   `json:"dnssec,omitempty"`  // explain: ask for DNSSEC records, as with the bit DO
	Subtree bool   `json:"subtree,omitempty"` // flush: also what is below Name
}

// answer is what the daemon says.
type answer struct {
	Error  string          `json:"error,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
}

// Flushed is the answer to CommandFlush.
type Flushed struct {
	Entries int `json:"entries"`
}

// Reloaded is the answer to CommandReload, if the configuration is in force then.
type Reloaded struct {
	Changes      []string `json:"changes"`
	NeedsRestart []string `json:"needs_restart"` // keys of those that are not in force before the next start
}

// parseRequest reads one line.
func parseRequest(line []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return r, errors.New(`the request is no line of JSON such as {"command":"status"}`)
	}
	if r.Command == "" {
		return r, errors.New("the request names no command")
	}
	return r, nil
}
