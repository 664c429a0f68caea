package sandbox_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dnsproxy/internal/sandbox"
)

var coversTests = []struct {
	name         string
	sealed, want sandbox.Policy
	covered      bool
}{
	{"nothing", sandbox.Policy{}, sandbox.Policy{}, true},
	{"the same", policy("/etc/dnsproxy", 853), policy("/etc/dnsproxy", 853), true},
	{"less", policy("/etc/dnsproxy", 853), sandbox.Policy{}, true},
	{"a directory below", policy("/etc", 853), policy("/etc/dnsproxy/ca", 853), true},
	{"a trailing slash", policy("/etc/", 853), policy("/etc", 853), true},
	{"a directory above", policy("/etc/dnsproxy", 853), policy("/etc", 853), false},
	{"a name that begins alike", policy("/etc/dns", 853), policy("/etc/dnsproxy", 853), false},
	{"a name that begins with dots", policy("/etc", 853), policy("/etc/..data", 853), true},
	{"a way out", policy("/etc", 853), policy("/etc/../root", 853), false},
	{"the root", policy("/", 853), policy("/etc", 853), true},
	{"another port", policy("/etc", 853), policy("/etc", 8853), false},
}

func policy(dir string, port uint16) sandbox.Policy {
	return sandbox.Policy{ReadDirs: []string{dir}, ConnectPorts: []uint16{port}}
}

func TestCovers(t *testing.T) {
	for _, test := range coversTests {
		if got := test.sealed.Covers(test.want); got != test.covered {
			t.Errorf("%s: got %t, want %t", test.name, got, test.covered)
		}
	}
}

// TestDirsOf lays out a ConfigMap as Kubernetes mounts it, which replaces ..data by
// renaming, and a CA file that is a link to another directory.
func TestDirsOf(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(root, name) }
	for _, dir := range []string{"config/..2026_01", "ssl/certs", "pki/extracted"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, at("config/..2026_01/dnsproxy.toml"), "")
	write(t, at("pki/extracted/bundle.pem"), "")
	for link, target := range map[string]string{
		"config/..data":        "..2026_01",
		"config/dnsproxy.toml": "..data/dnsproxy.toml",
		"ssl/certs/ca.crt":     "../../pki/extracted/bundle.pem",
		"linked":               "config",
	} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ files, want []string }{
		{[]string{"config/dnsproxy.toml"}, []string{"config"}},
		{[]string{"linked/dnsproxy.toml"}, []string{"config"}},
		{[]string{"ssl/certs/ca.crt", "config/dnsproxy.toml"}, []string{"config", "pki/extracted", "ssl/certs"}},
		{[]string{"ssl/certs/ca.crt", "ssl/certs/ca.crt"}, []string{"pki/extracted", "ssl/certs"}},
		{nil, nil},
	} {
		var files, want []string
		for _, f := range test.files {
			files = append(files, at(f))
		}
		for _, d := range test.want {
			want = append(want, at(d))
		}
		got, err := sandbox.DirsOf(files...)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: got %v, %v, want %v", test.files, got, err, want)
		}
	}
	if _, err := sandbox.DirsOf(at("config/absent")); err == nil || !strings.Contains(err.Error(), "config/absent") {
		t.Errorf("absent file: got %v, want an error that names it", err)
	}
}

func TestSealRefusesUnknownMode(t *testing.T) {
	if _, err := sandbox.Seal(sandbox.Policy{}, "strict"); err == nil || err.Error() != `sealing: unknown mode "strict"` {
		t.Errorf("got %v", err)
	}
}

func TestReportLine(t *testing.T) {
	r := sandbox.Report{
		Mode: sandbox.BestEffort, Capabilities: true, NoNewPrivs: true, LandlockABI: 2, Files: true, Seccomp: true, Syscalls: 51,
		Gaps: sandbox.LandlockGaps(2, nil),
	}
	const want = "landlock abi 2 (files), seccomp on (51 syscalls), capabilities none, no_new_privs; not enforced: " +
		"landlock tcp connect: the kernel's landlock has abi 2, 4 is needed; landlock scopes: the kernel's landlock has abi 2, 6 is needed"
	if got := r.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
