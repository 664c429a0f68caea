package config

import (
	"strings"
	"time"
)

// Knob is what there is to know about one key of the file.
type Knob struct {
	Table    string // "" for the keys before the first table; "upstream" and "route" are arrays of tables
	Key      string
	Default  string   // as TOML
	Min, Max string   // as TOML; "" where there is no bound
	Choices  []string // what may stand in the text or in the list; nil if that is free
	Sentence string
	Restart  bool // a change takes effect at the next start only
}

// Path is the knob's name in messages, as in "cache.size".
func (k Knob) Path() string { return join(k.Table, k.Key) }

// Bounds says in words what the value may be, "" if that is free.
func (k Knob) Bounds() string {
	bare := func(s string) string { return strings.TrimSuffix(strings.Trim(s, `"`), ".0") }
	switch {
	case k.Min != "":
		return "From " + bare(k.Min) + " to " + bare(k.Max) + "."
	case k.Choices != nil && strings.HasPrefix(k.Default, "["):
		return "There are " + strings.Join(k.Choices, ", ") + "."
	case k.Choices != nil:
		return "One of " + choices(k.Choices) + "."
	default:
		return ""
	}
}

// Knobs returns every key of the file, in the order in which the file is best written.
func Knobs() []Knob {
	var all []Knob
	for _, k := range knobs {
		all = append(all, k.public())
	}
	for _, k := range upstreamKnobs {
		all = append(all, k.public())
	}
	for _, k := range routeKnobs {
		all = append(all, k.public())
	}
	return all
}

// size is a number of octets, written as in "32MiB".
type size int64

// seconds is a time that counts in whole seconds, as TTLs do.
type seconds time.Duration

// raw is the file as it is written, defaults filled in: the shape before any
// meaning is looked at.
type raw struct {
	listen, allow     []string
	timeout           time.Duration
	logLevel, sandbox string

	caFile         string
	suites, groups []string
	requirePQ      bool

	cacheSize                             size
	minTTL, maxTTL, maxNegative, staleFor seconds
	prefetch                              bool

	policy string
	hedge  float64

	pending, tcpClients int
	tcpIdle             time.Duration
	udpPayload          int

	specialNames bool

	upstreams []rawUpstream
	routes    []rawRoute
}

type rawUpstream struct {
	name, serverName, caFile, pinMode string
	addresses, pins                   []string
}

type rawRoute struct {
	domains, upstreams []string
}

// knob is a Knob of the shape T. std, min and max have the type that at points
// to: string, []string, bool, int, float64, time.Duration, seconds or size.
type knob[T any] struct {
	table, key    string
	at            func(*T) any
	std, min, max any
	zero          bool // 0 is good though it is below min: it turns the thing off
	choices       []string
	example       string // of one element or text, where the default has none
	sentence      string
	restart       bool
}

func (k knob[T]) public() Knob {
	p := Knob{Table: k.table, Key: k.key, Default: format(k.std), Choices: k.choices, Sentence: k.sentence, Restart: k.restart}
	if k.min != nil {
		p.Min, p.Max = format(k.min), format(k.max)
	}
	return p
}

const day = 24 * time.Hour

