package upstream

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"dnsproxy/internal/dot"
)

// A client that is no longer wanted stays open for retireAfter, since queries that began
// before the Update may still choose it, then until nothing is in flight, but no longer
// than retireWithin in all.
const (
	retireAfter  = time.Second
	retireWithin = 10 * time.Second
	retirePoll   = 50 * time.Millisecond
)

// Pool holds one client for each endpoint in use.
type Pool struct {
	log       *slog.Logger
	newClient func(dot.Endpoint, *slog.Logger) client
	epoch     time.Time // instants count from here
	tally     tally
	exchanges sync.Pool // of *exchange. Not a package variable: timers must not outlive their pool
	closing   chan struct{}
	retired   sync.WaitGroup

	// mu guards the fields below. Held while clients are made, never while they are closed.
	mu        sync.Mutex
	upstreams []members
	settings  Settings
	budget    budget
	closed    bool
}

// members is an upstream's candidates in the order of the configuration.
type members struct {
	name       string
	candidates []*candidate
}

// NewPool returns an empty pool.
func NewPool(log *slog.Logger) *Pool {
	return newPool(log, func(e dot.Endpoint, log *slog.Logger) client {
		return dotClient{dot.NewClient(e, log)}
	})
}

func newPool(log *slog.Logger, newClient func(dot.Endpoint, *slog.Logger) client) *Pool {
	return &Pool{
		log:       log,
		newClient: newClient,
		epoch:     time.Now().Add(-time.Second), // so that no instant is 0
		closing:   make(chan struct{}),
		budget:    newBudget(0),
	}
}

// now returns the present instant.
func (p *Pool) now() instant { return time.Since(p.epoch) }

// Update makes the pool serve ups. The client of an endpoint that is equal to one in use
// is kept with its session; others are created, and those no longer wanted finish what
// is in flight and close. Groups handed out before go on with what they were made of, so
// that queries under way end on it; those that follow need a new Group.
func (p *Pool) Update(ups []Upstream, s Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	spare := p.candidatesLocked()
	next := make([]members, len(ups))
	for i, u := range ups {
		next[i].name = u.Name
		for _, e := range u.Endpoints {
			var c *candidate
			if at := slices.IndexFunc(spare, func(c *candidate) bool { return c.endpoint.Equal(e) }); at >= 0 {
				c = spare[at]
				spare = slices.Delete(spare, at, at+1)
			} else {
				c = &candidate{client: p.newClient(e, p.log), endpoint: e, log: p.log}
			}
			next[i].candidates = append(next[i].candidates, c)
		}
	}
	if s.HedgeBudget != p.settings.HedgeBudget || p.upstreams == nil {
		p.budget = newBudget(s.HedgeBudget)
	}
	p.upstreams, p.settings = next, s
	for _, c := range spare {
		p.retired.Go(func() { p.retire(c) })
	}
}

// candidatesLocked returns all candidates in use.
func (p *Pool) candidatesLocked() (all []*candidate) {
	for _, u := range p.upstreams {
		all = append(all, u.candidates...)
	}
	return all
}

// retire closes c once nothing needs it any more.
func (p *Pool) retire(c *candidate) {
	defer c.client.Close()
	poll := time.NewTicker(retirePoll)
	defer poll.Stop()
	begun := p.now()
	for {
		select {
		case <-p.closing:
			return
		case <-poll.C:
		}
		past := p.now() - begun
		if past >= retireWithin || past >= retireAfter && c.client.Health().Pending == 0 {
			return
		}
	}
}

// Group returns the chooser among the named upstreams of the last Update, all of them if none is named.
func (p *Pool) Group(names ...string) *Group {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &Group{pool: p, settings: p.settings, budget: p.budget}
	for _, u := range p.upstreams {
		if len(names) > 0 && !slices.Contains(names, u.name) || len(u.candidates) == 0 {
			continue
		}
		g.firsts = append(g.firsts, len(g.candidates))
		for _, c := range u.candidates {
			g.upstreamOf = append(g.upstreamOf, len(g.firsts)-1)
			g.inOrder = append(g.inOrder, len(g.candidates))
			g.candidates = append(g.candidates, c)
		}
	}
	return g
}

// Stats returns what has been counted.
func (p *Pool) Stats() Stats {
	t := &p.tally
	s := Stats{
		Queries:   t.queries.Load(),
		Failed:    t.failed.Load(),
		Retries:   t.retries.Load(),
		Failovers: t.failovers.Load(),
		Hedges:    t.hedges.Load(),
		Crossed:   t.crossed.Load(),
		Explored:  t.explored.Load(),
	}
	p.mu.Lock()
	all := p.candidatesLocked()
	p.mu.Unlock()
	for _, c := range all {
		s.Clients = append(s.Clients, c.stats())
	}
	return s
}

// Close closes all clients and waits for them.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	all := p.candidatesLocked()
	p.mu.Unlock()
	close(p.closing)
	for _, c := range all {
		p.retired.Go(c.client.Close)
	}
	p.retired.Wait()
}
