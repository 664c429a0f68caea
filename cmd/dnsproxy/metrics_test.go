package main_test

import (
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"dnsproxy/internal/dottest"
)

// scrape does what Prometheus does.
func (o *operated) scrape() string {
	o.t.Helper()
	r, err := http.Get("http://" + o.metrics + "/metrics")
	if err != nil {
		o.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		o.t.Fatalf("%s: %v", r.Status, err)
	}
	return string(body)
}

// scraped is a daemon that has done a bit of everything.
func scraped(t *testing.T) (page string, good, bad *dottest.Server) {
	t.Helper()
	good, bad = dottest.New(t), dottest.New(t)
	wrongPin := "pins = [\"" + good.CA().Pin().String() + "\"]"
	o := operate(t, upstreamAt("wrong", bad.Addr().String(), wrongPin)+toUpstream("right", good))
	o.ask("www.example.", dns.TypeA)
	o.ask("www.example.", dns.TypeA)
	o.ask("localhost.", dns.TypeA)
	unrecursed := queryFor("other.example.", dns.TypeA)
	unrecursed.RecursionDesired = false
	exchange(t, "udp", o.addr, unrecursed)
	exchange(t, "tcp", o.addr, queryFor("www.example.", dns.TypeA))
	o.rewrite("nonsense = 1\n")
	o.signal(syscall.SIGHUP)
	o.stderr.await(t, "reload failed")
	return o.scrape(), good, bad
}

func TestMetrics(t *testing.T) {
	page, good, bad := scraped(t)
	right, wrong := `{upstream="right",address="`+good.Addr().String()+`"`, `{upstream="wrong",address="`+bad.Addr().String()+`"`
	expectIn(t, page,
		"\ndnsproxy_queries_total{transport=\"udp\"} 4\n", "\ndnsproxy_queries_total{transport=\"tcp\"} 1\n",
		"\ndnsproxy_query_outcomes_total{outcome=\"hit\"} 2\n", "\ndnsproxy_query_outcomes_total{outcome=\"upstream\"} 1\n", "{outcome=\"local\"} 1\n",
		"\ndnsproxy_answer_duration_seconds_count{waited=\"yes\"} 1\n",
		"\ndnsproxy_upstream_state"+right+",state=\"ready\"} 1\n", "\ndnsproxy_upstream_state"+right+",state=\"backing_off\"} 0\n",
		"\ndnsproxy_upstream_in_use"+wrong+"} 0\n", "\ndnsproxy_upstream_failures_total"+wrong+",reason=\"no_session\"} 1\n",
		"\ndnsproxy_session_attempts_failed_total"+wrong+",reason=\"authentication\"} ",
		"\ndnsproxy_upstream_answer_duration_seconds_count"+right+"} 1\n",
		"\ndnsproxy_sessions_closed_total"+right+",why=\"idle_upstream\"} 0\n", "\ndnsproxy_sessions_closed_total"+wrong+",why=\"reset\"} 0\n",
		"\ndnsproxy_session_info"+right+",version=\"TLS 1.3\",suite=\"TLS_AES_128_GCM_SHA256\",group=\"X25519MLKEM768\"} 1\n",
		"\ndnsproxy_upstream_certificate_expiry_timestamp_seconds"+right+"} ", "\ndnsproxy_upstream_pin_mismatch"+right+"} 0\n",
		"\ndnsproxy_config_last_reload_successful 0\n", "\ndnsproxy_config_reloads_total{result=\"failure\"} 1\n",
		"\ndnsproxy_cache_entries 1\n", "\nprocess_cpu_seconds_total ", "\ndnsproxy_memory_peak_bytes ", "\ngo_goroutines ",
	)
	if asked, told := sum(t, page, "dnsproxy_queries_total"), sum(t, page, "dnsproxy_query_outcomes_total"); asked != 5 || told != asked {
		t.Errorf("%v queries, %v outcomes", asked, told)
	}
	if strings.Contains(page, "example") {
		t.Error("names of clients' queries are told")
	}
}

// sum adds the samples of a family.
func sum(t *testing.T, page, family string) (total float64) {
	t.Helper()
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, family+"{"); ok {
			_, value, _ := strings.Cut(strings.TrimSpace(rest), "} ")
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			total += v
		}
	}
	return total
}

// Prometheus' rules: prometheus.io/docs/instrumenting/exposition_formats and /docs/practices/naming.
func TestMetricsFollowTheRules(t *testing.T) {
	page, _, _ := scraped(t)
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	sample := regexp.MustCompile(`^([a-z0-9_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\.)*",?)*\})? ([-+0-9.eInf]+)$`)
	families, samples := map[string]string{}, map[string]bool{}
	current := ""
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		switch f := strings.SplitN(line, " ", 4); {
		case strings.HasPrefix(line, "# HELP "):
			current = f[2]
			if families[current] != "" || !name.MatchString(current) || !strings.HasSuffix(line, ".") {
				t.Errorf("%s", line)
			}
			families[current] = "untyped"
		case strings.HasPrefix(line, "# TYPE "):
			if f[2] != current || (f[3] == "counter") != strings.HasSuffix(current, "_total") {
				t.Errorf("%s", line)
			}
			families[current] = f[3]
		default:
			m := sample.FindStringSubmatch(line)
			if m == nil || samples[m[1]+m[2]] {
				t.Fatalf("bad or repeated: %s", line)
			}
			samples[m[1]+m[2]] = true
			base := m[1]
			if families[current] == "histogram" {
				base = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(base, "_bucket"), "_sum"), "_count")
			}
			if base != current {
				t.Errorf("%s stands under %s", line, current)
			}
		}
	}
	if len(families) < 30 {
		t.Errorf("%d families", len(families))
	}
}
