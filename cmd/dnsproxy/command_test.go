package main_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"dnsproxy/internal/dottest"
)

// finish runs a command to its end.
func finish(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	r := launch(t, program(t, args...))
	code = r.wait()
	return code, r.stdout.String(), r.stderr.String()
}

const soundUpstream = `
[[upstream]]
addresses   = ["192.0.2.53"]
server_name = "dns.example"
`

// What check prints is a file that means the same.
func TestCheckPrintsWhatIsInForce(t *testing.T) {
	ca := writeCA(t)
	path := writeConfig(t, "timeout = \"2500ms\"\n[tls]\nca_file = \""+ca+"\"\n"+soundUpstream)
	code, first, stderr := finish(t, "check", "--config="+path)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, and\n%s", code, stderr)
	}
	for _, want := range []string{`timeout = "2.5s"`, `serve_stale = "24h"`, `"192.0.2.53`, ca} {
		if !strings.Contains(regexp.MustCompile(` +`).ReplaceAllString(first, " "), want) {
			t.Errorf("no %s in\n%s", want, first)
		}
	}
	code, second, stderr := finish(t, "check", "--config="+writeConfig(t, first))
	if code != 0 || second != first {
		t.Errorf("what it printed reads as another configuration: exit code %d, %s\n%s", code, stderr, second)
	}
	if code, stdout, stderr := finish(t, "check", "--quiet", "--config="+path); code != 0 || stdout+stderr != "" {
		t.Errorf("--quiet: exit code %d, and\n%s%s", code, stdout, stderr)
	}
}

func TestCheckTellsEveryFault(t *testing.T) {
	path := writeConfig(t, `timout = "2s"
[cache]
size = "much"

[[upstream]]
addresses = ["dns.example"]
pins      = ["short"]
`)
	code, stdout, stderr := finish(t, "check", "--config="+path)
	if code != 1 || stdout != "" {
		t.Errorf("exit code %d and %q, want 1 and nothing", code, stdout)
	}
	for _, want := range []string{path + ":1: timout", path + ":3: cache.size", path + ":6: upstream[0].addresses", path + ":7: upstream[0].pins"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
	if !strings.Contains(stderr, `"timeout"`) {
		t.Errorf("the nearest key to timout is not named in\n%s", stderr)
	}
	if code, _, stderr := finish(t, "serve", "--config="+path); code != 1 || !strings.Contains(stderr, path+":7: ") {
		t.Errorf("serve: exit code %d, and\n%s", code, stderr)
	}
	if code, _, stderr := finish(t, "check", "--config="+path+".missing"); code != 1 || !strings.Contains(stderr, path+".missing") {
		t.Errorf("no file: exit code %d, and\n%s", code, stderr)
	}
}

// What the README shows is accepted as it stands there, with a CA file that this machine has.
func TestREADMEsConfigurationIsAccepted(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) == 0 {
		t.Fatal("the README shows no configuration")
	}
	for _, block := range blocks {
		config := "[tls]\nca_file = \"" + writeCA(t) + "\"\n" + block[1]
		if code, _, stderr := finish(t, "check", "--config="+writeConfig(t, config)); code != 0 || stderr != "" {
			t.Errorf("exit code %d, and\n%s", code, stderr)
		}
	}
}

func writeCA(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(path, dottest.NewCA(t).PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"no-such-command"}, {"serve", "--no-such-option"}, {"serve", "argument"}, {"serve", "--listen=nowhere"}, {"serve", "--listen=:53"},
		{"check", "--config"}, {"check", "--quiet=perhaps"}, {"demo", "--listen=dns.example:53"}, {"reload", "--pid=none"}, {"version", "argument"},
	} {
		code, stdout, stderr := finish(t, args...)
		if code != 2 || stdout != "" || stderr == "" {
			t.Errorf("dnsproxy %s: exit code %d, %q and %q; want 2, nothing, and what is wrong", strings.Join(args, " "), code, stdout, stderr)
		}
		if len(args) > 0 && strings.Count(stderr, "\n") != 1 {
			t.Errorf("dnsproxy %s: more than a line:\n%s", strings.Join(args, " "), stderr)
		}
	}
}

// Help is an answer, not an error, and fits a terminal.
func TestHelpFitsAScreen(t *testing.T) {
	const lines, columns = 24, 80
	fits := func(args ...string) string {
		code, stdout, stderr := finish(t, args...)
		command := strings.Join(args, " ")
		if code != 0 || stderr != "" || !strings.Contains(stdout, "Usage: dnsproxy ") {
			t.Errorf("%s: exit code %d, and\n%s%s", command, code, stdout, stderr)
		}
		if n := strings.Count(stdout, "\n"); n >= lines { // one is left for the prompt
			t.Errorf("%s: %d lines", command, n)
		}
		for line := range strings.Lines(stdout) {
			if len(strings.TrimSuffix(line, "\n")) > columns {
				t.Errorf("%s: wider than %d columns: %s", command, columns, line)
			}
		}
		return stdout
	}
	fits("--help")
	all := regexp.MustCompile(`(?m)^  (\w+) `).FindAllStringSubmatch(fits("help"), -1)
	if len(all) < 5 {
		t.Fatalf("help lists %d commands", len(all))
	}
	for _, command := range all {
		fits(command[1], "--help")
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		if code, stdout, stderr := finish(t, arg); code != 0 || !strings.HasPrefix(stdout, "dnsproxy ") || stderr != "" {
			t.Errorf("%s: exit code %d, and\n%s%s", arg, code, stdout, stderr)
		}
	}
}
