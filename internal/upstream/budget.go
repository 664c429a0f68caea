package upstream

import "sync/atomic"

// A token is worth tokenWorth, so that a share of one token can be earned
// with whole numbers.
const (
	tokenWorth = 1_000_000
	burst      = 10 // tokens that may gather, so a short run of slow answers is covered
)

// bucket lets through a share of queries, and at most burst above that share.
// It counts queries, not time: its promise holds at any load.
type bucket struct {
	share int64 // earned by each query
	worth atomic.Int64
}

// newBucket returns a bucket with a full burst, or one that lets nothing through if share is 0.
func newBucket(share float64) *bucket {
	b := &bucket{share: int64(min(max(share, 0), 1) * tokenWorth)}
	if b.share > 0 {
		b.worth.Store(burst * tokenWorth)
	}
	return b
}

// earn adds one query's share. A full bucket is only read, so that queries which
// need no hedge do not contend for it.
func (b *bucket) earn() {
	if b.share > 0 && b.worth.Load() < burst*tokenWorth {
		b.worth.Add(b.share)
	}
}

// has reports whether a token is there.
func (b *bucket) has() bool { return b.worth.Load() >= tokenWorth }

// take takes a token.
func (b *bucket) take() bool {
	for {
		w := b.worth.Load()
		if w < tokenWorth {
			return false
		}
		if b.worth.CompareAndSwap(w, w-tokenWorth) {
			return true
		}
	}
}

// repeatShare is the share of queries that may be repeated to the *same* upstream
// where HedgeBudget is lower. No further party learns a name by it.
const repeatShare = 0.05

// budget limits duplicates: cross those that show a name to a second upstream, all
// these and those to another address of the same upstream.
type budget struct{ all, cross *bucket }

func newBudget(share float64) budget {
	return budget{all: newBucket(max(share, repeatShare)), cross: newBucket(share)}
}

func (b budget) earn() {
	b.all.earn()
	b.cross.earn()
}

// take takes what one duplicate costs.
func (b budget) take(same bool) bool {
	if same {
		return b.all.take()
	}
	return b.cross.has() && b.all.take() && b.cross.take()
}
