package upstream_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/upstream"
	"dnsproxy/internal/wire"
)

// example is a query for example.org A.
var example = mustQuery("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01")

func mustQuery(msg string) wire.Query {
	q, err := wire.ParseQuery([]byte(msg))
	if err != nil {
		panic(err)
	}
	return q
}

// world is a pool over fake servers. The servers of upstream "a" stand at 192.0.2.10 and
// following, those of "b" at 192.0.2.20 and following, and so on.
type world struct {
	t       *testing.T
	servers map[string][]*fakeServer
	ups     []upstream.Upstream
	pool    *upstream.Pool
	log     *journal
}

// newWorld has an upstream for each letter of names; a letter that stands twice has two addresses.
func newWorld(t *testing.T, names string, s upstream.Settings) *world {
	w := &world{t: t, servers: map[string][]*fakeServer{}, log: &journal{}}
	n := network{}
	for _, r := range names {
		name := string(r)
		i := len(w.servers[name])
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(10*(r-'a'+1)) + byte(i)}), 853)
		server := newServer(20 * time.Millisecond)
		w.servers[name] = append(w.servers[name], server)
		n[addr] = server
		if i == 0 {
			w.ups = append(w.ups, upstream.Upstream{Name: name})
		}
		for j := range w.ups {
			if w.ups[j].Name == name {
				w.ups[j].Endpoints = append(w.ups[j].Endpoints, dot.Endpoint{Upstream: name, Addr: addr})
			}
		}
	}
	w.pool = upstream.NewPoolOf(slog.New(slog.NewTextHandler(w.log, nil)), n.dial)
	w.pool.Update(w.ups, s)
	return w
}

func (w *world) server(name string) *fakeServer { return w.servers[name][0] }

// outcome is what became of one query.
type outcome struct {
	asked time.Time
	took  time.Duration
	from  string
	err   error
}

type outcomes []outcome

// load asks at rate a second for d, and waits for all answers.
func (w *world) load(g *upstream.Group, rate int, d time.Duration, during func()) outcomes {
	var wg sync.WaitGroup
	if during != nil {
		wg.Go(during)
	}
	all := make(outcomes, int(d.Seconds()*float64(rate)))
	for i := range all {
		wg.Go(func() { all[i] = ask(g) })
		time.Sleep(time.Second / time.Duration(rate))
	}
	wg.Wait()
	return all
}

// ask asks once, within 4 s.
func ask(g *upstream.Group) outcome {
	o := outcome{asked: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	r, err := g.Exchange(ctx, example)
	o.took, o.from, o.err = time.Since(o.asked), string(r.Packed()), err
	return o
}

// between returns those asked in [from, to).
func (all outcomes) between(from, to time.Time) (some outcomes) {
	for _, o := range all {
		if !o.asked.Before(from) && o.asked.Before(to) {
			some = append(some, o)
		}
	}
	return some
}

func (all outcomes) failed() (n int) {
	for _, o := range all {
		if o.err != nil {
			n++
		}
	}
	return n
}

func (all outcomes) from(name string) (n int) {
	for _, o := range all {
		if o.from == name {
			n++
		}
	}
	return n
}

func (all outcomes) worst() (d time.Duration) {
	for _, o := range all {
		d = max(d, o.took)
	}
	return d
}

// expect fails the test if any of them failed or took longer than limit.
func (all outcomes) expect(t *testing.T, what string, limit time.Duration) {
	t.Helper()
	t.Logf("%s: %d queries, %d failed, worst %v", what, len(all), all.failed(), all.worst())
	if n := all.failed(); n > 0 {
		t.Errorf("%s: %d of %d failed, want 0", what, n, len(all))
		for _, o := range all {
			if o.err != nil {
				t.Logf("first: %v", o.err)
				break
			}
		}
	}
	if w := all.worst(); w > limit {
		t.Errorf("%s: the worst answer took %v, want at most %v", what, w, limit)
	}
}

// journal holds the lines logged.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// lines returns how many lines hold text.
func (j *journal) lines(text string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.b.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}
