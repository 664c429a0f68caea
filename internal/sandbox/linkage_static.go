//go:build !cgo

package sandbox

// linkageRules: a static Go program starts its threads itself.
func linkageRules() []rule { return nil }
