package config_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dnsproxy/internal/config"
)

const exampleFile = "../../dnsproxy.toml.example"

func example(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The same three upstreams, and nothing else.
const threeUpstreams = `
[[upstream]]
name = "google"
addresses = ["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"]
server_name = "dns.google"
[[upstream]]
name = "cloudflare"
addresses = ["1.1.1.1", "1.0.0.1", "2606:4700:4700::1111", "2606:4700:4700::1001"]
server_name = "one.one.one.one"
[[upstream]]
name = "quad9"
addresses = ["9.9.9.9", "149.112.112.112", "2620:fe::fe", "2620:fe::9"]
server_name = "dns.quad9.net"
`

func TestExampleIsTheDefaultsAndThreeUpstreams(t *testing.T) {
	want := parse(t, threeUpstreams)
	got := parse(t, example(t))
	same(t, got, want)
	if len(got.Warnings) > 0 {
		t.Errorf("warnings: %q", got.Warnings)
	}
}

// defaultLine is a key that stands at its default, commented out.
var defaultLine = regexp.MustCompile(`(?m)^#([a-z_]+ = )`)

func TestExampleUncommentedIsTheSame(t *testing.T) {
	text := example(t)
	same(t, parse(t, defaultLine.ReplaceAllString(text, "$1")), parse(t, text))
}

// entry is a key of the example, with what is said of it.
type entry struct {
	table, key, value, says string
	commented               bool
}

// entries reads the example as people do: a comment, and the key it is about.
func entries(text string) []entry {
	header := regexp.MustCompile(`^\[+([a-z]+)\]+$`)
	assignment := regexp.MustCompile(`^(#?)([a-z_]+) = (.*)$`)
	var all []entry
	var table string
	var says []string
	// The route stands there as a comment.
	if at := strings.Index(text, "#   [[route]]"); at >= 0 {
		text = text[:at] + regexp.MustCompile(`(?m)^#(   )?`).ReplaceAllString(text[at:], "")
	}
	for line := range strings.SplitSeq(text, "\n") {
		if m := header.FindStringSubmatch(line); m != nil {
			table, says = m[1], nil
		} else if m := assignment.FindStringSubmatch(line); m != nil {
			all = append(all, entry{table, m[2], m[3], strings.Join(strings.Fields(strings.Join(says, " ")), " "), m[1] == "#"})
			says = nil
		} else if comment, ok := strings.CutPrefix(line, "#"); ok {
			says = append(says, comment)
		} else {
			says = nil
		}
	}
	return all
}

func TestExampleHasEachKnob(t *testing.T) {
	all := entries(example(t))
	for _, k := range config.Knobs() {
		i := slices.IndexFunc(all, func(e entry) bool { return e.table == k.Table && e.key == k.Key })
		if i < 0 {
			t.Errorf("%s is missing", k.Path())
			continue
		}
		e := all[i]
		if e.commented && e.value != k.Default {
			t.Errorf("%s: shows %s, the default is %s", k.Path(), e.value, k.Default)
		}
		if !e.commented && k.Table != "upstream" && k.Table != "route" {
			t.Errorf("%s: is not commented out", k.Path())
		}
		want := strings.TrimSpace(k.Sentence + " " + k.Bounds())
		if k.Restart {
			want += " A change takes effect at the next start."
		}
		if !strings.HasPrefix(e.says, want) {
			t.Errorf("%s:\n says %q,\n want %q", k.Path(), e.says, want)
		}
	}
	for _, e := range all {
		if !slices.ContainsFunc(config.Knobs(), func(k config.Knob) bool { return k.Table == e.table && k.Key == e.key }) {
			t.Errorf("%s.%s is no key", e.table, e.key)
		}
	}
}
