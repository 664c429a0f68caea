package control

// Explanation is the answer to CommandExplain: the way of one query.
type Explanation struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Route string `json:"route"` // the route's domain; "." is the default
	Via   []Via  `json:"upstreams"`

	Local   string  `json:"local,omitempty"` // the rule that answers here
	Entry   *Stored `json:"cached,omitempty"`
	Failure *Stored `json:"remembered_failure,omitempty"`

	Source string  `json:"source"` // one of the constants below
	Took   Seconds `json:"took_seconds"`
	Steps  []Step  `json:"steps,omitempty"`

	RCode   string   `json:"rcode"`
	EDE     []string `json:"extended_errors,omitempty"`
	Message []byte   `json:"message"` // the answer, in wire form
}

// What Explanation.Source says.
const (
	SourceLocal    = "local"    // a special-use name
	SourceCache    = "cache"    // an entry within its lifetime
	SourceStale    = "stale"    // an entry past it
	SourceFailure  = "failure"  // a remembered failure
	SourceUpstream = "upstream" // asked for now
	SourceNone     = "none"     // asked for now, in vain
)

// Via is an address that the route leads to, and how it fares.
type Via struct {
	Upstream string `json:"upstream"`
	Address  string `json:"address"`
	State    string `json:"state"`
	Error    string `json:"error,omitempty"`
}

// Stored is what the cache had when the query came.
type Stored struct {
	RCode    string  `json:"rcode"`
	Age      Seconds `json:"age_seconds"`
	Lifetime Seconds `json:"lifetime_seconds"`
	Left     Seconds `json:"left_seconds"` // below 0: past its lifetime
	Fresh    bool    `json:"fresh"`
	Hits     int     `json:"hits"` // since it was stored, up to MaxHits
}

// MaxHits is where the cache stops counting.
const MaxHits = 254

// Step is one thing that happened at an upstream.
type Step struct {
	After    Seconds `json:"after_seconds"` // since the query came to the upstreams
	Upstream string  `json:"upstream"`
	Address  string  `json:"address"`
	Event    string  `json:"event"`
	State    string  `json:"state"` // of the address's session then
	Reason   string  `json:"reason,omitempty"`
	Error    string  `json:"error,omitempty"`
}
