package control

import "time"

// Seconds is a time span as JSON has it.
type Seconds float64

// SecondsOf returns d in seconds.
func SecondsOf(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// Duration returns s as people print it.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// Status is the answer to CommandStatus: all that the daemon knows of itself.
type Status struct {
	Version   string    `json:"version"`
	Go        string    `json:"go"`
	Now       time.Time `json:"now"`
	Started   time.Time `json:"started"`
	Uptime    Seconds   `json:"uptime_seconds"`
	Serving   []string  `json:"serving"` // addresses and ports
	Config    Config    `json:"configuration"`
	Sandbox   Sandbox   `json:"sandbox"`
	Policy    string    `json:"policy"`
	Upstreams []Address `json:"upstreams"`
	Queries   Queries   `json:"queries"`
	Cache     Cache     `json:"cache"`
	Clients   Clients   `json:"clients"`
	History   History   `json:"history"`
}

// Config tells which configuration is in force.
type Config struct {
	File      string    `json:"file"`
	Loaded    time.Time `json:"loaded"`
	Reloads   uint64    `json:"reloads"` // that were put in force
	Failures  uint64    `json:"failed_reloads"`
	LastError string    `json:"last_error,omitempty"` // of the last reload, if it failed
	FailedAt  time.Time `json:"failed_at,omitzero"`
	Warnings  []string  `json:"warnings,omitempty"`
}

// Sandbox tells what is enforced, as verified on the sealed process.
type Sandbox struct {
	Mode     string   `json:"mode"`
	Complete bool     `json:"complete"`
	Enforced string   `json:"enforced"`
	Missing  []string `json:"missing,omitempty"`
}

// Address is one address of an upstream.
type Address struct {
	Upstream   string `json:"upstream"`
	Address    string `json:"address"`
	ServerName string `json:"server_name,omitempty"`
	State      string `json:"state"`
	InUse      bool   `json:"in_use"` // a first choice for queries

	Error   string    `json:"error,omitempty"` // why the last session or attempt failed
	Until   time.Time `json:"backing_off_until,omitzero"`
	Pending int       `json:"pending"`

	Queries  uint64            `json:"queries"`
	Answers  uint64            `json:"answers"`
	Failures map[string]uint64 `json:"failures,omitempty"` // by reason
	Times    Times             `json:"answer_times"`

	Session  *Session `json:"session,omitempty"`
	Sessions Sessions `json:"sessions"`
}

// Times are quantiles of answer times.
type Times struct {
	P50 Seconds `json:"p50_seconds"`
	P95 Seconds `json:"p95_seconds"`
	P99 Seconds `json:"p99_seconds"`
}

// Session is the one that takes an address's queries.
type Session struct {
	Since     time.Time `json:"since"`
	Age       Seconds   `json:"age_seconds"`
	Version   string    `json:"version"`
	Suite     string    `json:"cipher_suite"`
	Group     string    `json:"group"`
	ALPN      string    `json:"alpn,omitempty"`
	Resumed   bool      `json:"resumed"`
	Pin       string    `json:"pin"` // "matched", "mismatch" or "none configured"
	PinValue  string    `json:"matched_pin,omitempty"`
	NotAfter  time.Time `json:"certificate_not_after"`
	DaysLeft  float64   `json:"certificate_days_left"`
	IdleLimit Seconds   `json:"idle_timeout_seconds"`
	Queries   uint64    `json:"queries"`
}

// What Session.Pin says.
const (
	PinMatched  = "matched"
	PinMismatch = "mismatch" // reported only, or there would be no session
	PinNone     = "none configured"
)

// Sessions counts an address's sessions.
type Sessions struct {
	Attempts  uint64            `json:"attempts"`
	Failed    uint64            `json:"failed"`
	Opened    uint64            `json:"opened"`
	Resumed   uint64            `json:"resumed"`
	Suspected uint64            `json:"suspected"`
	Closed    map[string]uint64 `json:"closed,omitempty"` // by why
}

// Queries counts what went to upstreams.
type Queries struct {
	Exchanges uint64 `json:"exchanges"`
	Failed    uint64 `json:"failed"`
	Retries   uint64 `json:"retries"`
	Failovers uint64 `json:"failovers"`
	Hedges    uint64 `json:"hedges"`
	Crossed   uint64 `json:"hedges_to_other_upstreams"`
}

// Cache counts what was answered from it.
type Cache struct {
	Entries        int     `json:"entries"`
	Bytes          int64   `json:"bytes"`
	MaxBytes       int64   `json:"max_bytes"`
	Evictions      uint64  `json:"evictions"`
	Hits           uint64  `json:"hits"`
	Misses         uint64  `json:"misses"`
	HitRatio       float64 `json:"hit_ratio"` // 0 to 1
	Stale          uint64  `json:"stale_answers"`
	FailuresCached uint64  `json:"remembered_failures"`
	Local          uint64  `json:"local_answers"`
	Prefetches     uint64  `json:"prefetches"`
}

// Clients counts what came from them.
type Clients struct {
	UDPQueries  uint64 `json:"udp_queries"`
	TCPQueries  uint64 `json:"tcp_queries"`
	TCPNow      int    `json:"tcp_clients"`
	Pending     int64  `json:"pending"`
	Refused     uint64 `json:"refused"`
	Malformed   uint64 `json:"malformed"`
	Ignored     uint64 `json:"ignored"`
	Shed        uint64 `json:"shed"`
	TCPShed     uint64 `json:"shed_tcp_clients"`
	KnownTimes  Times  `json:"known_answer_times"`
	WaitedTimes Times  `json:"waited_answer_times"`
}

// History is the last hour, oldest first: a point for each minute, the last one for what has
// passed of the present minute.
type History struct {
	Step     Seconds   `json:"step_seconds"`
	Rate     []float64 `json:"queries_per_second"`
	HitRatio []float64 `json:"hit_ratio"`
	P95      []Seconds `json:"p95_seconds"`
}
