package dot_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
	"dnsproxy/internal/wire"
)

// patience is how long a test on real sockets waits for what must happen.
const patience = 10 * time.Second

// query returns a query for an A record, as a client sends it.
func query(t testing.TB, name string) wire.Query {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	m.SetEdns0(1232, false)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q, err := wire.ParseQuery(b)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// newClient returns a client of e that closes with the test.
func newClient(t testing.TB, e dot.Endpoint) *dot.Client {
	t.Helper()
	c := dot.NewClient(e, slog.New(slog.DiscardHandler))
	t.Cleanup(c.Close)
	return c
}

// ask sends one query and waits for what becomes of it.
func ask(t testing.TB, c *dot.Client, name string) dot.Result {
	t.Helper()
	results := make(chan dot.Result, 1)
	c.Send(query(t, name), results)
	return receive(t, results)
}

func receive(t testing.TB, results <-chan dot.Result) dot.Result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(patience):
		t.Fatal("no result")
		panic("unreachable")
	}
}

// mustAnswer fails the test unless the query is answered with a record.
func mustAnswer(t testing.TB, c *dot.Client, name string) {
	t.Helper()
	if r := ask(t, c, name); r.Err != nil {
		t.Fatalf("%s: %v", name, r.Err)
	} else if r.Response.Kind() != wire.Positive || r.Client != c {
		t.Fatalf("%s: got %v by %p, want a positive response by %p", name, r.Response.Kind(), r.Client, c)
	}
}

// mustFail fails the test unless the query fails for that reason, with text in its error.
func mustFail(t testing.TB, c *dot.Client, name string, want dot.Reason, text string) {
	t.Helper()
	r := ask(t, c, name)
	if got := dot.ReasonOf(r.Err); r.Err == nil || got != want || !strings.Contains(r.Err.Error(), text) {
		t.Fatalf("%s: got %q (%v), want %q with %q", name, got, r.Err, want, text)
	}
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// restingGoroutines checks at the end of the test that no goroutine is left of it. It must be called first.
func restingGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	})
}

// journal is a log that tests read.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

// count returns how many lines contain text.
func (j *journal) count(text string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.buf.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("n%d.example", i)
	}
	return list
}

// sendAll sends a query for each name, at once, and returns the results.
func sendAll(t testing.TB, c *dot.Client, list []string) []dot.Result {
	t.Helper()
	results := make(chan dot.Result, len(list))
	for _, name := range list {
		c.Send(query(t, name), results)
	}
	all := make([]dot.Result, len(list))
	for i := range all {
		all[i] = receive(t, results)
	}
	return all
}

func failures(all []dot.Result) (failed []error) {
	for _, r := range all {
		if r.Err != nil {
			failed = append(failed, r.Err)
		}
	}
	return failed
}

var _ = dottest.Answer
