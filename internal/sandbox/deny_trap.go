//go:build sandboxtrap

package sandbox

// denial is a crash whose registers name the call, in daemons built for audits: run the
// acceptance tests with one after each change of the Go release. Such a daemon does not
// verify its seal.
const denial = denyTrap
