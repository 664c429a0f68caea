# shellcheck shell=bash disable=SC2016,SC2154,SC2034
# The machine of the acceptance test: a Debian root, kept from run to run, booted with systemd-nspawn. It
# has two network namespaces: its own, and one with the upstreams behind a cable ("up0").
#
# Sourced by run, which sets $work, $cache and $release.

# What is in the root besides Debian's minimum.
machine_packages=(
	systemd systemd-sysv dbus ca-certificates adduser # what dnsproxy runs in
	unbound openssl                                   # upstreams
	bind9-dnsutils dnsperf iproute2 iputils-ping procps tcpdump libevent-2.1-7
)

# Debian's own, unrelated dnsproxy, for what concerns replacing it.
rival=dnsproxy

# sources RELEASE: the machine's own sources of packages, for that release. Whatever host they name, mirrors and
# snapshots included, is taken as it is. Sources of others than Debian have no suite of the host's release.
sources() {
	local own
	own=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	if grep -qsE "^Suites:.*\b$own\b" /etc/apt/sources.list.d/*.sources; then
		cat /etc/apt/sources.list.d/*.sources |
			awk -v RS= -v ORS='\n\n' -v own="$own" '$0 ~ "(^|\n)Suites:[^\n]* " own' |
			sed -e '/^#/d' -e "s/\b$own\b/$1/g"
	else
		cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
			grep -E "^deb .* $own(-updates|-security)?( .*)? main( |$)" | sed "s/\b$own\b/$1/g"
	fi
}

# make_root RELEASE: the root as a tar file in the cache, its name on standard output.
make_root() {
	local release=$1 key tar list=("${machine_packages[@]}") include
	if [ "$release" = trixie ]; then list=("${list[@]/libevent-2.1-7/libevent-2.1-7t64}"); fi
	include=$(IFS=,; echo "${list[*]}")
	key=$(printf '%s\n' "$release" "$include" "$(sources "$release")" | sha256sum | cut -c1-12)
	tar=$cache/$release-$key.tar
	if [ ! -e "$tar" ]; then
		rm -f "$cache/$release"-*.tar
		sources "$release" >"$work/sources"
		# The rival is fetched, not installed, into a folder that is no package's.
		mmdebstrap --quiet --format=tar --variant=minbase --mode=root --include="$include" \
			--customize-hook='mkdir "$1/srv/rival" && chmod 777 "$1/srv/rival" && chroot "$1" sh -c "cd /srv/rival && apt-get download -qq '"$rival"'"' \
			--customize-hook='chroot "$1" systemctl --quiet mask unbound.service unbound-resolvconf.service' \
			"$release" "$tar.new" - <"$work/sources" >&2 || return
		mv "$tar.new" "$tar"
	fi
	echo "$tar"
}

# A group of control groups for each machine, so that two of them, or one and its host, never meet.
cgroups=()
enter_cgroup() {
	local hierarchy
	for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
		[ -w "$hierarchy/cgroup.procs" ] || continue
		mkdir -p "$hierarchy/dnsproxy-acceptance-$$"
		cgroups+=("$hierarchy/dnsproxy-acceptance-$$")
	done
}

# boot: starts the machine in $work/root.
boot() {
	local dir=$work/root try children
	# Landlock is not in nspawn's list of harmless system calls.
	(
		for group in "${cgroups[@]}"; do echo "$BASHPID" >"$group/cgroup.procs"; done
		exec setsid systemd-nspawn --quiet --directory="$dir" --boot --register=no --keep-unit --private-network \
			--console=pipe --machine="dnsproxy-$$" --settings=no --link-journal=no --resolv-conf=off --timezone=off \
			--system-call-filter='landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp' \
			systemd.journald.forward_to_console=no
	) </dev/null >>"$work/console" 2>&1 &
	nspawn=$!
	leader=
	for ((try = 0; try < 300; try++)); do
		kill -0 "$nspawn" 2>/dev/null || break
		read -r children _ <"/proc/$nspawn/task/$nspawn/children" || true
		if [ -n "${children-}" ]; then
			leader=$children
			case $(inside systemctl is-system-running 2>/dev/null) in
			running | degraded) return 0 ;;
			esac
		fi
		sleep 0.1
	done
	echo "the machine did not boot; its console said:"
	tail -n 20 "$work/console"
	return 1
}

# inside COMMAND...: runs it in the machine, as root, and without a terminal.
inside() {
	nsenter --target "$leader" --mount --uts --ipc --net --pid --root --wd -- \
		env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat "$@"
}

# sh_inside SCRIPT [ARG...]: the same for a shell's script.
sh_inside() {
	local script=$1
	shift
	inside bash -euo pipefail -c "$script" bash "$@"
}

power_off() {
	local try
	[ -n "${nspawn-}" ] || return 0
	inside systemctl --no-block poweroff 2>/dev/null || true
	for ((try = 0; try < 200; try++)); do
		kill -0 "$nspawn" 2>/dev/null || break
		sleep 0.1
	done
	kill_machine
}

# kill_machine ends everything that boot started. Processes inside die with the machine's first.
kill_machine() {
	[ -n "${nspawn-}" ] || return 0
	[ -z "${leader-}" ] || kill -KILL "$leader" 2>/dev/null || true
	kill -KILL "$nspawn" 2>/dev/null || true
	wait "$nspawn" 2>/dev/null || true
	nspawn='' leader=''
}

# dispose leaves nothing of the machine: no process, mount, control group or file.
dispose() {
	local group
	kill_machine
	for group in "${cgroups[@]}"; do
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
			[ -d "$group" ] || break
			sleep 0.2
		done
	done
	cgroups=()
	rmdir "/run/systemd/nspawn/propagate/dnsproxy-$$" 2>/dev/null || true
	if grep -qF " $work/" /proc/self/mounts; then
		grep -F " $work/" /proc/self/mounts | cut -d' ' -f2 | sort -r | xargs -r umount -l
	fi
	rm -rf --one-file-system "$work"
}

# --- upstreams ---

# furnish writes into the root, before it boots, what the upstreams and the network need.
furnish() {
	local root=$work/root name number
	mkdir -p "$root/etc/upstreams" "$root/srv/packages"
	cp "$here/wire.pl" "$root/srv/"
	# An authority of a minute, and a certificate by it.
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=acceptance test CA' \
		-keyout "$work/ca.key" -out "$root/etc/upstreams/ca.pem" 2>/dev/null
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=upstream' \
		-keyout "$root/etc/upstreams/key.pem" -out "$work/upstream.csr" 2>/dev/null
	openssl x509 -req -in "$work/upstream.csr" -CA "$root/etc/upstreams/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
		-extfile <(echo 'subjectAltName=DNS:dns.test') -out "$root/etc/upstreams/cert.pem" 2>/dev/null
	chmod 644 "$root/etc/upstreams/key.pem"

	# Two upstreams that differ in what they say their own address is. Every name under wild.test has an address,
	# so each new one is a miss.
	for number in 53 54; do
		name=upstream$number
		cat >"$root/etc/upstreams/$name.conf" <<-END
		server:
			interface: 192.0.2.$number@853
			interface: 2001:db8::$number@853
			access-control: 0.0.0.0/0 allow
			access-control: ::/0 allow
			tls-service-key: /etc/upstreams/key.pem
			tls-service-pem: /etc/upstreams/cert.pem
			username: ""
			chroot: ""
			directory: "/etc/upstreams"
			pidfile: ""
			use-syslog: no
			do-daemonize: no
			module-config: "iterator"
			incoming-num-tcp: 1000
			local-zone: "test." static
			local-data: "whoami.test. 1 A 192.0.2.$number"
			local-data: "host.test. 300 A 192.0.2.53"
			local-data: "host.test. 300 AAAA 2001:db8::53"
			local-zone: "wild.test." redirect
			local-data: "wild.test. 60 A 192.0.2.99"
			local-data: "wild.test. 60 AAAA 2001:db8::99"
		remote-control:
			control-enable: no
		END
		cat >"$root/etc/systemd/system/$name.service" <<-END
		[Unit]
		Requires=network-of-upstreams.service
		After=network-of-upstreams.service
		[Service]
		NetworkNamespacePath=/run/netns/upstreams
		ExecStart=/usr/sbin/unbound -d -c /etc/upstreams/$name.conf
		Restart=always
		RestartSec=100ms
		END
	done
	cat >"$root/etc/upstreams/network" <<-'END'
	#!/bin/sh -e
	ip netns add upstreams
	ip link add up0 type veth peer name up1 netns upstreams
	ip -n upstreams link set lo up
	ip -n upstreams link set up1 up
	for host in 53 54; do
		ip -n upstreams address add 192.0.2.$host/24 dev up1
		ip -n upstreams address add 2001:db8::$host/64 dev up1 nodad
	done
	END
	# The cable on our side; a machine may boot without.
	cat >"$root/etc/upstreams/plug" <<-'END'
	#!/bin/sh -e
	ip link set up0 up
	ip address replace 192.0.2.1/24 dev up0
	ip address replace 2001:db8::1/64 dev up0 nodad
	END
	chmod 755 "$root/etc/upstreams/network" "$root/etc/upstreams/plug"
	cat >"$root/etc/systemd/system/network-of-upstreams.service" <<-'END'
	[Service]
	Type=oneshot
	RemainAfterExit=yes
	ExecStart=/etc/upstreams/network
	END
	# Something else on port 53, for the day of the installation.
	printf '[Service]\nExecStart=/usr/sbin/unbound -d -c /etc/upstreams/holder.conf\n' >"$root/etc/systemd/system/holder.service"
	cat >"$root/etc/upstreams/holder.conf" <<-'END'
	server:
		interface: 127.0.0.1@53
		username: ""
		chroot: ""
		directory: "/etc/upstreams"
		pidfile: ""
		use-syslog: no
		do-daemonize: no
		module-config: "iterator"
		local-data: "holder.test. A 192.0.2.77"
	remote-control:
		control-enable: no
	END
	echo 'nameserver 127.0.0.1' >"$root/etc/resolv.conf.ours"
	rm -f "$root/etc/resolv.conf" && : >"$root/etc/resolv.conf"
	sed -i 's/^hosts:.*/hosts: files dns/' "$root/etc/nsswitch.conf"
}

start_upstreams() {
	inside systemctl start upstream53 upstream54
	inside /etc/upstreams/plug
}