// knobs are the keys of the tables that are there once.
var knobs = [...]knob[raw]{
	{
		key: "listen", at: func(r *raw) any { return &r.listen }, restart: true,
		std:      []string{"127.0.0.1:53", "[::1]:53"},
		sentence: "Addresses to serve, over UDP and TCP; port 53 where none is given. Ignored, with a warning, when systemd passes sockets.",
	},
	{
		key: "allow", at: func(r *raw) any { return &r.allow },
		std: []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
			"169.254.0.0/16", "fc00::/7", "fe80::/10"},
		sentence: "Clients that are served; all others are REFUSED. The default is loopback, private (RFC 1918, RFC 4193) and link-local addresses.",
	},
	{
		key: "timeout", at: func(r *raw) any { return &r.timeout },
		std: 4 * time.Second, min: 100 * time.Millisecond, max: time.Minute,
		sentence: "How long one client's query may take, all attempts together. Stub resolvers give up after 5 s (resolv.conf(5)): stay below.",
	},
	{
		key: "log_level", at: func(r *raw) any { return &r.logLevel },
		std: "info", choices: []string{"debug", "info", "warn", "error"},
		sentence: "The least level that is logged. Names that clients ask for are logged at debug only.",
	},
	{
		key: "sandbox", at: func(r *raw) any { return &r.sandbox }, restart: true,
		std: "best-effort", choices: []string{"required", "best-effort", "off"},
		sentence: "What to do where the kernel cannot enforce a part of the sandbox: refuse to start, go on without that part, or have no sandbox.",
	},

	{
		table: "tls", key: "ca_file", at: func(r *raw) any { return &r.caFile },
		std:      "/etc/ssl/certs/ca-certificates.crt",
		sentence: "Certificates in PEM that upstreams with a server_name must chain to. Read only if there is such an upstream.",
	},
	{
		table: "tls", key: "cipher_suites", at: func(r *raw) any { return &r.suites },
		std: suiteNames(), choices: suiteNames(),
		sentence: "TLS 1.3 cipher suites that are offered, in this order, and accepted. The empty list stands for the default.",
	},
	{
		table: "tls", key: "groups", at: func(r *raw) any { return &r.groups },
		std: []string{"X25519MLKEM768", "X25519", "P-256", "P-384"}, choices: groupNames(),
		sentence: "Key exchanges that are offered and accepted; those with MLKEM are post-quantum. The empty list stands for the default.",
	},
	{
		table: "tls", key: "require_post_quantum", at: func(r *raw) any { return &r.requirePQ },
		std:      false,
		sentence: "Refuse upstreams that cannot agree on a post-quantum key exchange.",
	},

	{
		table: "cache", key: "size", at: func(r *raw) any { return &r.cacheSize },
		std: size(32 << 20), min: size(64 << 10), max: size(1 << 40), zero: true,
		sentence: "Memory for cached answers, all told. \"0\" turns the cache off.",
	},
	{
		table: "cache", key: "min_ttl", at: func(r *raw) any { return &r.minTTL },
		std: seconds(0), min: seconds(0), max: seconds(day),
		sentence: "Answers are kept for at least this long, even if their owner's TTL is shorter.",
	},
	{
		table: "cache", key: "max_ttl", at: func(r *raw) any { return &r.maxTTL },
		std: seconds(day), min: seconds(time.Second), max: seconds(7 * day),
		sentence: "Answers are kept for at most this long.",
	},
	{
		table: "cache", key: "max_negative_ttl", at: func(r *raw) any { return &r.maxNegative },
		std: seconds(time.Hour), min: seconds(0), max: seconds(day),
		sentence: "Answers that a name or type does not exist are kept for at most this long (RFC 2308 advises one to three hours).",
	},
	{
		table: "cache", key: "serve_stale", at: func(r *raw) any { return &r.staleFor },
		std: seconds(day), min: seconds(0), max: seconds(7 * day),
		sentence: "How long past its end an answer may still serve while no upstream answers (RFC 8767). \"0s\" turns it off.",
	},
	{
		table: "cache", key: "prefetch", at: func(r *raw) any { return &r.prefetch },
		std:      true,
		sentence: "Ask again for popular names shortly before their answers end.",
	},

	{
		table: "forward", key: "policy", at: func(r *raw) any { return &r.policy },
		std: "ordered", choices: []string{"ordered", "fastest", "spread"},
		sentence: "Which healthy upstream is asked: the first of the file, the one that answers soonest, or all in turn.",
	},
	{
		table: "forward", key: "hedge_budget", at: func(r *raw) any { return &r.hedge },
		std: 0.05, min: 0.0, max: 1.0,
		sentence: "Share of queries that may also go to a second upstream while a slow first one may still answer. 0: none, so no second party sees a name.",
	},

	{
		table: "limits", key: "pending", at: func(r *raw) any { return &r.pending },
		std: 10000, min: 1, max: 1_000_000,
		sentence: "Queries that may wait for an upstream at once; more are answered SERVFAIL.",
	},
	{
		table: "limits", key: "tcp_clients", at: func(r *raw) any { return &r.tcpClients },
		std: 1000, min: 1, max: 1_000_000,
		sentence: "TCP connections of clients at once; a new one closes the idlest.",
	},
	{
		table: "limits", key: "tcp_idle_timeout", at: func(r *raw) any { return &r.tcpIdle },
		std: 10 * time.Second, min: 100 * time.Millisecond, max: time.Hour,
		sentence: "A TCP connection without a complete query or an answer due is closed after this time (RFC 7766).",
	},
	{
		table: "limits", key: "udp_payload", at: func(r *raw) any { return &r.udpPayload },
		std: 1232, min: 512, max: 4096,
		sentence: "The largest answer over UDP, in octets; longer ones are truncated and asked for again over TCP.",
	},

	{
		table: "local", key: "special_names", at: func(r *raw) any { return &r.specialNames },
		std:      true,
		sentence: "Answer special-use names (localhost, invalid, onion, private reverse zones, resolver.arpa and kin) here, and never send them upstream.",
	},
}

