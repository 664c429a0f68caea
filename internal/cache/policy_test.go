package cache_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dnsproxy/internal/cache"
)

// policy is a cache of which only hits and misses matter: ask reports whether i is in it,
// and takes it in if not.
type policy interface{ ask(i int32) bool }

// zipf returns n numbers below names, of which the k-th is drawn in proportion to 1/k^alpha.
func zipf(names, n int, alpha float64) []int32 {
	sums := make([]float64, names)
	sum := 0.0
	for k := range sums {
		sum += math.Pow(float64(k+1), -alpha)
		sums[k] = sum
	}
	rng := rand.New(rand.NewPCG(42, uint64(alpha*10)))
	trace := make([]int32, n)
	for i := range trace {
		k, _ := slices.BinarySearch(sums, rng.Float64()*sum)
		trace[i] = int32(k)
	}
	return trace
}

// hitRatio returns the share of hits in the second half of trace.
func hitRatio(p policy, trace []int32) float64 {
	hits := 0
	for t, i := range trace {
		if p.ask(i) && t >= len(trace)/2 {
			hits++
		}
	}
	return float64(hits) / float64(len(trace)-len(trace)/2)
}

// ours is the cache of this package, with keys of 25 bytes and values of 60.
type ours struct {
	*cache.Cache
	key, value []byte
}

func newOurs(maxBytes int64) *ours {
	return &ours{Cache: cache.New(maxBytes), key: name(nil, 0), value: make([]byte, 60)}
}

func (o *ours) ask(i int32) bool {
	number(o.key, int(i))
	if e, ok := o.Acquire(o.key); ok {
		e.Release()
		return true
	}
	o.Put(o.key, o.value, 1_700_000_000, time.Hour)
	return false
}

// queue is a cache of a number of entries in a list by age, for the three textbook policies.
type queue struct {
	kind       string // fifo, lru or sieve
	max        int
	nodes      map[int32]*node
	head, tail *node // newest, oldest
	hand       *node // sieve's
}

type node struct {
	i            int32
	used         bool
	newer, older *node
}

func (q *queue) ask(i int32) bool {
	if n, ok := q.nodes[i]; ok {
		n.used = true
		if q.kind == "lru" {
			q.unlink(n)
			q.link(n)
		}
		return true
	}
	if len(q.nodes) == q.max {
		n := q.tail
		if q.kind == "sieve" {
			n = q.sieve()
		}
		q.unlink(n)
		delete(q.nodes, n.i)
	}
	n := &node{i: i}
	q.nodes[i] = n
	q.link(n)
	return false
}

// sieve moves the hand from old to new until it finds what was not used (Zhang et al., NSDI 2024).
func (q *queue) sieve() *node {
	n := q.hand
	for {
		if n == nil {
			n = q.tail
		}
		if !n.used {
			q.hand = n.newer
			return n
		}
		n.used = false
		n = n.newer
	}
}

func (q *queue) link(n *node) {
	n.older, n.newer = q.head, nil
	if q.head != nil {
		q.head.newer = n
	} else {
		q.tail = n
	}
	q.head = n
}

func (q *queue) unlink(n *node) {
	if n.newer != nil {
		n.newer.older = n.older
	} else {
		q.head = n.older
	}
	if n.older != nil {
		n.older.newer = n.newer
	} else {
		q.tail = n.newer
	}
}

// The textbook caches hold as many entries as ours does in its bytes.
func TestHitRatioIsNotBelowLRU(t *testing.T) {
	const distinct, asked = 200_000, 1_000_000
	for _, alpha := range []float64{0.8, 1.0, 1.1} {
		trace := zipf(distinct, asked, alpha)
		for _, maxBytes := range []int64{128 << 10, 512 << 10, 2 << 20, 4 << 20}[:max(1, 4/slowdown)] {
			t.Run(fmt.Sprintf("zipf %.1f, %d KiB", alpha, maxBytes>>10), func(t *testing.T) {
				c := newOurs(maxBytes)
				got := hitRatio(c, trace)
				entries := c.Stats().Entries
				ratio := map[string]float64{}
				for _, kind := range []string{"fifo", "lru", "sieve"} {
					ratio[kind] = hitRatio(&queue{kind: kind, max: entries, nodes: map[int32]*node{}}, trace)
				}
				t.Logf("%d entries: ours %.4f, sieve %.4f, lru %.4f, fifo %.4f",
					entries, got, ratio["sieve"], ratio["lru"], ratio["fifo"])
				if got < ratio["lru"] || got < ratio["fifo"] {
					t.Errorf("got hit ratio %.4f, want at least LRU's, %.4f", got, ratio["lru"])
				}
			})
		}
	}
}

