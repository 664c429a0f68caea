# shellcheck shell=bash disable=SC2016,SC2154
# What is checked in the machine. Each function is one check; fail, or any command that fails, ends it.
#
# Sourced by run.

# --- tools of the checks ---

# has PATTERN: whether the standard input has it. Unlike grep -q it reads on to the end, so that whoever writes is not
# ended by a broken pipe.
has() { [ "$(grep -c "$@")" -gt 0 ]; }

# configure ADDRESSES [LINES]: a configuration of one upstream, at these addresses (as TOML). LINES stand before it.
configure() {
	sh_inside 'cat >/etc/dnsproxy/dnsproxy.toml.new; chmod 644 /etc/dnsproxy/dnsproxy.toml.new
		mv /etc/dnsproxy/dnsproxy.toml.new /etc/dnsproxy/dnsproxy.toml' <<-END
	${2-}
	[[upstream]]
	name = "test"
	addresses = [$1]
	server_name = "dns.test"
	ca_file = "/etc/upstreams/ca.pem"
	END
}
first='"192.0.2.53", "2001:db8::53"'
second='"192.0.2.54", "2001:db8::54"'

# ask NAME [OPTION...]: what dig says to one single datagram (or connection), within 4 s.
ask() { inside dig +short +tries=1 +time=4 "${@:2}" "$1"; }

# expect WANT NAME [OPTION...]
expect() {
	local got
	got=$(ask "${@:2}") || true
	[ "$got" = "$1" ] || fail "asked for ${*:2}: got \"$got\", want \"$1\""
}

property() { inside systemctl show --value -p "$1" "${2-dnsproxy.service}"; }

# load SECONDS: begins queries at a steady rate, half of them for names never asked before. loss ends it.
rate=1000
load() {
	sh_inside 'for ((i = 0; i < $1 * $2 / 2; i++)); do echo "n$3-$i.wild.test A"; echo "host.test AAAA"; done >/tmp/names' \
		"$1" "$rate" "$RANDOM$RANDOM"
	inside dnsperf -s 127.0.0.1 -d /tmp/names -l "$1" -Q "$rate" -q 20000 -c 4 -t 5 >"$work/load" 2>&1 &
	loading=$!
	sleep 0.5
}

# loss waits for the load's end, and fails if one query was lost or failed.
loss() {
	local sent lost
	wait "$loading" || { cat "$work/load"; fail 'dnsperf failed'; }
	sent=$(sed -nE 's/^ *Queries sent: *([0-9]+).*/\1/p' "$work/load")
	lost=$(sed -nE 's/^ *Queries lost: *([0-9]+).*/\1/p' "$work/load")
	[ "$lost" = 0 ] || { cat "$work/load"; fail "lost $lost of $sent"; }
	grep -qE 'Response codes: *NOERROR [0-9]+ \(100.00%\)' "$work/load" || { cat "$work/load"; fail 'not every answer was NOERROR'; }
	note "0 of $sent lost or failed, slowest $(sed -nE 's/.*Average Latency.*max ([0-9.]+)\)/\1/p' "$work/load") s${1+, $1}"
}

# await SECONDS COMMAND...: until it succeeds.
await() {
	local end=$((SECONDS + $1))
	shift
	until ("$@") >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "waited in vain for: $*"
		sleep 0.1
	done
}

# --- installing ---

installs_beside_another_server() {
	inside systemctl start holder
	await 5 expect 192.0.2.77 holder.test @127.0.0.1
	inside apt-get install -qq "/srv/packages/$first_deb" 2>&1 | tee "$work/install"
	grep -q 'something else serves port 53' "$work/install"
	grep -q 'systemctl enable --now dnsproxy.socket' "$work/install"
	expect 192.0.2.77 holder.test @127.0.0.1
}

starts_nothing() {
	[ "$(property ActiveState dnsproxy.socket)" = inactive ]
	[ "$(property ActiveState)" = inactive ]
	[ "$(inside systemctl is-enabled dnsproxy.socket || true)" = disabled ]
	[ "$(inside systemctl is-enabled dnsproxy.service || true)" = disabled ]
	[ ! -s "$work/root/etc/resolv.conf" ]
}