// upstreamKnobs are the keys of an [[upstream]].
var upstreamKnobs = [...]knob[rawUpstream]{
	{
		table: "upstream", key: "name", at: func(u *rawUpstream) any { return &u.name },
		std: "", example: "google",
		sentence: "What the upstream is called in logs, in metrics and in routes. Without one: its server_name or its first address.",
	},
	{
		table: "upstream", key: "addresses", at: func(u *rawUpstream) any { return &u.addresses },
		std: []string{}, example: "8.8.8.8",
		sentence: "IP addresses, tried in this order; port 853 where none is given (write IPv6 with a port as \"[2001:db8::1]:853\"). Port 53 is refused.",
	},
	{
		table: "upstream", key: "server_name", at: func(u *rawUpstream) any { return &u.serverName },
		std: "", example: "dns.google",
		sentence: "The name that the upstream's certificate must be for. Without it there must be pins.",
	},
	{
		table: "upstream", key: "ca_file", at: func(u *rawUpstream) any { return &u.caFile },
		std: "", example: "/etc/dnsproxy/ca.pem",
		sentence: "Certificates in PEM for this upstream, in place of ca_file in [tls].",
	},
	{
		table: "upstream", key: "pins", at: func(u *rawUpstream) any { return &u.pins },
		std:      []string{},
		sentence: "Base64 SHA-256 of the SubjectPublicKeyInfo of certificates, one of which the upstream must present. With server_name both must hold; without it the pins alone authenticate. Give two at least: one is the backup.",
	},
	{
		table: "upstream", key: "pin_mode", at: func(u *rawUpstream) any { return &u.pinMode },
		std: "enforce", choices: []string{"enforce", "report"},
		sentence: "Refuse an upstream that presents none of the pins, or only log it; \"report\" needs a server_name.",
	},
}

// routeKnobs are the keys of a [[route]].
var routeKnobs = [...]knob[rawRoute]{
	{
		table: "route", key: "domains", at: func(r *rawRoute) any { return &r.domains },
		std: []string{}, example: "corp.example",
		sentence: "Names at and under these domains go to the route's upstreams and to no other; the longest domain wins. \".\" stands for all names.",
	},
	{
		table: "route", key: "upstreams", at: func(r *rawRoute) any { return &r.upstreams },
		std: []string{}, example: "corp",
		sentence: "Names of the upstreams to ask. All other names go to the upstreams that no route names; if there is none, to all.",
	},
}

// defaults returns the file that says nothing.
func defaults() raw {
	var r raw
	for _, k := range knobs {
		assign(k.at(&r), k.std)
	}
	return r
}

func defaultUpstream() rawUpstream {
	var u rawUpstream
	for _, k := range upstreamKnobs {
		assign(k.at(&u), k.std)
	}
	return u
}

// tables are the tables that are there once, in the order of the knobs.
func tables() []string {
	var names []string
	for _, k := range knobs {
		if k.table != "" && (len(names) == 0 || names[len(names)-1] != k.table) {
			names = append(names, k.table)
		}
	}
	return names
}
