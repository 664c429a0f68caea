# shellcheck shell=bash disable=SC2016,SC2154
# Checks of what the operator asks the daemon, and of what he is told.
#
# Sourced by run.

# said_to USER COMMAND...: what it prints, errors and all, run as that user, on one line.
said_to() { { inside runuser -u "$1" -- "${@:2}" 2>&1 || true; } | tr -s ' \n' ' '; }

control_is_for_the_group() {
	[ "$(inside stat -c '%a %U:%G %F' /run/dnsproxy/control)" = '660 root:dnsproxy socket' ]
	inside useradd --no-create-home --groups dnsproxy helpdesk
	said_to helpdesk dnsproxy status | has 'serving 127.0.0.1:53'
	said_to nobody dnsproxy status | has 'you may not ask the daemon'
	inside userdel helpdesk
	# The process that "systemctl reload" starts is of that group by itself.
	[ "$(inside ps -o egroup= -p "$(property MainPID)")" = dnsproxy ]
}

# told WANT COMMAND...: its output has that text, however it is folded.
told() {
	local said
	said=$(inside dnsproxy "${@:2}" 2>&1 | tr -s ' \n' ' ') || true
	case $said in *"$1"*) ;; *) fail "dnsproxy ${*:2}: no \"$1\" in: $said" ;; esac
}

operator_is_told() {
	inside dnsproxy flush
	expect 192.0.2.53 host.test
	told ' test 192.0.2.53:853 dns.test: ready session TLS 1.3, TLS_' status
	told '; pin none configured; certificate ' status
	told 'sandbox landlock' status
	told 'cache NOERROR, ' explain host.test
	told 'answer NOERROR, from the cache' explain host.test
	told '1 entry forgotten' flush host.test
	told 'cache nothing 0.0 ms test 192.0.2.53:853 asked (session ready)' explain host.test
	told 'test 192.0.2.53:853 answered answer NOERROR, from an upstream after ' explain host.test --dnssec
	told 'local answered by dnsproxy itself' explain 1.1.168.192.in-addr.arpa PTR
	inside dnsproxy probe >"$work/probe"
	grep -q '^upstream "test" (192.0.2.53:853): accepted' "$work/probe"
	grep -q '^upstream "test" (\[2001:db8::53\]:853): accepted' "$work/probe"
	inside dnsproxy status --json | perl -MJSON::PP -e 'local $/; my $s = decode_json(<>); exit !($s->{upstreams}[0]{answers} > 0)'
}

# What "dnsproxy check" cannot know: the ports that the sealed process may connect to.
reload_of_what_the_sandbox_refuses() {
	local pid
	pid=$(property MainPID)
	configure '"192.0.2.53:8530"'
	! inside systemctl reload dnsproxy || fail 'reload did not fail'
	inside journalctl -q -u dnsproxy -n 20 -o cat | has 'needs a restart'
	told 'RELOAD FAILED' status
	[ "$(property MainPID)" = "$pid" ]
	configure "$first"
	inside systemctl reload dnsproxy
	! inside dnsproxy status | has 'RELOAD FAILED' || fail 'a failure that is over is told'
	told 'read again, and nothing is different' reload
	configure "$second"
	told 'changed: ' reload
	expect 192.0.2.54 whoami.test
	configure "$first"
	inside systemctl reload dnsproxy
}

stopped_it_says_so() {
	inside systemctl stop dnsproxy.socket dnsproxy.service
	told 'no daemon listens at /run/dnsproxy/control' status
	[ "$(property ActiveState)" = inactive ]
	inside systemctl start dnsproxy.socket
	told 'serving 127.0.0.1:53' status
	[ "$(property ActiveState)" = active ]
}

scrape() { sh_inside 'exec 3<>/dev/tcp/127.0.0.1/9153; printf "GET /metrics HTTP/1.0\r\n\r\n" >&3; cat <&3'; }

metrics_are_off_until_enabled() {
	! scrape || fail 'something serves metrics'
	inside systemctl enable dnsproxy-metrics.socket
	inside systemctl restart dnsproxy.service
	expect 192.0.2.53 host.test
	scrape >"$work/page"
	grep -q '^HTTP/1.0 200 ' "$work/page"
	grep -q '^dnsproxy_queries_total{transport="udp"} [1-9]' "$work/page"
	grep -q '^dnsproxy_upstream_state{upstream="test",address="192.0.2.53:853",state="ready"} 1' "$work/page"
	! grep -q 'host\.test' "$work/page" || fail 'the metrics have names that clients asked for'
	note "$(grep -c '^# TYPE ' "$work/page") families"
	inside systemctl disable --now dnsproxy-metrics.socket
	inside systemctl restart dnsproxy.service
	! scrape || fail 'metrics are served still'
}

