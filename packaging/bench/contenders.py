"""How each forwarder is started, so that all do the same work: on 127.0.0.1, over UDP and TCP,
one thread where that can be chosen, no log of queries, no validation, a cache of the same
size (of so many entries where they are counted, as dnsdist and smartdns do), every query over TLS to
one upstream, whose certificate must be for its name and chain to the CA's.

Each function writes a configuration into the folder that it is given, and returns the command."""
import subprocess


def dnsproxy(s):
    (s.folder / "dnsproxy.toml").write_text(f"""listen = ["127.0.0.1:{s.port}"]
[cache]
size = "{s.cache}MiB"
[[upstream]]
addresses = ["127.0.0.1:{s.upstream}"]
server_name = "{s.name}"
ca_file = "{s.ca}"
""")
    return [str(s.binaries / "dnsproxy"), "serve", f"--config={s.folder}/dnsproxy.toml"]


def unbound(s):
    # Answers and their RRsets are cached apart.
    (s.folder / "unbound.conf").write_text(f"""server:
  directory: "{s.folder}"
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  verbosity: 0
  interface: 127.0.0.1@{s.port}
  do-not-query-localhost: no
  module-config: iterator
  local-zone: test. transparent
  so-rcvbuf: 0
  msg-cache-size: {s.cache // 2}m
  rrset-cache-size: {s.cache - s.cache // 2}m
  outgoing-range: 8192
  num-queries-per-thread: 4096
  incoming-num-tcp: 1000
  outgoing-num-tcp: 100
  infra-cache-min-rtt: 300
  tls-cert-bundle: "{s.ca}"
forward-zone:
  name: .
  forward-tls-upstream: yes
  forward-addr: 127.0.0.1@{s.upstream}#{s.name}
""")
    return ["unbound", "-d", "-c", str(s.folder / "unbound.conf")]


def dnsdist(s):
    (s.folder / "dnsdist.conf").write_text(f"""setLocal('127.0.0.1:{s.port}', {{reusePort=true, maxInFlight=1000}})
newServer({{address='127.0.0.1:{s.upstream}', tls='openssl', subjectName='{s.name}', caStore='{s.ca}', validateCertificates=true,
           tcpOnly=true, maxInFlight=1000, checkName='up.bench.test.'}})
getPool(''):setCache(newPacketCache({s.entries}, {{maxTTL=86400}}))
setMaxUDPOutstanding(65535)
setSecurityPollSuffix('')
""")
    return ["dnsdist", "--supervised", "--disable-syslog", "-C", str(s.folder / "dnsdist.conf")]


def knot_resolver(s):
    (s.folder / "kresd.conf").write_text(f"""net.listen('127.0.0.1', {s.port}, {{ kind = 'dns' }})
log_level('crit')
trust_anchors.remove('.')
cache.open({s.cache} * MB, 'lmdb://{s.folder}/cache')
net.tcp_pipeline(10000)
policy.add(policy.all(policy.TLS_FORWARD({{{{'127.0.0.1@{s.upstream}', hostname='{s.name}', ca_file='{s.ca}'}}}})))
""")
    return ["kresd", "-n", "-c", str(s.folder / "kresd.conf"), str(s.folder)]


def smartdns(s):
    (s.folder / "smartdns.conf").write_text(f"""bind 127.0.0.1:{s.port}
bind-tcp 127.0.0.1:{s.port}
cache-size {s.entries}
cache-persist no
speed-check-mode none
dualstack-ip-selection no
log-level error
log-file {s.folder}/smartdns.log
ca-file {s.ca}
server-tls 127.0.0.1:{s.upstream} -host-name {s.name} -tls-host-verify {s.name}
""")
    return ["smartdns", "-f", "-c", str(s.folder / "smartdns.conf"), "-p", str(s.folder / "smartdns.pid")]


def floor(s):
    return [str(s.binaries / "floor"), str(s.port)]


START = {"dnsproxy": dnsproxy, "dnsdist": dnsdist, "unbound": unbound, "knot-resolver": knot_resolver, "smartdns": smartdns, "floor": floor}
PROGRAM = {"dnsdist": "dnsdist", "unbound": "unbound", "knot-resolver": "kresd", "smartdns": "smartdns"}


def version(contender, binaries):
    """What the program is, as its package or it itself says."""
    if contender in PROGRAM:
        asked = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", contender], capture_output=True, text=True)
        return f"{contender} {asked.stdout.strip() or '(not from a package)'}"
    if contender == "dnsproxy":
        return subprocess.run([binaries / "dnsproxy", "version"], capture_output=True, text=True).stdout.strip()
    return ""
