package doctor_test

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dnsproxy/internal/doctor"
)

// Tables as Linux prints them on a little-endian machine, as all are that dnsproxy is built for: each 32-bit word of an address is a number there, so
// its octets stand the other way round.
const (
	tableUDP = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  412: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 20911 2 0000000000000000 0
  412: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 20734 2 0000000000000000 0
  427: 0F02000A:0044 0202000A:0043 01 00000000:00000000 00:00000000 00000000   100        0 18544 2 0000000000000000 0
`
	tableTCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20741 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19020 1 0000000000000000 100 0 0 10 0
   2: B80D0120000000000000000035000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19021 1 0000000000000000 100 0 0 10 0
   3: 0000000000000000FFFF00000100007F:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19022 1 0000000000000000 100 0 0 10 0
   4: 000080FE00000000FF005450B6AD1DFE:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 19023 1 0000000000000000 100 0 0 10 0
   5: B80D0120000000000000000001000000:9C40 B80D0120000000000000000002000000:0355 01 00000000:00000000 00:00000000 00000000     0        0 19024 1 0000000000000000 20 4 30 10 -1
`
)

func TestParseSockets(t *testing.T) {
	for _, tt := range []struct {
		name, text, transport, state string
		want                         []string
	}{
		{"unconnected UDP sockets alone", tableUDP, "UDP", "07", []string{"127.0.0.53:53", "127.0.0.1:53"}},
		{"IPv6, and IPv4 in it", tableTCP6, "TCP", "0A", []string{"[::1]:53", "[::]:22", "[2001:db8::35]:53", "127.0.0.1:53", "[fe80::5054:ff:fe1d:adb6]:53"}},
		{"a header alone", strings.SplitAfter(tableUDP, "\n")[0], "UDP", "07", nil},
		{"nothing", "", "UDP", "07", nil},
		{"a row that ends early", "  1: 0100007F:0035 00000000:0000 07 00000000:0000", "UDP", "07", nil},
		{"an address of no family", "  1: 0100007F00:0035 0:0 07 0:0 0:0 0 0 0 1", "UDP", "07", nil},
		{"a port that is none", "  1: 0100007F:10035 0:0 07 0:0 0:0 0 0 0 1", "UDP", "07", nil},
		{"the file of another system's line ends", strings.ReplaceAll(tableUDP, "\n", "\r\n"), "UDP", "07", []string{"127.0.0.53:53", "127.0.0.1:53"}},
	} {
		var got []string
		for _, l := range doctor.ParseSockets(tt.text, tt.transport, tt.state) {
			got = append(got, l.Addr().String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	first := doctor.ParseSockets(tableUDP, "UDP", "07")[0]
	if first.Inode() != 20911 || first.UID() != 101 {
		t.Errorf("got inode %d of user %d", first.Inode(), first.UID())
	}
}

func TestParseResolv(t *testing.T) {
	for _, tt := range []struct {
		name, text, servers, strange string
		rotate                       bool
	}{
		{"one", "nameserver 127.0.0.1\n", "127.0.0.1", "", false},
		{"no line end", "nameserver 127.0.0.1", "127.0.0.1", "", false},
		{"blanks, tabs and CRLF", "nameserver \t 127.0.0.1 \t\r\nnameserver\t::1\r\n", "127.0.0.1 ::1", "", false},
		{"comments", "#nameserver 192.0.2.1\n; nameserver 192.0.2.2\nnameserver 127.0.0.1 # ours\n", "127.0.0.1", "", false},
		{"a keyword that does not begin its line", " nameserver 192.0.2.1\n", "", "", false},
		{"an address with a zone", "nameserver fe80::1%eth0\n", "fe80::1%eth0", "", false},
		{"IPv4 in IPv6", "nameserver ::ffff:192.0.2.1\n", "192.0.2.1", "", false},
		{"the fourth is never asked", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n", "192.0.2.1 192.0.2.2 192.0.2.3", "", false},
		{"a name, and an address with a port", "nameserver localhost\nnameserver 127.0.0.1:53\n", "", "localhost 127.0.0.1:53", false},
		{"options", "options edns0 rotate trust-ad\nsearch example.com\nnameserver 127.0.0.1\n", "127.0.0.1", "", true},
		{"nothing", "", "", "", false},
		{"a keyword alone", "nameserver\nnameserver \n", "", "", false},
	} {
		servers, strange, rotate := doctor.ParseResolv(tt.text)
		var got []string
		for _, a := range servers {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != tt.servers || strings.Join(strange, " ") != tt.strange || rotate != tt.rotate {
			t.Errorf("%s: got %q, %q, %v", tt.name, got, strange, rotate)
		}
	}
}

func TestWriterOf(t *testing.T) {
	for _, tt := range []struct{ target, text, want string }{
		{"/run/systemd/resolve/stub-resolv.conf", "", "systemd-resolved"},
		{"/run/systemd/resolve/resolv.conf", "", "systemd-resolved"},
		{"/usr/lib/systemd/resolv.conf", "", "systemd-resolved"},
		{"", "# This is /run/systemd/resolve/stub-resolv.conf managed by man:systemd-resolved(8).\n# Do not edit.\n", "systemd-resolved"},
		{"", "# Generated by NetworkManager\nnameserver 192.0.2.1\n", "NetworkManager"},
		{"/var/run/NetworkManager/resolv.conf", "", "NetworkManager"},
		{"/run/resolvconf/resolv.conf", "", "resolvconf"},
		{"", "# Dynamic resolv.conf(5) file for glibc resolver(3) generated by resolvconf(8)\n#     DO NOT EDIT THIS FILE BY HAND -- YOUR CHANGES WILL BE OVERWRITTEN\n", "resolvconf"},
		{"", "# Generated by resolvconf\nnameserver 192.0.2.1\n", "openresolv"},
		{"", "# Generated by dhcpcd from wlo1.dhcp, wlo1.ra\n# /etc/resolv.conf.head can replace this line\n", "dhcpcd"},
		{"", "; generated by /usr/sbin/dhclient-script\n", "dhclient"},
		{"", "nameserver 127.0.0.1\n", ""},
		{"", "search Generated by NetworkManager\n", ""},
		{"/etc/resolv.conf.ours", "nameserver 127.0.0.1\n", ""},
	} {
		if got := doctor.WriterOf(tt.target, tt.text); got != tt.want {
			t.Errorf("%q %q: got %q, want %q", tt.target, tt.text, got, tt.want)
		}
	}
}

func TestParseHosts(t *testing.T) {
	for text, want := range map[string]string{
		"passwd: files\nhosts:          files dns\n":                               "files dns",
		"hosts: files resolve [!UNAVAIL=return] dns # nss-resolve(8)\r\n":          "files resolve [!UNAVAIL=return] dns",
		"#hosts: files\nhosts:files mdns4_minimal[NOTFOUND=return]dns\n":           "files mdns4_minimal [NOTFOUND=return] dns",
		"  hosts :\tfiles\tmymachines\tresolve [!UNAVAIL=return] files myhostname": "files mymachines resolve [!UNAVAIL=return] files myhostname",
		"":                  "",
		"networks: files\n": "",
	} {
		if got := strings.Join(doctor.ParseHosts(text), " "); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestParseResolved(t *testing.T) {
	dns, domains, tls := doctor.ParseResolved(
		"[Resolve]\n#DNS=192.0.2.9\nDNS=192.0.2.1 192.0.2.2#dns.example\nDNSOverTLS=opportunistic\n",
		"[Other]\nDNS=192.0.2.3\n[Resolve]\r\nDNS=\r\nDNS=127.0.0.1\r\nDomains=~.\r\nDNSOverTLS=no\r\n")
	if !slices.Equal(dns, []string{"127.0.0.1"}) || !slices.Equal(domains, []string{"~."}) || tls != "no" {
		t.Errorf("got %q, %q, %q", dns, domains, tls)
	}
}

func TestParseServer(t *testing.T) {
	for s, want := range map[string]string{
		"127.0.0.1":                   "127.0.0.1:53",
		"127.0.0.1:5353#dns.example":  "127.0.0.1:5353",
		"::1":                         "[::1]:53",
		"[::1]:5353":                  "[::1]:5353",
		"fe80::1%eth0#dns.example":    "[fe80::1]:53",
		"dns.example":                 "invalid AddrPort",
		"192.0.2.1:53%eth0#dns.quad9": "192.0.2.1:53",
	} {
		if got, ok := doctor.ParseServer(s); got.String() != want || ok != got.IsValid() {
			t.Errorf("%q: got %v, %v, want %s", s, got, ok, want)
		}
	}
}

// As systemd 252 prints it.
const shown = `Result=success
Listen=127.0.0.1:53 (Datagram)
Listen=127.0.0.1:53 (Stream)
Listen=[::1]:53 (Datagram)
Listen=[::1]:53 (Stream)
Id=dnsproxy.socket
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=no

Result=success
Id=dnsproxy.service
LoadState=loaded
ActiveState=activating
SubState=auto-restart
UnitFileState=disabled
NeedDaemonReload=yes

Id=systemd-resolved.service
LoadState=not-found
ActiveState=inactive
SubState=dead
UnitFileState=
NeedDaemonReload=no
`

func TestParseUnits(t *testing.T) {
	want := doctor.Units{
		"dnsproxy.socket": {Load: "loaded", Active: "active", Sub: "running", File: "enabled", Result: "success",
			Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:53")}},
		"dnsproxy.service":         {Load: "loaded", Active: "activating", Sub: "auto-restart", File: "disabled", Stale: true, Result: "success"},
		"systemd-resolved.service": {Load: "not-found", Active: "inactive", Sub: "dead"},
	}
	if got := doctor.ParseUnits(shown); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if got := doctor.ParseUnits("System has not been booted with systemd as init system (PID 1). Can't operate.\n"); len(got) != 0 {
		t.Errorf("got %+v of an error", got)
	}
}

func TestParseDocker(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "{}": "", `{"dns": ["172.17.0.1", "192.0.2.1"], "bip": "172.17.0.1/16"}`: "172.17.0.1 192.0.2.1",
	} {
		if got, err := doctor.ParseDocker(text); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := doctor.ParseDocker(`{"dns": "172.17.0.1"}`); err == nil {
		t.Error("no error, though Docker would not start")
	}
}

func TestParsePodman(t *testing.T) {
	for text, want := range map[string]string{
		"[containers]\ndns_servers = [\"10.88.0.1\"]\n":                           "10.88.0.1",
		"[containers]\n#dns_servers = [\"10.88.0.1\"]\n":                          "",
		"dns_servers=['10.88.0.1',\r\n  \"192.0.2.1\", # two\r\n]\r\nx = [\"y\"]": "10.88.0.1 192.0.2.1",
		"dns_servers = []": "",
		"":                 "",
	} {
		if got := strings.Join(doctor.ParsePodman(text), " "); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// Files of the host may say anything: nothing of it may panic, and what is found holds no line end.
func FuzzParsers(f *testing.F) {
	for _, s := range []string{tableUDP, tableTCP6, shown, "nameserver fe80::1%eth0\n", "hosts: files[x]dns\n", "[Resolve]\nDNS=1.1.1.1#a\n", `{"dns":["1.1.1.1"]}`, "dns_servers=[\"1\"\n]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range doctor.ParseSockets(text, "UDP", "07") {
			if !l.Addr().Addr().IsValid() {
				t.Errorf("%q: %v", text, l.Addr())
			}
		}
		servers, _, _ := doctor.ParseResolv(text)
		if len(servers) > 3 {
			t.Errorf("%q: %d nameservers", text, len(servers))
		}
		doctor.WriterOf("", text)
		dns, _, _ := doctor.ParseResolved(text)
		for _, s := range dns {
			doctor.ParseServer(s)
		}
		doctor.ParseUnits(text)
		doctor.ParseDocker(text)
		for _, list := range [][]string{dns, doctor.ParseHosts(text), doctor.ParsePodman(text)} {
			for _, s := range list {
				if strings.ContainsAny(s, " \r\n") || s == "" {
					t.Errorf("%q: %q", text, s)
				}
			}
		}
	})
}
