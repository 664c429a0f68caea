//go:build promtool

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Prometheus' own linter, of Debian's package prometheus, has nothing to say of the metrics; and all that the alert
// rules and the dashboard name is there.
//
//	go test -tags=promtool -run '^TestPromtool$' ./cmd/dnsproxy
func TestPromtool(t *testing.T) {
	page, _, _ := scraped(t)
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	file := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("../../packaging/prometheus/check", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