# warned SINCE PATTERN...: since that time the journal's warnings have a line for each pattern, and no others.
warned() {
	local since=$1 pattern
	inside journalctl --sync
	inside journalctl -q -u dnsproxy -p warning --since="$since" -o cat >"$work/warnings"
	cp "$work/warnings" "$work/others"
	for pattern in "${@:2}"; do
		grep -qE "$pattern" "$work/warnings" || { cat "$work/warnings"; fail "no warning like $pattern"; }
		grep -vE "$pattern" "$work/others" >"$work/rest" || true
		mv "$work/rest" "$work/others"
	done
	[ ! -s "$work/others" ] || { cat "$work/others"; fail 'other warnings'; }
}

moment() { date +@%s.%6N; }

warnings_name_the_trouble() {
	local since pins='pins = ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]'
	since=$(moment)
	configure '"192.0.2.53"'
	sh_inside "echo '$pins' >>/etc/dnsproxy/dnsproxy.toml; echo 'pin_mode = \"report\"' >>/etc/dnsproxy/dnsproxy.toml"
	inside systemctl restart dnsproxy
	expect 192.0.2.53 host.test
	warned "$since" '^pin mismatch: upstream=test address=192.0.2.53:853 .*mode=report'
	sh_inside "sed -i 's/^pin_mode.*//' /etc/dnsproxy/dnsproxy.toml"
	since=$(moment)
	inside systemctl restart dnsproxy
	inside dig +tries=1 +time=5 host.test | has 'status: SERVFAIL'
	warned "$since" '^upstream down: upstream=test address=192.0.2.53:853 reason=authentication ' '^no upstream answers: '
	configure '"192.0.2.53"'
	inside systemctl restart dnsproxy
	expect 192.0.2.53 host.test
	since=$(moment)
	inside systemctl stop upstream53
	inside dig +tries=1 +time=5 "n$RANDOM.wild.test" | has 'status: SERVFAIL'
	inside systemctl start upstream53
	await 10 expect 192.0.2.99 "n$RANDOM.wild.test"
	warned "$since" '^upstream down: upstream=test address=192.0.2.53:853 reason=refused ' '^no upstream answers: ' \
		'^upstream up: upstream=test ' '^upstreams answer again$'
	configure "$first"
	inside systemctl restart dnsproxy
}

# diagnosed CODE TEXT: doctor ends with that code, and says that.
diagnosed() {
	local code=0
	inside dnsproxy doctor >"$work/doctor" 2>&1 || code=$?
	cat "$work/doctor"
	[ "$code" = "$1" ] || fail "exit code $code, want $1"
	grep -qF "$2" "$work/doctor" || fail "no \"$2\""
}

doctor_finds() {
	diagnosed 0 '127.0.0.1 and ::1, UDP and TCP, held by systemd for dnsproxy.socket'
	grep -q '^ok  *lookup' "$work/doctor"
	note "$(grep -c '^ok' "$work/doctor") ok, $(grep -cE '^(note|warning)' "$work/doctor") notes and warnings"
	sh_inside 'echo nameserver 192.0.2.99 >>/etc/resolv.conf'
	diagnosed 1 192.0.2.99
	inside cp /etc/resolv.conf.ours /etc/resolv.conf
	sh_inside 'echo "adresses = 1" >>/etc/dnsproxy/dnsproxy.toml'
	diagnosed 1 'unknown key "adresses"'
	configure "$first"
	inside systemctl stop dnsproxy.socket dnsproxy.service
	diagnosed 1 'dnsproxy.socket'
	[ "$(property ActiveState)" = inactive ] || fail 'it started something'
	inside systemctl start dnsproxy.socket
	expect 192.0.2.53 host.test
}

operator_checks() {
	check 'the control socket is for root and group dnsproxy' control_is_for_the_group
	check 'status, explain, flush and probe tell what is' operator_is_told
	check 'doctor finds nothing wrong, and then what is' doctor_finds
	check 'a change that the sandbox refuses fails systemctl reload' reload_of_what_the_sandbox_refuses
	check 'stopped: status says so, and starts nothing' stopped_it_says_so
	check 'metrics are served once their socket is enabled' metrics_are_off_until_enabled
	check 'pin mismatch, bad certificate, upstream down and up: each a warning, and no others' warnings_name_the_trouble
}
