// Package journal writes log records where the daemon's reader is: as fields to
// the systemd journal when standard error is connected to it, as plain text otherwise.
package journal
