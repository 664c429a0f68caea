// Package sandbox gives up for good what serving does not need, and says what
// the kernel enforces.
package sandbox

// Mode is what happens when the kernel cannot enforce a part.
type Mode string

// The modes.
const (
	Required   Mode = "required"    // sealing fails
	BestEffort Mode = "best-effort" // the part is skipped, and reported
	Off        Mode = "off"         // nothing is sealed
)

// Policy is what stays allowed.
type Policy struct {
	ReadDirs     []string // directories whose files may be read
	ConnectPorts []uint16 // TCP ports that may be connected to
}

// Covers reports whether everything that o allows is allowed by p.
func (p Policy) Covers(o Policy) bool { panic("not built yet") }

// Report is what is enforced.
type Report struct{}

// String renders the report as one line for the journal.
func (r Report) String() string { panic("not built yet") }

// Seal confines the process, on all its threads, to p.
func Seal(p Policy, m Mode) (Report, error) { panic("not built yet") }
