package doctor

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// domain is the port of DNS.
const domain = 53

// listener is a socket that takes what clients send.
type listener struct {
	transport string // "UDP" or "TCP"
	addr      netip.AddrPort
	uid       uint64 // of who made it
	inode     uint64
	holders   []process // none if they may not be seen
}

// process holds a socket.
type process struct {
	pid  int
	name string // as comm has it (proc(5)): 15 octets at most
}

// tables are the files of sockets, as proc(5) has them, and the state of those that listen: TCP_LISTEN, and
// for UDP TCP_CLOSE, which those have that are bound and not connected.
func tables() []struct{ file, transport, state string } {
	return []struct{ file, transport, state string }{
		{"/proc/net/udp", "UDP", "07"},
		{"/proc/net/udp6", "UDP", "07"},
		{"/proc/net/tcp", "TCP", "0A"},
		{"/proc/net/tcp6", "TCP", "0A"},
	}
}

// listeners returns all sockets that listen, with who holds those of port 53. A file that is not there, as udp6 on a
// host without IPv6, has none.
func (t tree) listeners() (all []listener, err error) {
	seen := false
	for _, table := range tables() {
		text, fault := t.read(table.file)
		if fault != nil {
			if !errors.Is(fault, fs.ErrNotExist) {
				err = fault
			}
			continue
		}
		seen = true
		all = append(all, parseSockets(text, table.transport, table.state)...)
	}
	if !seen && err == nil {
		err = fmt.Errorf("reading /proc/net/udp: %w", fs.ErrNotExist)
	}
	t.findHolders(all)
	return all, err
}

// parseSockets reads a table; lines that are none of its rows are passed over.
//
//	sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//	 7: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 12345
func parseSockets(text, transport, state string) (all []listener) {
	const local, st, uid, inode = 1, 3, 7, 9
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) <= inode || f[st] != state {
			continue
		}
		addr, ok := parseSocketAddr(f[local])
		if !ok {
			continue
		}
		l := listener{transport: transport, addr: addr}
		var err1, err2 error
		l.uid, err1 = strconv.ParseUint(f[uid], 10, 32)
		l.inode, err2 = strconv.ParseUint(f[inode], 10, 64)
		if err1 == nil && err2 == nil {
			all = append(all, l)
		}
	}
	return all
}

// parseSocketAddr reads an address as the kernel writes it: 32-bit words in the machine's order, in hexadecimal,
// a colon, the port as a number.
func parseSocketAddr(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	n, errPort := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || errPort != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), true
}

// findHolders fills in who holds the sockets of port 53, where that may be seen.
func (t tree) findHolders(all []listener) {
	wanted := map[string]int{}
	for i := range all {
		if all[i].addr.Port() == domain {
			wanted[fmt.Sprintf("socket:[%d]", all[i].inode)] = i
		}
	}
	if len(wanted) == 0 {
		return
	}
	for _, entry := range t.entries("/proc") {
		pid, err := strconv.Atoi(entry)
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", entry)
		for _, fd := range t.entries(dir + "/fd") {
			target, err := os.Readlink(filepath.Join(string(t), dir, "fd", fd))
			i, ok := wanted[target]
			if err != nil || !ok {
				continue
			}
			p := process{pid: pid, name: t.processName(dir)}
			if !slices.Contains(all[i].holders, p) {
				all[i].holders = append(all[i].holders, p)
			}
		}
	}
}

// processName returns what a process calls itself.
func (t tree) processName(dir string) string {
	name, err := t.read(dir + "/comm")
	if name = strings.TrimSpace(name); err != nil || name == "" {
		return "a process that has ended"
	}
	return name
}

// covers reports whether a socket on listen takes what is sent to addr, if addr is the host's. "::" takes IPv4 as
// well unless it has IPV6_V6ONLY (ipv6(7)), which the tables do not tell.
func covers(listen, addr netip.Addr) bool {
	if listen == addr {
		return true
	}
	return listen.IsUnspecified() && (listen.Is6() || addr.Is4())
}