leaves_a_held_port_alone() {
	! inside systemctl enable --now dnsproxy.socket || fail 'the socket started though the port is held'
	inside journalctl -q -u dnsproxy.socket | has 'Address already in use'
	expect 192.0.2.77 holder.test @127.0.0.1
	inside systemctl disable dnsproxy.socket
	inside systemctl reset-failed dnsproxy.socket
	inside systemctl stop holder
}

installs() {
	inside apt-get install -qq "/srv/packages/$first_deb"
	inside dnsproxy version
}

default_file_is_good() {
	inside dnsproxy check --quiet
	[ "$(inside stat -c '%a %U:%G' /etc/dnsproxy/dnsproxy.toml)" = '644 root:root' ]
}

units_verify() {
	local said
	said=$(inside systemd-analyze verify --man=no dnsproxy.socket dnsproxy-control.socket dnsproxy-metrics.socket dnsproxy.service 2>&1)
	[ -z "$said" ] || fail "$said"
}

exposure_is_low() {
	inside systemd-analyze security --no-pager --threshold="$exposure" dnsproxy.service >"$work/security" || { cat "$work/security"; exit 1; }
	note "$(sed -n 's/.*exposure level for .*: //p' "$work/security")"
}

enables() {
	configure "$first"
	inside systemctl enable --now dnsproxy.socket
	inside cp /etc/resolv.conf.ours /etc/resolv.conf
	[ "$(property ActiveState)" = inactive ] || fail 'the service runs though nobody asked'
}

# --- using ---

capture_starts() {
	sh_inside 'tcpdump -i up0 -s 0 -U -w /tmp/wire.pcap -Z root >/tmp/tcpdump.log 2>&1 & echo $! >/tmp/tcpdump.pid'
	await 5 sh_inside 'grep -q listening /tmp/tcpdump.log'
}

first_query_starts_it() {
	expect 192.0.2.53 host.test
	[ "$(property ActiveState)" = active ]
}

resolves_for_glibc() {
	inside getent ahosts host.test | tee "$work/getent"
	grep -q '^192.0.2.53 .*STREAM' "$work/getent"
	grep -q '^2001:db8::53 .*STREAM' "$work/getent"
	! inside getent ahosts nothing.test || fail 'a name that does not exist has addresses'
}

resolves_for_dig() {
	expect 192.0.2.53 host.test
	expect 192.0.2.53 host.test +tcp
	expect 192.0.2.53 host.test @::1
	expect 192.0.2.53 host.test +tcp @::1
	expect 127.0.0.1 localhost
}

resolves_in_parallel() {
	sh_inside 'seq 400 | xargs -P 40 -I{} getent ahostsv4 p{}.wild.test' >"$work/parallel"
	[ "$(grep -c '^192.0.2.99 *STREAM' "$work/parallel")" = 400 ]
}

wire_is_tls13() {
	sh_inside 'kill -INT "$(cat /tmp/tcpdump.pid)"'
	await 5 sh_inside '! kill -0 "$(cat /tmp/tcpdump.pid)"'
	inside perl /srv/wire.pl /tmp/wire.pcap | tee "$work/wire"
	note "$(head -n 1 "$work/wire")"
}

pings() { inside ping -n -c 1 -W 2 host.test; }

journal_reads_well() {
	inside journalctl -q -u dnsproxy -o cat | tee "$work/journal"
	grep -q '^serving: ' "$work/journal"
	inside journalctl -q -u dnsproxy -o json _COMM=dnsproxy >"$work/journal.json"
	grep -q '"DNSPROXY_[A-Z_]*":' "$work/journal.json"
	grep -q '"PRIORITY":"6"' "$work/journal.json"
	# No names of what clients asked, and nothing to worry about.
	! grep -E 'host\.test|wild\.test' "$work/journal" || fail 'the journal has names that clients asked for'
	[ -z "$(inside journalctl -q -u dnsproxy -p warning)" ] || fail "$(inside journalctl -q -u dnsproxy -p warning)"
	note "$(grep -o '"DNSPROXY_[A-Z_]*"' "$work/journal.json" | sort -u | tr -d '"' | tr '\n' ' ')"
}

