package upstream

import (
	"log/slog"

	"dnsproxy/internal/dot"
)

// Client and Pending are what the tests' fakes have to be.
type (
	Client  = client
	Pending = pending
)

// NewPoolOf returns a pool of clients that newClient makes.
func NewPoolOf(log *slog.Logger, newClient func(dot.Endpoint, *slog.Logger) Client) *Pool {
	return newPool(log, newClient)
}
