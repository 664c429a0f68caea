package doctor

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the system's.
type Clock struct {
	Now          time.Time
	Synchronised bool  // the kernel was told so, by whoever keeps the time
	Err          error // why that is not known
}

// ReadClock asks the kernel; it changes nothing, and needs no privilege (adjtimex(2)).
func ReadClock() Clock {
	var t unix.Timex
	_, err := unix.Adjtimex(&t)
	return Clock{Now: time.Now(), Synchronised: t.Status&unix.STA_UNSYNC == 0, Err: err}
}

// oldest is a year before this program was written: whoever is told it is earlier has a clock that forgot.
const oldest = 2025

// clock tells whether certificates can be checked: they are valid at some times only.
func (x *examination) clock() {
	fix := `"timedatectl set-ntp true", or run chrony or ntpd`
	switch c := x.Clock; {
	case c.Now.IsZero():
	case c.Now.Year() < oldest:
		x.say(checkClock, Problem, "the clock says "+c.Now.Format(time.DateOnly)+": no certificate is valid yet", fix)
	case c.Err != nil:
		x.say(checkClock, Note, "whether the clock is synchronised is not seen: "+c.Err.Error(), "")
	case !c.Synchronised:
		x.say(checkClock, Warning, "the clock is not synchronised; if it goes wrong, no certificate is accepted", fix)
	default:
		x.ok(checkClock, "synchronised")
	}
}