status_line_is_there() {
	inside systemctl status dnsproxy --no-pager | tee "$work/status"
	grep -q 'Status: "serving' "$work/status"
}

# Every thread: no root, no capability in any set, no way to gain one, a system call filter.
process_has_no_rights() {
	local pid
	pid=$(property MainPID)
	sh_inside 'cat /proc/$1/task/*/status' "$pid" >"$work/threads"
	! grep -E '^(Uid|Gid):.*\b0\b' "$work/threads" || fail 'it is root'
	! grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb):' "$work/threads" | grep -v '[[:space:]]0*$' || fail 'it has capabilities'
	! grep '^NoNewPrivs:' "$work/threads" | grep -v '[[:space:]]1$' || fail 'it may gain privileges'
	! grep '^Seccomp:' "$work/threads" | grep -v '[[:space:]]2$' || fail 'a thread has no system call filter'
	note "$(grep -c ^Uid "$work/threads") threads, user $(awk '/^Uid/ {print $2; exit}' "$work/threads")"
	inside journalctl -q -u dnsproxy -o cat | grep '^sandbox: enforced='
}

# --- administering ---

reload_takes_effect_at_once() {
	local i cacheless='[cache]
size = "0"'
	for ((i = 0; i < 10; i++)); do
		configure "$second" "$cacheless" && inside systemctl reload dnsproxy && expect 192.0.2.54 whoami.test
		configure "$first" "$cacheless" && inside systemctl reload dnsproxy && expect 192.0.2.53 whoami.test
	done
	configure "$first"
	inside systemctl reload dnsproxy
}

reload_loses_nothing() {
	local pid
	pid=$(property MainPID)
	load 5
	configure "$second"
	inside systemctl reload dnsproxy
	sleep 1.5
	expect 192.0.2.54 whoami.test
	configure "$first"
	inside systemctl reload dnsproxy
	loss
	[ "$(property MainPID)" = "$pid" ]
}

bad_file_fails_reload() {
	local pid cursor line
	pid=$(property MainPID)
	cursor=$(inside journalctl -q -n 0 --show-cursor | sed 's/^-- cursor: //')
	load 3
	sh_inside 'echo "adresses = [\"192.0.2.1\"]" >>/etc/dnsproxy/dnsproxy.toml'
	line=$(inside grep -n '^adresses' /etc/dnsproxy/dnsproxy.toml | cut -d: -f1)
	! inside systemctl reload dnsproxy || fail 'reload did not fail'
	inside journalctl -q -u dnsproxy --after-cursor="$cursor" -o cat | tee "$work/reload"
	grep -F "/etc/dnsproxy/dnsproxy.toml:$line: " "$work/reload" >"$work/note"
	# The reason is on the screen of who asks for the status, too.
	inside systemctl status dnsproxy --no-pager | has -F "dnsproxy.toml:$line: "
	expect 192.0.2.53 host.test
	[ "$(property MainPID)" = "$pid" ]
	[ "$(property ActiveState)" = active ]
	said=$(cat "$work/note")
	loss
	note "$said"
	configure "$first"
	inside systemctl reload dnsproxy
}

restart_loses_nothing() {
	load 6
	for _ in 1 2 3; do
		inside systemctl restart dnsproxy
		sleep 1
	done
	loss '3 restarts'
}

upgrade_loses_nothing() {
	local pid since
	pid=$(property MainPID)
	since=$(property ActiveEnterTimestampMonotonic dnsproxy.socket)
	load 12
	inside apt-get install -qq "/srv/packages/$second_deb"
	loss
	[ "$(property MainPID)" != "$pid" ] || fail 'the old version still runs'
	[ "$(property ActiveEnterTimestampMonotonic dnsproxy.socket)" = "$since" ] || fail 'the socket was restarted'
	inside journalctl -q -u dnsproxy -o cat | grep '^serving: ' | tail -n 1 | grep -F '+2 '
	inside grep -q 192.0.2.53 /etc/dnsproxy/dnsproxy.toml
}

