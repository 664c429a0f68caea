# shellcheck shell=bash disable=SC2154
# Checks of the rpm: installed by rpm into a root of its own, with its scriptlets, and compared with the deb.
#
# Sourced by run.

in_rpm_root() { chroot "$work/rpmroot" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }

# Debian's rpm knows nothing of what is installed, hence --nodeps. It runs scriptlets in the root.
rpm_in_root() { rpm --root "$work/rpmroot" --dbpath /var/lib/rpm --nodeps --noverify "$@"; }

rpm_root() {
	local tar
	tar=$(make_root bookworm)
	mkdir -p "$work/rpmroot"
	tar -C "$work/rpmroot" -xf "$tar"
	# As Fedora and its kin have it: nothing is enabled unless a preset says so.
	mkdir -p "$work/rpmroot/usr/lib/systemd/system-preset" "$work/rpmroot/var/lib/rpm"
	echo 'disable *' >"$work/rpmroot/usr/lib/systemd/system-preset/99-default-disable.preset"
	rpm --root "$work/rpmroot" --dbpath /var/lib/rpm --initdb
}

rpm_installs() {
	rpm_in_root -i "$work/packages/1/$first_rpm" | tee "$work/rpm.said"
	grep -q 'systemctl enable --now dnsproxy.socket' "$work/rpm.said"
	[ "$(in_rpm_root systemctl is-enabled dnsproxy.socket || true)" = disabled ]
	[ "$(in_rpm_root systemctl is-enabled dnsproxy.service || true)" = disabled ]
	in_rpm_root dnsproxy version
	rpm_in_root -V dnsproxy
}

rpm_checks_its_configuration() {
	# The bundle of certificates is where Fedora has it, and Debian has not.
	mkdir -p "$work/rpmroot/etc/pki/ca-trust/extracted/pem"
	cp "$work/rpmroot/etc/ssl/certs/ca-certificates.crt" "$work/rpmroot/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
	in_rpm_root dnsproxy check --quiet --config=/etc/dnsproxy/dnsproxy.toml
}

# list ROOT-OF-FILES: mode, owner and path of each file, and its hash, but for what is meant to differ.
list() {
	(cd "$1" && find . -type f -printf '%m %U:%G %p\n' | sort -k3) |
		grep -vE ' \./usr/share/(doc/dnsproxy/(copyright|changelog)|licenses/|lintian/|zsh/)' |
		while read -r mode owner path; do
			case $path in
			./etc/dnsproxy/dnsproxy.toml) echo "$mode $owner $path" ;;
			*) echo "$mode $owner $path $(sha256sum <"$1/$path")" ;;
			esac
		done
}

rpm_equals_deb() {
	mkdir -p "$work/of-deb" "$work/of-rpm"
	dpkg-deb -x "$work/packages/1/$first_deb" "$work/of-deb"
	# nfpm writes absolute paths, and a size of the archive that rpm2cpio complains of by its exit code alone. rpm
	# itself takes neither amiss.
	rpm2cpio "$work/packages/1/$first_rpm" >"$work/rpm.cpio" || true
	(cd "$work/of-rpm" && cpio --no-absolute-filenames -idm --quiet <"$work/rpm.cpio")
	list "$work/of-deb" >"$work/deb.list"
	list "$work/of-rpm" >"$work/rpm.list"
	diff "$work/deb.list" "$work/rpm.list"
	[ -e "$work/of-rpm/usr/share/zsh/site-functions/_dnsproxy" ]
	[ -e "$work/of-rpm/usr/share/licenses/dnsproxy/LICENSE" ]
	# One key differs: where the certificates are.
	diff "$work"/of-{deb,rpm}/etc/dnsproxy/dnsproxy.toml | grep '^[<>]' | grep -v 'ca_file = ' && fail 'the configurations differ'
	rpm -qp --configfiles "$work/packages/1/$first_rpm" | grep -qx /etc/dnsproxy/dnsproxy.toml
	note "$(wc -l <"$work/deb.list") files alike"
}

rpm_upgrades() {
	in_rpm_root systemctl enable dnsproxy.socket
	echo '# changed here' >>"$work/rpmroot/etc/dnsproxy/dnsproxy.toml"
	rpm_in_root -U "$work/packages/2/$second_rpm"
	grep -q 'changed here' "$work/rpmroot/etc/dnsproxy/dnsproxy.toml"
	[ "$(in_rpm_root systemctl is-enabled dnsproxy.socket)" = enabled ]
	in_rpm_root dnsproxy version | grep -F '+2 '
}

rpm_erases() {
	rpm_in_root -e dnsproxy
	# A configuration that was changed is kept under another name, as rpm does.
	rm -f "$work/rpmroot/etc/dnsproxy/dnsproxy.toml.rpmsave"
	rmdir "$work/rpmroot/etc/dnsproxy" 2>/dev/null || true
	left=$(find "$work/rpmroot" -xdev -name '*dnsproxy*' -not -path '*/srv/rival/*' -not -path '*/var/lib/apt/*')
	[ -z "$left" ] || fail "left: $left"
}

rpm_checks() {
	rpm_root
	check 'the rpm installs with its scriptlets, and enables nothing' rpm_installs
	check 'its configuration is good as installed' rpm_checks_its_configuration
	check 'contents and modes are those of the deb' rpm_equals_deb
	check 'an upgrade keeps the configuration and what is enabled' rpm_upgrades
	check 'erased, it leaves nothing' rpm_erases
}