// Popular names fill a third of a cache of 4 MiB. While each is asked for again, names that
// nobody asks for twice pass by, ten for each question for a popular one. Between two
// questions for the same name pass 100,000 others, three times what the cache holds, so LRU
// would lose every one.
//
// Nothing but a false match of a fingerprint, 8 in 65,536 at most, lets a passing name into
// the main ring: 1,221 of 10 million, less than a twentieth of what it takes to turn the
// ring once round. All popular names should stay; 95 % is what is promised.
func TestFloodLeavesPopularNames(t *testing.T) {
	const popular, flood = 10_000, 10_000_000 / slowdown
	c := newOurs(4 << 20)
	for range 3 {
		for i := range int32(popular) {
			c.ask(i)
		}
	}
	asked, hits := 0, 0
	for i := range flood {
		number(c.key, popular+i)
		c.Put(c.key, c.value, 1_700_000_000, time.Hour)
		if i%10 != 0 {
			continue
		}
		asked++
		if c.ask(int32(i / 10 % popular)) {
			hits++
		}
	}
	if ratio := float64(hits) / float64(asked); ratio < 0.95 {
		t.Errorf("%.2f %% of questions for popular names were hits, want 95 %%", 100*ratio)
	} else {
		t.Logf("%.3f %% of questions for popular names were hits", 100*ratio)
	}
	if s := c.Stats(); s.Bytes > 4<<20 {
		t.Errorf("got %+v", s)
	}
}

// The same without a head start: popular names come up among the flood from the beginning.
func TestPopularNamesEnterDuringFlood(t *testing.T) {
	const popular, flood = 10_000, 3_000_000 / slowdown
	c := newOurs(4 << 20)
	asked, hits := 0, 0
	for i := range flood {
		number(c.key, popular+i)
		c.Put(c.key, c.value, 1_700_000_000, time.Hour)
		hit := c.ask(int32(i % popular))
		// The first round of questions cannot hit; the second may find the names forgotten
		// but their fingerprints known; from the third on they should be there.
		if i >= 2*popular {
			asked++
			if hit {
				hits++
			}
		}
	}
	if ratio := float64(hits) / float64(asked); ratio < 0.95 {
		t.Errorf("%.2f %% of questions for popular names were hits, want 95 %%", 100*ratio)
	}
}

// Of two names that were used alike, the one that is past its lifetime by more than a day
// goes and the other stays, when there is need of room.
func TestExpiredGoFirst(t *testing.T) {
	const day = 24 * 60 * 60
	for _, tt := range []struct {
		name     string
		lifetime time.Duration
		kept     bool
	}{
		{"fresh", 3 * 24 * time.Hour, true},
		{"of use as stale", 25 * time.Hour, true},
		{"of no use", time.Hour, false},
	} {
		for _, where := range []string{"small ring", "main ring"} {
			t.Run(tt.name+" in "+where, func(t *testing.T) {
				c := newOurs(256 << 10)
				flood := func(from, n int, stored int64) {
					for i := range n {
						number(c.key, from+i)
						c.Put(c.key, c.value, stored, time.Hour)
					}
				}
				key := []byte("example.")
				c.Put(key, c.value, 0, tt.lifetime)
				if where == "main ring" {
					get(c.Cache, key)
					flood(0, 1000, 0) // out of the small ring
				}
				for range 3 {
					get(c.Cache, key)
				}
				// Each name twice with others in between, so that the second time it enters the
				// main ring of 2,000: twice round, which three uses survive.
				flood(10_000, 400, 2*day)
				for i := 0; i < 12 && where == "main ring"; i++ {
					flood(10_000+400*i, 400, 2*day)
					flood(10_400+400*i, 400, 2*day)
				}
				if _, ok := get(c.Cache, key); ok != tt.kept {
					t.Errorf("kept: %t, want %t", ok, tt.kept)
				}
			})
		}
	}
}