# --- surviving ---

killed_it_is_back() {
	local begin
	begin=$(date +%s%N)
	sh_inside 'kill -KILL "$1"' "$(property MainPID)"
	expect 192.0.2.53 host.test
	note "answered $((($(date +%s%N) - begin) / 1000000)) ms after kill -9"
}

frozen_it_is_restarted() {
	local pid begin
	sh_inside 'mkdir -p /run/systemd/system/dnsproxy.service.d
		printf "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n" >/run/systemd/system/dnsproxy.service.d/short.conf
		systemctl daemon-reload; systemctl restart dnsproxy'
	expect 192.0.2.53 host.test
	sleep 3 # longer than WatchdogSec=: healthy, it stays
	pid=$(property MainPID)
	[ "$(property NRestarts)" = 0 ]
	sh_inside 'kill -STOP "$1"' "$pid"
	begin=$(date +%s%N)
	[ "$(inside dig +short +tries=1 +time=9 host.test)" = 192.0.2.53 ]
	note "a query to the frozen daemon was answered after $((($(date +%s%N) - begin) / 1000000)) ms (WatchdogSec=2s, TimeoutAbortSec=1s)"
	[ "$(property MainPID)" != "$pid" ]
	inside journalctl -q -u dnsproxy | has "with result 'watchdog'"
	sh_inside 'rm -r /run/systemd/system/dnsproxy.service.d; systemctl daemon-reload; systemctl restart dnsproxy'
}

crash_loop_keeps_the_socket() {
	configure "$first" 'nonsense = 1'
	inside systemctl restart dnsproxy || true
	for _ in 1 2 3 4 5 6 7 8; do inside dig +tries=1 +time=1 +short host.test @127.0.0.1 >/dev/null 2>&1 || true; done
	[ "$(property ActiveState dnsproxy.socket)" = active ]
	note "$(property NRestarts) restarts in 8 s"
	configure "$first"
	expect 192.0.2.53 host.test
}

stopped_it_is_started() {
	inside systemctl stop dnsproxy.service
	[ "$(property ActiveState)" = inactive ]
	expect 192.0.2.53 host.test
	[ "$(property ActiveState)" = active ]
}

boots_without_network() {
	power_off
	boot
	[ "$(property ActiveState dnsproxy.socket)" = active ]
	expect 127.0.0.1 localhost
	[ "$(property ActiveState)" = active ]
	inside dig +tries=1 +time=5 host.test | has 'status: SERVFAIL'
	[ -z "$(inside systemctl list-units --failed --no-legend 'dnsproxy*')" ]
	echo "$leader $nspawn" >"$work/machine"
}

network_comes() {
	local begin
	start_upstreams
	begin=$(date +%s%N)
	await 10 expect 192.0.2.53 host.test
	note "resolved after $((($(date +%s%N) - begin) / 1000000)) ms"
}

ipv4_alone() {
	sh_inside 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1; systemctl restart dnsproxy.socket; ! ip -6 address | grep .'
	expect 192.0.2.53 host.test
	expect 192.0.2.53 whoami.test +tcp
	[ "$(property ActiveState dnsproxy.socket)" = active ]
	sh_inside 'sysctl -qw net.ipv6.conf.all.disable_ipv6=0; ip address replace ::1/128 dev lo; /etc/upstreams/plug'
}

