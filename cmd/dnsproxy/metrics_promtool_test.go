//go:build promtool

package main_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Prometheus' own linter, of Debian's package prometheus, has nothing to say.
//
//	go test -tags=promtool -run '^TestPromtool$' ./cmd/dnsproxy
func TestPromtool(t *testing.T) {
	page, _, _ := scraped(t)
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
