// Package config turns the TOML file into checked values of the packages that
// obey them: defaults, bounds, errors that name file, line and key, and the
// difference between two configurations.
//
// It opens no socket and changes nothing; only cmd imports it.
package config

import (
	"log/slog"
	"net/netip"

	"dnsproxy/internal/forwarder"
	"dnsproxy/internal/frontend"
	"dnsproxy/internal/sandbox"
	"dnsproxy/internal/upstream"
)

// Route is a [[route]] of the file.
type Route struct {
	Domains   []string // lower case, without the last dot
	Upstreams []string
}

// Config is a checked configuration.
type Config struct {
	Listen    []netip.AddrPort
	LogLevel  slog.Level
	Sandbox   sandbox.Mode
	CacheSize int64 // bytes
	Frontend  frontend.Limits
	Forwarder forwarder.Settings // without its Routes, which cmd makes of Routes and Upstreams
	Selection upstream.Settings
	Upstreams []upstream.Upstream
	Routes    []Route
	CAFiles   []string // every CA file that was read
}
