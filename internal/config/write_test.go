package config_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dnsproxy/internal/config"
)

func TestStringSaysEachKeyAndReadsBackTheSame(t *testing.T) {
	for name, text := range map[string]string{"least": google, "full": full, "example": example(t)} {
		t.Run(name, func(t *testing.T) {
			c := parse(t, text)
			again := parse(t, c.String())
			same(t, again, c)
			if !reflect.DeepEqual(again.Routes, c.Routes) {
				t.Errorf("routes: got %v, want %v", again.Routes, c.Routes)
			}
			for _, k := range config.Knobs() {
				if k.Table != "route" && !strings.Contains(c.String(), "\n"+k.Key+" = ") && !strings.HasPrefix(c.String(), k.Key+" = ") {
					t.Errorf("%s is missing", k.Path())
				}
			}
			var b strings.Builder
			if n, err := c.WriteTo(&b); err != nil || int(n) != b.Len() || b.String() != c.String() {
				t.Errorf("WriteTo: got %d, %v", n, err)
			}
		})
	}
}

func TestStringMarksDefaults(t *testing.T) {
	text := parse(t, "[cache]\nsize = \"0\"\n"+google).String()
	for _, want := range []string{
		"timeout = \"4s\" # default\n", "size = \"0\"\n", "hedge_budget = 0.05 # default\n",
		"[[upstream]]\nname = \"dns.google\"\naddresses = [\"8.8.8.8:853\"]\nserver_name = \"dns.google\"\nca_file = \"\" # default\npins = [] # default\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

// TestDiff compares pairs of files. The second one is the full one, changed.
func TestDiff(t *testing.T) {
	for _, tt := range []struct {
		name     string
		old, new string // what is replaced in the file
		want     []string
		restart  []string
	}{
		{name: "nothing", old: "\"2500ms\"", new: "\"2.5s\""},
		{name: "size", old: "size = \"1536KiB\"", new: "size = \"64MiB\"", want: []string{"cache.size: 1536KiB -> 64MiB"}},
		{name: "level", old: "debug", new: "info", want: []string{"log_level: debug -> info"}},
		{name: "sandbox", old: "best-effort", new: "required",
			want: []string{"sandbox: best-effort -> required (at the next start)"}, restart: []string{"sandbox"}},
		{name: "listen", old: `"::1"]`, new: `"127.0.0.1:53"]`,
			want: []string{"listen: added 127.0.0.1:53; removed [::1]:53 (at the next start)"}, restart: []string{"listen"}},
		{name: "suites", old: `"TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"`, new: `"TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"`,
			want: []string{"tls.cipher_suites: order is now TLS_AES_128_GCM_SHA256, TLS_CHACHA20_POLY1305_SHA256"}},
		{name: "addresses", old: `["192.0.2.4"]` + "\nserver", new: `["192.0.2.4", "8.8.4.4"]` + "\nserver",
			want: []string{`upstream "192.0.2.4": addresses: added 8.8.4.4:853`}},
		{name: "pins", old: `"` + pin + `", `, new: "",
			want: []string{`upstream "dns.example": pins: removed ` + pin}},
		{name: "CA file of an upstream", old: `ca_file = "/b"`, new: `ca_file = "/a"`, want: []string{`upstream "dns.example": ca_file: /b -> /a`}},
		{name: "CA file of an upstream taken away", old: `ca_file = "/b"`, new: "", want: []string{`upstream "dns.example": ca_file: /b -> none`}},
		{name: "upstream renamed", old: "addresses = [\"192.0.2.4\"]\n", new: "addresses = [\"192.0.2.4\"]\nname = \"new\"\n",
			want: []string{`upstream "192.0.2.4": removed`, `upstream "new": added`, `route ".": upstreams: added new; removed 192.0.2.4`}},
		{name: "domain", old: `"_tcp.example"`, new: `"_udp.example"`,
			want: []string{`route "_tcp.example": removed`, `route "_udp.example": added, to dns.example, 192.0.2.5`}},
		{name: "upstreams of a route", old: `["dns.example", "192.0.2.5"]`, new: `["192.0.2.5", "dns.example"]`,
			want: []string{`route "corp.example": upstreams: order is now 192.0.2.5, dns.example`, `route "_tcp.example": upstreams: order is now 192.0.2.5, dns.example`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(full, tt.old, tt.new, 1)
			if tt.name == "upstream renamed" {
				text = strings.Replace(text, `upstreams = ["192.0.2.4"]`, `upstreams = ["new"]`, 1)
			}
			a, b := parse(t, full), parse(t, text)
			if got := config.Diff(a, b); !slices.Equal(got, tt.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if got := config.NeedsRestart(a, b); !slices.Equal(got, tt.restart) {
				t.Errorf("restart: got %q, want %q", got, tt.restart)
			}
		})
	}
}

func TestDiffSeesOrderOfUpstreams(t *testing.T) {
	tables := strings.SplitAfter(threeUpstreams, ".net\"\n")[0]
	parts := strings.SplitAfter(tables, "[[upstream]]")
	turned := strings.Join([]string{parts[0], parts[2], parts[1], parts[3]}, "")
	want := []string{"upstream: order is now cloudflare, google, quad9"}
	if got := config.Diff(parse(t, threeUpstreams), parse(t, turned)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDiffSeesOtherCertificatesInTheSameFile(t *testing.T) {
	with := func(file string) *config.Config {
		c, err := config.Parse([]byte(google), "dnsproxy.toml", func(string) ([]byte, error) { return readCA(file) })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := []string{`upstream "dns.google": the certificates in /etc/ssl/certs/ca-certificates.crt have changed`}
	if got := config.Diff(with("/a"), with("/b")); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever is accepted says itself: what String writes is read as the same
// configuration. Faults are one line each, with file and line.
func FuzzParse(f *testing.F) {
	for _, tt := range faultTests {
		f.Add([]byte(tt.text))
	}
	f.Add([]byte(full))
	f.Add([]byte(google))
	f.Add([]byte(threeUpstreams))
	f.Add([]byte("\uFEFF" + google))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse(text, "dnsproxy.toml", readCA)
		if err != nil {
			checkFaults(t, err, text)
			return
		}
		again, err := config.Parse([]byte(c.String()), "dnsproxy.toml", readCA)
		if err != nil {
			t.Fatalf("%v\nin what was made of:\n%s\n\nwhich is:\n%s", err, text, c)
		}
		same(t, again, c)
		if again.String() != c.String() {
			t.Errorf("got:\n%s\nthen:\n%s", c, again)
		}
	})
}

func checkFaults(t *testing.T, err error, text []byte) {
	t.Helper()
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("got %T: %v", err, err)
	}
	for _, f := range faults {
		if f.Line < 1 || f.Line > 1+strings.Count(string(text), "\n") || f.Problem == "" || strings.Contains(f.Error(), "\n") {
			t.Errorf("fault %+v of:\n%s", f, text)
		}
	}
}
