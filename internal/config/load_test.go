package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dnsproxy/internal/config"
)

// write makes a file of that mode, whatever the umask is.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// place makes a folder with a CA file of that mode, and returns the file that uses it.
func place(t *testing.T, caMode os.FileMode) (path, caFile, text string) {
	t.Helper()
	dir := t.TempDir()
	path, caFile = filepath.Join(dir, "dnsproxy.toml"), filepath.Join(dir, "ca.pem")
	write(t, caFile, string(caFiles()["/a"]), caMode)
	return path, caFile, google + "ca_file = \"" + caFile + "\"\n"
}

func TestLoadReadsTheFileAndItsCAFiles(t *testing.T) {
	path, caFile, text := place(t, 0o644)
	write(t, path, text, 0o640)
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.File != path || len(c.Warnings) > 0 || !slices.Equal(c.CAFiles, []string{caFile}) {
		t.Errorf("got %q %q %q", c.File, c.Warnings, c.CAFiles)
	}
	if want := parse(t, google+"ca_file = \"/a\"\n"); c.Upstreams[0].Endpoints[0].RootsID != want.Upstreams[0].Endpoints[0].RootsID {
		t.Error("other certificates were read")
	}
	policy, err := c.Policy()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(policy.ReadDirs, []string{dir}) || !slices.Equal(policy.ConnectPorts, []uint16{853}) {
		t.Errorf("got %+v", policy)
	}
}

func TestPortsAreThoseOfUpstreams(t *testing.T) {
	if got, want := parse(t, full).Ports(), []uint16{853, 8853}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Whoever may write the file decides whom all names go to.
func TestLoadLooksAtWhoMayWrite(t *testing.T) {
	for _, tt := range []struct {
		mode, caMode os.FileMode
		err, warning string // FILE and CA stand for the paths
	}{
		{0o600, 0o600, "", ""},
		{0o644, 0o444, "", ""},
		{0o666, 0o644, `reading the configuration "FILE": every user of the machine may write it (mode -rw-rw-rw-); run "chmod o-w FILE"`, ""},
		{0o664, 0o644, "", `FILE: the file's group may write it; run "chmod g-w FILE" unless that is meant`},
		{0o644, 0o602, `FILE:4: upstream[0].ca_file: cannot use "CA": every user of the machine may write it (mode -rw-----w-); run "chmod o-w CA"`, ""},
		{0o644, 0o660, "", `CA: the file's group may write it; run "chmod g-w CA" unless that is meant`},
	} {
		t.Run(fmt.Sprintf("%v %v", tt.mode, tt.caMode), func(t *testing.T) {
			path, caFile, text := place(t, tt.caMode)
			write(t, path, text, tt.mode)
			c, err := config.Load(path)
			got, warning := "", ""
			if err != nil {
				got = err.Error()
			} else {
				warning = strings.Join(c.Warnings, "\n")
			}
			named := strings.NewReplacer("FILE", path, "CA", caFile)
			if want := named.Replace(tt.err); got != want {
				t.Errorf("error: got %s, want %s", got, want)
			}
			if want := named.Replace(tt.warning); warning != want {
				t.Errorf("warning: got %s, want %s", warning, want)
			}
		})
	}
}

func TestLoadIsBounded(t *testing.T) {
	path, _, text := place(t, 0o644)
	const limit = 1 << 20
	write(t, path, text+strings.Repeat("#", limit-len(text)), 0o644)
	if _, err := config.Load(path); err != nil {
		t.Errorf("a file of 1 MiB: %v", err)
	}
	write(t, path, text+strings.Repeat("#", limit-len(text)+1), 0o644)
	want := fmt.Sprintf("reading the configuration %q: it is larger than 1MiB", path)
	if _, err := config.Load(path); err == nil || err.Error() != want {
		t.Errorf("a larger one: got %v, want %s", err, want)
	}
}

func TestLoadSaysWhyItCannotRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"): "no such file or directory",
		dir:                           "is a directory",
	} {
		_, err := config.Load(path)
		want := fmt.Sprintf("reading the configuration %q: %s", path, want)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	_, err := config.Load(filepath.Join(dir, "missing"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// FIPS 140 is set for a process from its start on, so this test runs itself again.
func TestFIPS(t *testing.T) {
	if os.Getenv("TEST_FIPS") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFIPS$")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=on", "TEST_FIPS=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	parse(t, google)
	_, err := config.Parse([]byte("[tls]\ncipher_suites = [\"TLS_CHACHA20_POLY1305_SHA256\"]\ngroups = [\"X25519\"]\n"+google), "dnsproxy.toml", readCA)
	const want = `dnsproxy.toml:2: tls.cipher_suites: FIPS 140 is on, and allows none of these; add "TLS_AES_128_GCM_SHA256"` + "\n" +
		`dnsproxy.toml:3: tls.groups: FIPS 140 is on, and allows none of these; add "X25519MLKEM768" or "P-256"`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}
