package doctor

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const (
	dockerPath = "/etc/docker/daemon.json"
	podmanPath = "/etc/containers/containers.conf"
)

// engine runs containers, each with a resolv.conf of its own. Docker and Podman make it of the host's: nameservers on
// loopback would be the container's own loopback, so they are left out; if that leaves none, Google's
// stand there. With Docker's networks that a user defines, its own forwarder asks the host's nameservers from the host.
type engine struct {
	name    string
	bridge  string   // the default network's interface
	gateway string   // the host's address there unless it was changed
	signs   []string // files that are there where it is
	dns     []string // the nameservers that it was told to give to containers
	file    string   // where it is told that
	key     string   // what it is told there, for the address %s
	apply   string
	err     error
}

func (x *examination) engines() []engine {
	docker := engine{
		name: "Docker", bridge: "docker0", gateway: "172.17.0.1",
		signs: []string{"/run/docker.sock", "/var/run/docker.sock", "/usr/bin/dockerd", "/usr/sbin/dockerd"},
		file:  dockerPath, key: `"dns": ["%s"]`, apply: `"systemctl restart docker"`,
	}
	if text, err := x.files.read(dockerPath); err == nil {
		docker.dns, docker.err = parseDocker(text)
	}
	podman := engine{
		name: "Podman", bridge: "podman0", gateway: "10.88.0.1",
		signs: []string{"/usr/bin/podman", "/run/podman/podman.sock"},
		file:  podmanPath, key: `dns_servers = ["%s"] under [containers]`, apply: "start the containers again",
	}
	for _, path := range append([]string{"/usr/share/containers/containers.conf"}, x.files.dropIns(podmanPath, podmanPath+".d")...) {
		if text, err := x.files.read(path); err == nil {
			if dns := parsePodman(text); dns != nil {
				podman.dns = dns
			}
		}
	}
	return []engine{docker, podman}
}

// parseDocker returns "dns" of daemon.json.
func parseDocker(text string) ([]string, error) {
	var file struct {
		DNS []string `json:"dns"`
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		return nil, fmt.Errorf("reading %s: %w", dockerPath, err)
	}
	return file.DNS, nil
}

// parsePodman returns dns_servers of containers.conf(5), nil if it is not there. It knows of TOML what that key takes: a
// list of strings, on one line or several.
func parsePodman(text string) (servers []string) {
	inside := false
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		key, value, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(key) == "dns_servers" {
			inside, line, servers = true, value, []string{}
		}
		if !inside {
			continue
		}
		line, _, closed := strings.Cut(line, "]")
		for f := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune("[,\"' \t\r\n", r) }) {
			servers = append(servers, f)
		}
		inside = !closed
	}
	return servers
}

// containers tells whether those of this host ask dnsproxy.
func (x *examination) containers() {
	seen := false
	for _, e := range x.engines() {
		if slices.ContainsFunc(e.signs, x.files.exists) || x.bridge(e.bridge) != nil {
			seen = true
			x.engine(&e)
		}
	}
	if !seen {
		x.ok(checkContainers, "neither Docker nor Podman is here")
	}
}

// bridge returns a network interface's IPv4 network with the host's address, nil if there is none.
func (x *examination) bridge(name string) *netip.Prefix {
	for _, i := range x.Interfaces {
		for _, p := range i.Addresses {
			if i.Name == name && p.Addr().Is4() {
				return &p
			}
		}
	}
	return nil
}

// engine tells whom the containers of e ask.
func (x *examination) engine(e *engine) {
	gateway := e.gateway
	if p := x.bridge(e.bridge); p != nil {
		gateway = p.Addr().String()
	}
	fix := fmt.Sprintf(`ListenDatagram=%s:53 and ListenStream=%[1]s:53 (systemctl edit dnsproxy.socket); %s in %s; "systemctl restart dnsproxy.socket dnsproxy.service"; %s`,
		gateway, strings.ReplaceAll(e.key, "%s", gateway), e.file, e.apply)
	if a, err := netip.ParseAddr(gateway); err == nil && x.isServed(a) {
		fix = fmt.Sprintf("%s in %s; %s", strings.ReplaceAll(e.key, "%s", gateway), e.file, e.apply)
	}
	if e.err != nil {
		x.say(checkContainers, Warning, e.err.Error(), "correct it")
		return
	}
	given := e.given(&x.resolv, x.files)
	var strangers []string
	for _, s := range given.servers {
		if a, err := netip.ParseAddr(s); err != nil || !x.isServed(a) || a.IsLoopback() {
			strangers = append(strangers, s)
		}
	}
	itself := func(s string) string { return s }
	if len(strangers) > 0 {
		x.say(checkContainers, Warning, fmt.Sprintf("containers of %s get %s as nameserver, %s: their lookups pass dnsproxy by", e.name, list(strangers, itself), given.why), fix)
		return
	}
	x.allowed(e, list(given.servers, itself))
}

// allowed tells whether containers are among those that are served.
func (x *examination) allowed(e *engine, servers string) {
	net := x.bridge(e.bridge)
	if net != nil && x.Config != nil && !slices.ContainsFunc(x.Config.Allow, func(p netip.Prefix) bool { return p.Contains(net.Addr()) }) {
		x.say(checkContainers, Warning, fmt.Sprintf("containers of %s ask dnsproxy (%s), which refuses them", e.name, servers), fmt.Sprintf(`"%v" in allow of %s; then "systemctl reload dnsproxy"`, net.Masked(), x.File))
		return
	}
	x.ok(checkContainers, fmt.Sprintf("containers of %s ask dnsproxy (%s)", e.name, servers))
}

// nameservers are what a container gets, and why.
type nameservers struct {
	servers []string
	why     string
}

// given returns what containers on the default network get.
func (e *engine) given(r *resolvConf, files tree) (n nameservers) {
	if len(e.dns) > 0 {
		return nameservers{e.dns, "as " + e.file + " says"}
	}
	from, host := resolvPath, r.servers
	// Where the file names nobody but systemd-resolved's stub, they take its own list of servers.
	if len(host) == 1 && host[0] == resolvedStub {
		if text, err := files.read(resolvedServers); err == nil {
			from, host = resolvedServers, parseResolv(text).servers
		}
	}
	for _, a := range host {
		if !a.IsLoopback() {
			n.servers = append(n.servers, a.String())
		}
	}
	n.why = "as " + from + " says"
	if len(n.servers) == 0 {
		return nameservers{[]string{"8.8.8.8", "8.8.4.4"}, "since " + from + " names loopback alone"}
	}
	return n
}