ipv6_alone() {
	# The machine may still be bringing up what the check before took down: flush until it stays so.
	sh_inside 'for try in 1 2 3 4 5 6 7 8 9 10; do
			ip -4 address flush dev up0; ip -4 address flush dev lo; sleep 0.3; ip -4 address | grep -q inet || break
		done
		echo nameserver ::1 >/etc/resolv.conf; ! ip -4 address | grep inet && systemctl restart dnsproxy.socket'
	await 5 expect 192.0.2.53 host.test @::1
	expect 192.0.2.53 whoami.test @::1 +tcp
	inside getent ahostsv6 host.test | has '^2001:db8::53'
	sh_inside 'ip address replace 127.0.0.1/8 dev lo; cp /etc/resolv.conf.ours /etc/resolv.conf; systemctl restart dnsproxy.socket'
	inside /etc/upstreams/plug
	expect 192.0.2.53 host.test
}

# --- going ---

removed() {
	inside apt-get remove -qq dnsproxy
	! inside pgrep -x dnsproxy || fail 'it still runs'
	[ -z "$(inside ss -Hlntu 'sport = 53')" ] || fail 'port 53 is still held'
	[ "$(property LoadState dnsproxy.socket)" = not-found ]
	! inside test -e /run/dnsproxy/control || fail 'the control socket is left'
	inside test -e /etc/dnsproxy/dnsproxy.toml
}

purged() {
	local left
	inside apt-get purge -qq dnsproxy
	left=$(inside find / -xdev '(' -path /srv -o -path /tmp -o -path /proc -o -path /var/lib/apt ')' -prune -o -name '*dnsproxy*' -print)
	[ -z "$left" ] || fail "left: $left"
	! inside getent passwd dnsproxy || fail 'the user is left'
	! inside getent group dnsproxy || fail 'the group is left'
	! inside systemctl list-units --all --no-legend 'dnsproxy*' | grep . || fail 'units are left'
	# It was not ours to point resolv.conf there, nor is it to take that back.
	inside cmp /etc/resolv.conf /etc/resolv.conf.ours
}

installed_again() {
	installs
	enables
	expect 192.0.2.53 host.test
	purged
}

# --- Debian's unrelated package of this name ---

replaces_the_unrelated() {
	local left
	sh_inside 'dpkg -i /srv/rival/dnsproxy_1.17*.deb; systemctl is-enabled dnsproxy; systemctl is-active dnsproxy || true
		echo "# changed" >>/etc/dnsproxy.conf'
	inside apt-get install -qq "/srv/packages/$first_deb" 2>&1 | tee "$work/install"
	grep -q 'replaces an unrelated program' "$work/install"
	inside dnsproxy version
	[ "$(property ActiveState)" = inactive ]
	[ "$(inside systemctl is-enabled dnsproxy.service || true)" = disabled ]
	left=$(inside find /etc '(' -name 'dnsproxy.conf' -o -path '*/default/dnsproxy' -o -path '*/init.d/dnsproxy' -o -path '*/rc?.d/*dnsproxy' ')')
	[ -z "$left" ] || fail "left: $left"
	inside test -e /etc/dnsproxy.conf.dpkg-bak # what the administrator wrote is not thrown away
	! inside getent passwd dnsproxy | has ':/nonexistent:' || fail 'its user is left'
	inside test -e /usr/lib/systemd/system/dnsproxy.service
	enables
	expect 192.0.2.53 host.test
}

apt_leaves_ours_alone() {
	local version
	version=$(inside dpkg-query -W -f '${Version}' dnsproxy)
	sh_inside 'mkdir -p /srv/repository; cp /srv/rival/*.deb /srv/repository/; cd /srv/repository
		for deb in *.deb; do
			dpkg-deb -f "$deb"; printf "Filename: ./%s\nSize: %s\nSHA256: %s\n\n" "$deb" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -d" " -f1)"
		done >Packages
		rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
		echo "deb [trusted=yes] file:/srv/repository ./" >/etc/apt/sources.list
		apt-get update -qq
		apt-cache policy dnsproxy
		apt-cache policy dnsproxy | grep -c 1.17
		apt-get upgrade -qq; apt-get dist-upgrade -qq; apt-get install -qq dnsproxy'
	[ "$(inside dpkg-query -W -f '${Version}' dnsproxy)" = "$version" ]
	expect 192.0.2.53 host.test
	note "$version stays"
}

