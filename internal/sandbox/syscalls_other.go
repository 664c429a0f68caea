//go:build !amd64 && !arm64 && !arm

package sandbox

// auditArch 0: nobody has derived a list for this architecture, so there is no filter.
const auditArch = 0

func archRules() []rule { return nil }
