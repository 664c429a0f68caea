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
)

// Bounds of what either side sends, in octets, and of the time that it may take.
const (
	maxRequest = 4 << 10
	maxAnswer  = 4 << 20
	patience   = 5 * time.Second  // for the other side to read or write
	workTime   = 15 * time.Second // for the work in between
)

// Request is what a client asks.
type Request struct {
	Command string `json:"command"`
	Name    string `json:"name,omitempty"`    // flush, explain: a domain name
	Type    string `json:"type,omitempty"`    // explain: a QTYPE
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