# --- without systemd ---

installs_without_systemd() {
	local left chroot=$work/plain
	mkdir -p "$chroot"
	tar -C "$chroot" -xf "$(make_root bookworm)"
	cp "$work/packages/1/$first_deb" "$chroot/srv/"
	plain() { chroot "$chroot" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
	plain dpkg -i "/srv/$first_deb"
	plain dnsproxy check --quiet
	plain dpkg --purge dnsproxy
	# And from outside, as image builders do it: nothing is run in the root, which is of another architecture maybe.
	DPKG_ROOT=$chroot dpkg --root="$chroot" --force-script-chrootless --force-depends -i "$work/packages/1/$first_deb"
	DPKG_ROOT=$chroot dpkg --root="$chroot" --force-script-chrootless --purge dnsproxy
	left=$(find "$chroot" -xdev '(' -path "$chroot/srv" -o -path "$chroot/var/lib/apt" ')' -prune -o -name '*dnsproxy*' -print)
	[ -z "$left" ] || fail "left: $left"
	rm -rf --one-file-system "$chroot"
}

# --- all together, in their order ---

# using, administering and surviving, which every release is asked for
life_checks() {
	check 'systemd-analyze verify has nothing to say' units_verify
	check "systemd-analyze security stays at or below $((exposure / 10)).$((exposure % 10))" exposure_is_low
	check 'the socket is enabled, and nothing runs before a query' enables
	check 'the cable is watched' capture_starts
	check 'the first query starts the service' first_query_starts_it
	check 'getent resolves, with both families' resolves_for_glibc
	check 'dig resolves over UDP and TCP, IPv4 and IPv6' resolves_for_dig
	check '400 lookups, 40 at a time, resolve' resolves_in_parallel
	check 'the wire has nothing but TLS 1.3 to port 853' wire_is_tls13
	check 'ping of a name' pings
	check 'the journal has readable lines, and fields' journal_reads_well
	check 'systemctl status has a status line' status_line_is_there
	check 'no thread has root, a capability or a way to one' process_has_no_rights
	operator_checks
	check 'systemctl reload returns when the new file is in force' reload_takes_effect_at_once
	check 'a reload under load loses nothing' reload_loses_nothing
	check 'a bad file fails the reload, by file and line, and changes nothing' bad_file_fails_reload
	check 'restarts under load lose no query' restart_loses_nothing
	check 'kill -9: back at the next query' killed_it_is_back
	check 'SIGSTOP: the watchdog restarts it' frozen_it_is_restarted
	check 'a crash loop leaves the socket' crash_loop_keeps_the_socket
	check 'stopped: the next query starts it' stopped_it_is_started
}

all_checks() {
	check 'installs beside a server on port 53, and says what to do' installs_beside_another_server
	check 'the installation starts and enables nothing' starts_nothing
	check 'enabled while the port is held: refused, and the holder goes on' leaves_a_held_port_alone
	check 'the installed configuration is good' default_file_is_good
	life_checks
	check 'a package upgrade under load loses no query, and keeps the socket' upgrade_loses_nothing
	check 'boots with a dead network without failure' boots_without_network
	read -r leader nspawn <"$work/machine"
	check 'resolves when the network comes' network_comes
	check 'a host with IPv4 alone' ipv4_alone
	check 'a host with IPv6 alone' ipv6_alone
	check 'removed: stopped, and no unit or socket left' removed
	check 'purged: nothing left' purged
	check 'installs again, and is purged again' installed_again
	check "replaces Debian's unrelated dnsproxy 1.17" replaces_the_unrelated
	check 'apt upgrade leaves it alone' apt_leaves_ours_alone
	check 'purged after that: nothing left' purged
	check 'installs and goes without systemd, and with DPKG_ROOT' installs_without_systemd
}

unit_checks() {
	check 'installs' installs
	check 'the installation starts and enables nothing' starts_nothing
	life_checks
	check 'removed: stopped, and no unit or socket left' removed
	check 'purged: nothing left' purged
}
