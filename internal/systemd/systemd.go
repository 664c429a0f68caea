// Package systemd is the contract with the service manager: sockets in, state
// out, watchdog. It does nothing, quietly, where there is no service manager.
package systemd
