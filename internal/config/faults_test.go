package config_test

import (
	"errors"
	"strings"
	"testing"

	"dnsproxy/internal/config"
)

// google is the least upstream; rows put more lines before or behind it.
const google = `[[upstream]]
addresses = ["8.8.8.8"]
server_name = "dns.google"
`

// Pins of no key: 32 octets of 0, and 4 before 31 octets of 0.
const (
	pin      = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	otherPin = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// faultTests is one bad file for each message.
var faultTests = []struct {
	name, text string
	want       string // lines
}{
	// Syntax, shape and keys.
	{"text without quotes", "timeout = 4s\n" + google,
		`dnsproxy.toml:1: timeout: expected a top-level item to end with a newline, comment, or EOF, but got 's' instead; text, times and sizes stand in double quotes, lists in [ ] with commas`},
	{"word without quotes", "\nlog_level = debug\n" + google,
		`dnsproxy.toml:2: log_level: expected value but found "debug" instead; text, times and sizes stand in double quotes, lists in [ ] with commas`},
	{"list without commas", "listen = [\"127.0.0.1:53\"\n \"[::1]:53\"]\n" + google,
		`dnsproxy.toml:2: listen: expected a comma (',') or array terminator (']'), but got '"'; text, times and sizes stand in double quotes, lists in [ ] with commas`},
	{"not UTF-8", "timeout = \"4s\"\n# caf\xe9\n" + google,
		`dnsproxy.toml:2: this is not UTF-8 text`},
	{"nested too deeply", google + "pins = [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]",
		`dnsproxy.toml:4: this nests deeper than any key of the file does`},
	{"duplicate key", "timeout = \"4s\"\n\ntimeout = \"5s\"\n" + google,
		`dnsproxy.toml:3: timeout: this is here a second time, after line 1; keep one`},
	{"duplicate table and key", "[cache]\nsize = \"0\"\n[cache]\n" + google + "server_name = \"x\"\n", "" +
		"dnsproxy.toml:3: cache: this is here a second time, after line 1; keep one\n" +
		"dnsproxy.toml:7: upstream[0].server_name: this is here a second time, after line 6; keep one"},
	{"misspelt key", google + "serverName = \"dns.google\"\n",
		`dnsproxy.toml:4: upstream[0].serverName: unknown key "serverName"; did you mean "server_name"?`},
	{"misspelt key in the second upstream", google + "[[upstream]]\naddresses = [\"9.9.9.9\"]\nserver_name = \"dns.quad9.net\"\npin = []\n",
		`dnsproxy.toml:7: upstream[1].pin: unknown key "pin"; did you mean "pins"?`},
	{"key in capitals", "Timeout = \"4s\"\n" + google,
		`dnsproxy.toml:1: Timeout: unknown key "Timeout"; did you mean "timeout"?`},
	{"key of another table", google + "timeout = \"4s\"\n",
		`dnsproxy.toml:4: upstream[0].timeout: unknown key "timeout"; it belongs at the top of the file, before the first table`},
	{"key of a table above it", "pins = []\n" + google,
		`dnsproxy.toml:1: pins: unknown key "pins"; it belongs in [[upstream]]`},
	{"key of a table elsewhere", "[forward]\nudp_payload = 1400\n" + google,
		`dnsproxy.toml:2: forward.udp_payload: unknown key "udp_payload"; it belongs in [limits]`},
	{"key that is like none", "[forward]\nxyzzy = 1\n" + google,
		`dnsproxy.toml:2: forward.xyzzy: unknown key "xyzzy"; there are "policy" and "hedge_budget"`},
	{"misspelt table", google + "[cahce]\nsize = \"0\"\n",
		`dnsproxy.toml:4: cahce: unknown table "cahce"; did you mean "cache"?`},
	{"misspelt array of tables", google + "[[routes]]\n",
		`dnsproxy.toml:4: routes: unknown table "routes"; did you mean "route"?`},
	{"single brackets", "[upstream]\naddresses = [\"8.8.8.8\"]\n",
		`dnsproxy.toml:1: upstream: want [[upstream]], in double brackets, since there may be several`},
	{"double brackets", google + "[[cache]]\nsize = \"0\"\n",
		`dnsproxy.toml:4: cache: want the table [cache] once, in single brackets`},
	{"value for a table", "cache = \"32MiB\"\n" + google,
		`dnsproxy.toml:1: cache: want the table [cache] once, in single brackets`},
	{"values for tables", "upstream = [\"8.8.8.8\"]\n",
		"dnsproxy.toml:1: upstream[0]: want a table, got text"},
	{"every fault is reported, in the order of lines", google + "pin_mode = 3\n[forward]\npolicy = \"random\"\n[cache]\nsize = 0\n", "" +
		"dnsproxy.toml:4: upstream[0].pin_mode: want text in quotes, as \"enforce\"; got a whole number 3\n" +
		"dnsproxy.toml:6: forward.policy: want \"ordered\", \"fastest\" or \"spread\"; got \"random\"\n" +
		"dnsproxy.toml:8: cache.size: want a size in quotes, as \"32MiB\"; got a whole number 0; write \"0\""},

	// Types and bounds.
	{"time as a number", "timeout = 4\n" + google,
		`dnsproxy.toml:1: timeout: want a time in quotes, as "4s"; got a whole number 4; write "4s" for seconds`},
	{"time without a unit", "timeout = \"4\"\n" + google,
		`dnsproxy.toml:1: timeout: want a time in quotes, as "4s"; got "4"; the units are ms, s, m and h, right behind a number`},
	{"time in days", "[cache]\nserve_stale = \"3d\"\n" + google,
		`dnsproxy.toml:2: cache.serve_stale: want a time in quotes, as "24h"; got "3d"; write "72h"`},
	{"time out of bounds", "timeout = \"90s\"\n" + google,
		`dnsproxy.toml:1: timeout: want "100ms" to "1m"; got "90s"`},
	{"time below zero", "[cache]\nmin_ttl = \"-1s\"\n" + google,
		`dnsproxy.toml:2: cache.min_ttl: want "0s" to "24h"; got "-1s"`},
	{"TTL of a fraction", "[cache]\nmin_ttl = \"1500ms\"\n" + google,
		`dnsproxy.toml:2: cache.min_ttl: want whole seconds, as TTLs are; got "1500ms"`},
	{"TTLs that exclude each other", "[cache]\nmin_ttl = \"2h\"\nmax_ttl = \"90m\"\n" + google,
		`dnsproxy.toml:2: cache.min_ttl: 2h is more than max_ttl, 1h30m`},
	{"size with a decimal unit", "[cache]\nsize = \"32MB\"\n" + google,
		`dnsproxy.toml:2: cache.size: want a size in quotes, as "32MiB"; got "32MB"; the units are B, KiB, MiB, GiB and TiB, right behind a whole number`},
	{"size below the least", "[cache]\nsize = \"1KiB\"\n" + google,
		`dnsproxy.toml:2: cache.size: want "0", or "64KiB" to "1TiB"; got "1KiB"`},
	{"size beyond 64 bits", "[cache]\nsize = \"99999999TiB\"\n" + google,
		`dnsproxy.toml:2: cache.size: want a size in quotes, as "32MiB"; got "99999999TiB"; the units are B, KiB, MiB, GiB and TiB, right behind a whole number`},
	{"number in quotes", "[limits]\npending = \"10\"\n" + google,
		`dnsproxy.toml:2: limits.pending: want a whole number, without quotes, as 10000; got "10"`},
	{"number out of bounds", "[limits]\nudp_payload = 65536\n" + google,
		`dnsproxy.toml:2: limits.udp_payload: want 512 to 4096; got 65536`},
	{"number beyond 32 bits", "[limits]\npending = 99999999999\n" + google,
		`dnsproxy.toml:2: limits.pending: want 1 to 1000000; got 99999999999`},
	{"share in percent", "[forward]\nhedge_budget = 5\n" + google,
		`dnsproxy.toml:2: forward.hedge_budget: want 0.0 to 1.0; got 5`},
	{"share that is no number", "[forward]\nhedge_budget = nan\n" + google,
		`dnsproxy.toml:2: forward.hedge_budget: want a number, without quotes, as 0.05; got a number NaN`},
	{"boolean in quotes", "[cache]\nprefetch = \"yes\"\n" + google,
		`dnsproxy.toml:2: cache.prefetch: want true or false, without quotes, as true; got "yes"`},
	{"date for text", "log_level = 2026-01-02\n" + google,
		`dnsproxy.toml:1: log_level: want text in quotes, as "info"; got a date`},
	{"text for a list", "listen = \"127.0.0.1:53\"\n" + google,
		`dnsproxy.toml:1: listen: want a list of texts in quotes, as ["127.0.0.1:53", "[::1]:53"]; got "127.0.0.1:53"; write ["127.0.0.1:53"]`},
	{"numbers in a list", google + "pins = [\n  1,\n  true]\n", "" +
		"dnsproxy.toml:5: upstream[0].pins[0]: want text in quotes; got a whole number 1\n" +
		"dnsproxy.toml:6: upstream[0].pins[1]: want text in quotes; got a boolean true"},
	{"misspelt choice", "sandbox = \"best effort\"\n" + google,
		`dnsproxy.toml:1: sandbox: want "required", "best-effort" or "off"; got "best effort"; did you mean "best-effort"?`},

	// Who is served, and where.
	{"name to listen on", "listen = [\"localhost:53\"]\n" + google,
		`dnsproxy.toml:1: listen[0]: want an IP address, got the name "localhost"; dnsproxy looks up no names for itself, since that would ask in clear`},
	{"every address to listen on", "listen = [\"[::1]:53\",\n\":53\"]\n" + google,
		`dnsproxy.toml:2: listen[1]: want an IP address, as "192.0.2.1", "192.0.2.1:53" or "[2001:db8::1]:53"; got ":53"; "0.0.0.0:53" and "[::]:53" stand for every address of the machine`},
	{"port 0", "listen = [\"127.0.0.1:0\"]\n" + google,
		`dnsproxy.toml:1: listen[0]: want a port from 1 to 65535, got 0`},
	{"multicast to listen on", "listen = [\"224.0.0.251:53\"]\n" + google,
		`dnsproxy.toml:1: listen[0]: a multicast address cannot be served`},
	{"address to listen on twice", "listen = [\"127.0.0.1\", \"127.0.0.1:53\"]\n" + google,
		`dnsproxy.toml:1: listen[1]: 127.0.0.1:53 is listed twice`},
	{"nobody allowed", "allow = []\n" + google,
		`dnsproxy.toml:1: allow: nobody would be served; ["0.0.0.0/0", "::/0"] stands for everybody`},
	{"prefix with host bits", "allow = [\"192.168.1.7/24\"]\n" + google,
		`dnsproxy.toml:1: allow[0]: "192.168.1.7/24" is neither a network nor one address; write "192.168.1.0/24" for the network or "192.168.1.7/32" for the one address`},
	{"no prefix", "allow = [\"lan\"]\n" + google,
		`dnsproxy.toml:1: allow[0]: want an IP prefix, as "192.0.2.0/24" or "2001:db8::/32"; got "lan"`},
	{"prefix twice", "allow = [\"::ffff:10.0.0.0/104\", \"10.0.0.0/8\"]\n" + google,
		`dnsproxy.toml:1: allow[1]: 10.0.0.0/8 is listed twice`},

	// TLS.
	{"misspelt suite", "[tls]\ncipher_suites = [\"TLS_AES_128_GCM_SHA256\", \"TLS_CHACHA_POLY1305_SHA256\"]\n" + google,
		`dnsproxy.toml:2: tls.cipher_suites[1]: unknown cipher suite "TLS_CHACHA_POLY1305_SHA256"; did you mean "TLS_CHACHA20_POLY1305_SHA256"?`},
	{"suite of TLS 1.2", "[tls]\ncipher_suites = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]\n" + google,
		`dnsproxy.toml:2: tls.cipher_suites[0]: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" is a cipher suite of TLS 1.2; dnsproxy speaks TLS 1.3 only; want "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384" or "TLS_CHACHA20_POLY1305_SHA256"`},
	{"insecure suite", "[tls]\ncipher_suites = [\"TLS_RSA_WITH_RC4_128_SHA\"]\n" + google,
		`dnsproxy.toml:2: tls.cipher_suites[0]: "TLS_RSA_WITH_RC4_128_SHA" is a cipher suite of TLS 1.2; dnsproxy speaks TLS 1.3 only; want "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384" or "TLS_CHACHA20_POLY1305_SHA256"`},
	{"suite twice", "[tls]\ncipher_suites = [\"TLS_AES_128_GCM_SHA256\", \"TLS_AES_128_GCM_SHA256\"]\n" + google,
		`dnsproxy.toml:2: tls.cipher_suites[1]: "TLS_AES_128_GCM_SHA256" is listed twice`},
	{"group by OpenSSL's name", "[tls]\ngroups = [\"prime256v1\"]\n" + google,
		`dnsproxy.toml:2: tls.groups[0]: unknown group "prime256v1"; did you mean "P-256"?`},
	{"misspelt group", "[tls]\ngroups = [\"X25519MLKEM786\"]\n" + google,
		`dnsproxy.toml:2: tls.groups[0]: unknown group "X25519MLKEM786"; did you mean "X25519MLKEM768"?`},
	{"unknown group", "[tls]\ngroups = [\"ffdhe2048\"]\n" + google,
		`dnsproxy.toml:2: tls.groups[0]: unknown group "ffdhe2048"; want "X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "P-256", "P-384" or "P-521"`},
	{"post-quantum without a group", "[tls]\ngroups = [\"X25519\"]\nrequire_post_quantum = true\n" + google,
		`dnsproxy.toml:3: tls.require_post_quantum: tls.groups has no post-quantum group; add "X25519MLKEM768"`},
	{"relative CA file", "[tls]\nca_file = \"ca.pem\"\n" + google,
		`dnsproxy.toml:2: tls.ca_file: want an absolute path, got "ca.pem"`},
	{"no CA file", "[tls]\nca_file = \"\"\n" + google,
		`dnsproxy.toml:2: tls.ca_file: want a path, since upstreams have a server_name`},
	{"missing CA file", "[tls]\nca_file = \"/missing\"\n" + google + strings.Replace(google, "8.8.8.8", "8.8.4.4", 1),
		`dnsproxy.toml:2: tls.ca_file: cannot use "/missing": file does not exist; install the package ca-certificates, or name the file that has the upstream's CA`},
	{"missing CA file of an upstream", google + "ca_file = \"/missing\"\n",
		`dnsproxy.toml:4: upstream[0].ca_file: cannot use "/missing": file does not exist; install the package ca-certificates, or name the file that has the upstream's CA`},
	{"CA file without certificates", google + "ca_file = \"/text\"\n",
		`dnsproxy.toml:4: upstream[0].ca_file: cannot use "/text": there is no certificate in PEM in it`},
	{"empty CA file", google + "ca_file = \"/empty\"\n",
		`dnsproxy.toml:4: upstream[0].ca_file: cannot use "/empty": there is no certificate in PEM in it`},

	// Upstreams.
	{"empty file", "",
		`dnsproxy.toml:1: upstream: there is none; the least is: [[upstream]], addresses = ["8.8.8.8"], server_name = "dns.google", on three lines`},
	{"upstream without authentication", "\n[[upstream]]\naddresses = [\"8.8.8.8\"]\n",
		`dnsproxy.toml:2: upstream[0]: neither server_name nor pins are given, so nothing would tell the upstream from an impostor; add server_name, or pins ("dnsproxy probe 8.8.8.8" prints them)`},
	{"upstream without addresses", "[[upstream]]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:1: upstream[0].addresses: want at least one, as in addresses = ["8.8.8.8"]`},
	{"name for an address", "[[upstream]]\naddresses = [\n  \"dns.google\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:3: upstream[0].addresses[0]: want an IP address, got the name "dns.google"; dnsproxy looks up no names for itself, since that would ask in clear`},
	{"URL for an address", "[[upstream]]\naddresses = [\"tls://8.8.8.8\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[0]: want an IP address, got the URL "tls://8.8.8.8"; write "8.8.8.8"`},
	{"address as systemd-resolved has it", "[[upstream]]\naddresses = [\"8.8.8.8#dns.google\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[0]: want an IP address, got "8.8.8.8#dns.google"; write "8.8.8.8" here, and server_name = "dns.google"`},
	{"port that is too large", "[[upstream]]\naddresses = [\"8.8.8.8:85300\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[0]: want a port from 1 to 65535, got "85300"`},
	{"IPv6 and port without brackets", "[[upstream]]\naddresses = [\"2001:db8:1:2:3:4:5:6:853\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[0]: want IPv6 in brackets where a port follows, got "2001:db8:1:2:3:4:5:6:853"; write "[2001:db8:1:2:3:4:5:6]:853"`},
	{"nonsense for an address", "[[upstream]]\naddresses = [\"8.8.8\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[0]: want an IP address, as "192.0.2.1", "192.0.2.1:853" or "[2001:db8::1]:853"; got "8.8.8"`},
	{"port 53", "[[upstream]]\naddresses = [\"8.8.8.8:53\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[0]: port 53 is for DNS in clear, and never used for DNS over TLS (RFC 7858, section 3.1); write "8.8.8.8" for port 853`},
	{"port 53, IPv6", "[[upstream]]\naddresses = [\"[2001:db8::1]:53\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[0]: port 53 is for DNS in clear, and never used for DNS over TLS (RFC 7858, section 3.1); write "2001:db8::1" for port 853`},
	{"address of no host", "[[upstream]]\naddresses = [\"0.0.0.0\", \"ff02::fb\"]\nserver_name = \"dns.google\"\n", "" +
		"dnsproxy.toml:2: upstream[0].addresses[0]: 0.0.0.0 is no address of a host\n" +
		"dnsproxy.toml:2: upstream[0].addresses[1]: ff02::fb is no address of a host"},
	{"link-local without an interface", "[[upstream]]\naddresses = [\"fe80::1\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[0]: a link-local address needs the interface it is on; write it as "fe80::1%eth0"`},
	{"interface without link-local", "[[upstream]]\naddresses = [\"2001:db8::1%eth0\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[0]: "2001:db8::1%eth0" is no address with a zone: an interface may follow a link-local address only`},
	{"address twice in an upstream", "[[upstream]]\naddresses = [\"8.8.8.8\", \"8.8.8.8:853\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:2: upstream[0].addresses[1]: 8.8.8.8:853 is there already, as upstream[0].addresses[0]`},
	{"address in two upstreams", google + google,
		`dnsproxy.toml:5: upstream[1].addresses[0]: 8.8.8.8:853 is there already, as upstream[0].addresses[0]`},
	{"loop", "listen = [\"127.0.0.1:8853\"]\n[[upstream]]\naddresses = [\"127.0.0.1:8853\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:3: upstream[0].addresses[0]: this is where dnsproxy itself listens (127.0.0.1:8853)`},
	{"loop through a wildcard", "listen = [\"[::]:8853\"]\n[[upstream]]\naddresses = [\"127.0.0.1:8853\"]\nserver_name = \"dns.google\"\n",
		`dnsproxy.toml:3: upstream[0].addresses[0]: this is where dnsproxy itself listens ([::]:8853)`},
	{"name twice", google + "name = \"a\"\n[[upstream]]\naddresses = [\"9.9.9.9\"]\nserver_name = \"dns.quad9.net\"\nname = \"a\"\n",
		`dnsproxy.toml:8: upstream[1].name: "a" is there already, as upstream[0].name`},
	{"name with blanks", google + "name = \"my upstream\"\n",
		`dnsproxy.toml:4: upstream[0].name: want at most 64 letters, digits and characters of "-_.:[]%"; got "my upstream"`},
	{"server name not in ASCII", "[[upstream]]\naddresses = [\"192.0.2.1\"]\nserver_name = \"bücher.example\"\n",
		`dnsproxy.toml:3: upstream[0].server_name: "bücher.example" is not in ASCII; write the labels as they are in DNS, as "xn--bcher-kva.example"`},
	{"server name with a port", "[[upstream]]\naddresses = [\"192.0.2.1\"]\nserver_name = \"dns.example:853\"\n",
		`dnsproxy.toml:3: upstream[0].server_name: "dns.example:853" is no domain name: labels have letters, digits, hyphens and underscores, and a hyphen at neither end`},
	{"short pin", google + "pins = [\n\"" + pin + "\",\n\"" + pin[1:] + "\"]\n",
		`dnsproxy.toml:6: upstream[0].pins[1]: want 44 characters of base64, got 43; "dnsproxy probe 8.8.8.8 dns.google" prints them`},
	{"pin in hexadecimal", google + "pins = [\"" + strings.Repeat("00", 32) + "\"]\n",
		`dnsproxy.toml:4: upstream[0].pins[0]: want 44 characters of base64, got 64; "dnsproxy probe 8.8.8.8 dns.google" prints them`},
	{"pin that is not base64", google + "pins = [\"" + strings.Repeat("!", 43) + "=\"]\n",
		`dnsproxy.toml:4: upstream[0].pins[0]: not base64: illegal base64 data at input byte 0; "dnsproxy probe 8.8.8.8 dns.google" prints them`},
	{"pin that the usual pipeline of openssl prints if it reaches nobody", google + "pins = [\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]\n",
		`dnsproxy.toml:4: upstream[0].pins[0]: this is the SHA-256 of nothing: what printed it had no key to read; "dnsproxy probe 8.8.8.8 dns.google" prints them`},
	{"pin twice", google + "pins = [\"" + pin + "\", \"sha256/" + pin + "\"]\n",
		`dnsproxy.toml:4: upstream[0].pins[1]: this pin is listed twice; a backup must be of another key`},
	{"pins reported only, and nothing else", "[[upstream]]\naddresses = [\"192.0.2.1\"]\npins = [\"" + pin + "\"]\npin_mode = \"report\"\n",
		`dnsproxy.toml:4: upstream[0].pin_mode: "report" would let anybody pass, since the pins are all that authenticates; add server_name`},

	// Routes.
	{"route to an unknown upstream", google + "name = \"google\"\n[[route]]\ndomains = [\"corp.example\"]\nupstreams = [\"gogle\"]\n",
		`dnsproxy.toml:7: route[0].upstreams[0]: there is no upstream "gogle"; did you mean "google"?`},
	{"route to an upstream that is like none", google + "[[route]]\ndomains = [\"corp.example\"]\nupstreams = [\"corp\"]\n",
		`dnsproxy.toml:6: route[0].upstreams[0]: there is no upstream "corp"; want "dns.google"`},
	{"route to an upstream twice", google + "[[route]]\ndomains = [\"corp.example\"]\nupstreams = [\"dns.google\", \"dns.google\"]\n",
		`dnsproxy.toml:6: route[0].upstreams[1]: "dns.google" is listed twice`},
	{"domain in two routes", google + strings.Repeat("[[route]]\ndomains = [\"corp.example\"]\nupstreams = [\"dns.google\"]\n", 2),
		`dnsproxy.toml:8: route[1].domains[0]: "corp.example" is there already, as route[0].domains[0]`},
	{"domain twice, written differently", google + "[[route]]\ndomains = [\"corp.example\", \"Corp.Example.\"]\nupstreams = [\"dns.google\"]\n",
		`dnsproxy.toml:5: route[0].domains[1]: "Corp.Example." is there already, as route[0].domains[0]`},
	{"wildcard domain", google + "[[route]]\ndomains = [\"*.corp.example\"]\nupstreams = [\"dns.google\"]\n",
		`dnsproxy.toml:5: route[0].domains[0]: a domain stands for all names under it, without "*."; write "corp.example"`},
	{"domain with an empty label", google + "[[route]]\ndomains = [\"corp..example\"]\nupstreams = [\"dns.google\"]\n",
		`dnsproxy.toml:5: route[0].domains[0]: "corp..example" has an empty label`},
	{"label that is too long", google + "[[route]]\ndomains = [\"" + strings.Repeat("a", 64) + ".example\"]\nupstreams = [\"dns.google\"]\n",
		`dnsproxy.toml:5: route[0].domains[0]: the label "` + strings.Repeat("a", 64) + `" has 64 characters, 1 more than DNS allows`},
	{"domain that is too long", google + "[[route]]\ndomains = [\"" + strings.Repeat("a.", 126) + "example\"]\nupstreams = [\"dns.google\"]\n",
		`dnsproxy.toml:5: route[0].domains[0]: want a domain name of at most 253 characters, got 259`},
	{"empty domain", google + "[[route]]\ndomains = [\"\"]\nupstreams = [\"dns.google\"]\n",
		`dnsproxy.toml:5: route[0].domains[0]: want a domain name, got none`},
	{"route without anything", google + "[[route]]\n", "" +
		"dnsproxy.toml:4: route[0].domains: want at least one, as in domains = [\"corp.example\"]\n" +
		"dnsproxy.toml:4: route[0].upstreams: want the name of at least one upstream"},
}

func TestFaults(t *testing.T) {
	for _, tt := range faultTests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Parse([]byte(tt.text), "dnsproxy.toml", readCA)
			if err == nil {
				t.Fatalf("accepted:\n%s", c)
			}
			if err.Error() != tt.want {
				t.Errorf("got:\n%v\nwant:\n%s", err, tt.want)
			}
			var faults config.Faults
			if !errors.As(err, &faults) || len(faults) != 1+strings.Count(tt.want, "\n") {
				t.Errorf("got %T", err)
			}
		})
	}
}

func TestMissingDefaultCAFilePointsAtWhoNeedsIt(t *testing.T) {
	_, err := config.Parse([]byte("[[upstream]]\naddresses = [\"8.8.8.8\"]\n\nserver_name = \"dns.google\"\n"), "dnsproxy.toml",
		func(string) ([]byte, error) { return nil, errors.New("input/output error") })
	const want = `dnsproxy.toml:4: tls.ca_file: cannot use "/etc/ssl/certs/ca-certificates.crt": input/output error`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// warningTests is one file for each warning.
var warningTests = []struct{ name, text, want string }{
	{"nothing odd", google, ""},
	{"two pins", google + "pins = [\"" + pin + "\", \"" + otherPin + "\"]\n", ""},
	{"single pin", google + "pins = [\"" + pin + "\"]\n",
		`dnsproxy.toml:4: upstream[0].pins: there is one pin only: when the upstream changes its key, it is lost (RFC 7858, section 4.2, asks for a backup); add that of its issuer ("dnsproxy probe 8.8.8.8 dns.google" prints them)`},
	{"the suite that all must have left out", "[tls]\ncipher_suites = [\"TLS_AES_256_GCM_SHA384\"]\n" + google,
		`dnsproxy.toml:2: tls.cipher_suites: TLS_AES_128_GCM_SHA256 is left out, the one suite that every TLS 1.3 server must have (RFC 8446, section 9.1); some upstreams may not be reached`},
	{"timeout as long as the stub resolver's", "timeout = \"5s\"\n" + google,
		`dnsproxy.toml:1: timeout: stub resolvers give up after 5s (resolv.conf(5)), before an answer at 5s can reach them`},
	{"everybody allowed", "allow = [\"::/0\"]\n" + google,
		`dnsproxy.toml:1: allow[0]: ::/0 lets everybody ask: an open resolver is used to flood others (RFC 5358)`},
	{"CA file without a name", "[[upstream]]\naddresses = [\"192.0.2.1\"]\npins = [\"" + pin + "\", \"" + otherPin + "\"]\nca_file = \"/a\"\n",
		`dnsproxy.toml:4: upstream[0].ca_file: this has no effect without server_name`},
	{"report without pins", google + "pin_mode = \"report\"\n",
		`dnsproxy.toml:4: upstream[0].pin_mode: this has no effect without pins`},
}

func TestWarnings(t *testing.T) {
	for _, tt := range warningTests {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(parse(t, tt.text).Warnings, "\n"); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}
