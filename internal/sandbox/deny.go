//go:build !sandboxtrap

package sandbox

// denial is what a call on no list meets: EPERM, so that a library which merely asks for
// something better goes on without it.
const denial = denyErrno
