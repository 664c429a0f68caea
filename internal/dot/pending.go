package dot

import (
	crand "crypto/rand"
	"math/rand/v2"
	"time"

	"dnsproxy/internal/wire"
)

const (
	// maxIDs is how many of the 65,536 IDs may be in use, those set aside included.
	// Beyond it a random one would be found too seldom at the first try.
	maxIDs = 48 << 10

	// An ID that was given up is set aside until its session ends, since an upstream
	// that was frozen may still answer it. If more than plentyAside are, those older than
	// asideAtLeast return.
	plentyAside  = 8 << 10
	asideAtLeast = 10 * time.Second
)

// query is one that is on its way. The client's mutex guards it.
type query struct {
	gen     uint32 // grows when the query ends, so that an old Pending means nothing
	id      uint16
	asked   bool // was sent with edns-tcp-keepalive
	resent  bool // was sent on two sessions
	at      int  // place in the queue that it waits in, -1 when written
	on      *session
	before  *session // the session that it was sent on before on, while that lives
	since   time.Time
	q       wire.Query // refers to msg
	msg     []byte     // as it goes upstream, behind its length
	results chan<- Result
}

// table is the queries of one client by ID. The client's mutex guards it.
type table struct {
	byID  map[uint16]*query
	aside []asideID // the oldest first
	free  []*query  // for reuse
	rand  *rand.ChaCha8
}

type asideID struct {
	id    uint16
	since time.Time
}

// givenUp stands for a query whose ID is set aside.
var givenUp = new(query)

// newTable returns an empty table. IDs need not be secret under TLS, but must not be
// guessed either if a middlebox or a bug lets something slip in (RFC 5452, section 9.2);
// ChaCha8, seeded by the kernel, is as hard to predict as the kernel's own and
// asks it once.
func newTable() table {
	var seed [32]byte
	crand.Read(seed[:])
	return table{byID: make(map[uint16]*query), rand: rand.NewChaCha8(seed)}
}

// inFlight returns how many queries are neither answered nor given up.
func (t *table) inFlight() int { return len(t.byID) - len(t.aside) }

// add returns a query under a new ID, or nil if there is none left.
func (t *table) add(now time.Time) *query {
	t.release(now)
	if len(t.byID) >= maxIDs {
		return nil
	}
	id := uint16(t.rand.Uint64())
	for t.byID[id] != nil {
		id = uint16(t.rand.Uint64())
	}
	q := t.take()
	q.id, q.since, q.at = id, now, -1
	t.byID[id] = q
	return q
}

func (t *table) take() *query {
	if n := len(t.free); n > 0 {
		q := t.free[n-1]
		t.free = t.free[:n-1]
		return q
	}
	return new(query)
}

// end takes a query out of the table. If another response to it may come, its ID is set
// aside. The caller hands q to recycle when it needs it no more.
func (t *table) end(q *query, late bool, now time.Time) {
	if late {
		t.byID[q.id] = givenUp
		t.aside = append(t.aside, asideID{q.id, now})
	} else {
		delete(t.byID, q.id)
	}
	q.gen++
}

// maxFree bounds how many ended queries, of about 300 octets each, are kept for reuse.
const maxFree = 1024

func (t *table) recycle(q *query) {
	q.on, q.before, q.results, q.asked, q.resent = nil, nil, nil, false, false
	if len(t.free) < maxFree {
		t.free = append(t.free, q)
	}
}

// release returns IDs that were set aside long ago, if many are.
func (t *table) release(now time.Time) {
	n := 0
	for n < len(t.aside)-plentyAside && now.Sub(t.aside[n].since) > asideAtLeast {
		delete(t.byID, t.aside[n].id)
		n++
	}
	if n > 0 {
		t.aside = append(t.aside[:0], t.aside[n:]...)
	}
}

// releaseAll returns all IDs that are set aside: no session is left that could answer.
func (t *table) releaseAll() {
	for _, a := range t.aside {
		delete(t.byID, a.id)
	}
	t.aside = t.aside[:0]
}

// queue is queries in the order in which they are to be written. Those that
// ended meanwhile are nil.
type queue struct {
	items []*query
	head  int
}

func (u *queue) push(q *query) {
	q.at = len(u.items)
	u.items = append(u.items, q)
}

func (u *queue) drop(q *query) {
	u.items[q.at] = nil
	q.at = -1
}

// pop returns the next query, or nil.
func (u *queue) pop() *query {
	for u.head < len(u.items) {
		q := u.items[u.head]
		u.items[u.head] = nil
		u.head++
		if q != nil {
			q.at = -1
			return q
		}
	}
	u.items, u.head = u.items[:0], 0
	return nil
}

// unpop puts back the query that pop returned last.
func (u *queue) unpop(q *query) {
	u.head--
	u.items[u.head] = q
	q.at = u.head
}
