"""What is measured. Each scenario starts a forwarder and the upstream anew, and returns the cells
of one row by their columns' names; less is better in each."""
import contextlib, dataclasses, itertools, json, os, pathlib, random, socket, sys, tempfile, time

import contenders
from processes import Process, dnsperf, open_loop

SERVER_CORE, *_, LOAD_CORE = sorted(os.sched_getaffinity(0)) * 2
FIRST_PORT, PORTS = 15700, 100
UPSTREAM_NAME = "upstream.bench.test"
HOT = 10_000  # names that are asked again and again
MANY = 1_000_000
NOT_FORWARDED = "floor"  # which has neither cache nor upstream nor TCP


@dataclasses.dataclass
class Settings:
    """What a contender is to be started with; see contenders.py."""
    folder: pathlib.Path
    binaries: pathlib.Path
    port: int
    upstream: int
    cache: int  # MiB
    entries: int  # as much, for those who count
    ca: pathlib.Path
    name: str = UPSTREAM_NAME


class Bench:
    """Where programs and names are, and how long to measure."""

    def __init__(self, folder, seconds):
        self.folder, self.binaries, self.seconds = folder, folder / "bin", seconds
        self.ports = itertools.cycle(range(FIRST_PORT, FIRST_PORT + PORTS, 2))  # one that was used may linger in TIME-WAIT
        self.remarks = []

    def names(self, count, first=0):
        """A file for dnsperf with these names; not in the order of their numbers, which caches may like."""
        path = self.folder / f"names-{first}-{count}"
        if not path.exists():
            numbers = list(range(first, first + count))
            random.Random(count).shuffle(numbers)
            path.write_text("".join(f"n{n}.bench.test A\n" for n in numbers))
        return path

    @contextlib.contextmanager
    def trial(self, contender, cache=128, entries=200_000, delay="0s"):
        """One contender that serves."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            folder = pathlib.Path(folder)
            port = next(self.ports)
            s = Settings(folder, self.binaries, port, port + 1, cache, entries, folder / "ca.pem")
            argv = [self.binaries / "upstream", "-listen", f"127.0.0.1:{s.upstream}", "-name", s.name, "-ca", s.ca, "-delay", delay]
            (folder / "upstream").mkdir()
            with Process(argv, LOAD_CORE, folder / "upstream") as upstream:
                wait_for(s.ca.exists, upstream)
                began = time.monotonic()
                with Process(contenders.START[contender](s), SERVER_CORE, folder) as server:
                    self.await_answer(s, server)
                    yield Trial(self, s, server, contender, time.monotonic() - began)
            if contender != NOT_FORWARDED:
                print(f"    upstream: {upstream.said().strip()}", file=sys.stderr)
                if contender == "dnsproxy" and (counted := json.loads(upstream.said()))["handshakes"] != 1:
                    self.remark(f"dnsproxy: {counted['handshakes']} sessions with the upstream instead of one")

    def await_answer(self, s, server):
        """Asks for new names, every 50 ms and soon after a refusal, until one is answered."""
        end = time.monotonic() + 20
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.05)
            client.connect(("127.0.0.1", s.port))
            for i in itertools.count():
                try:
                    client.send(query(f"up{i}.bench.test"))
                    answer = client.recv(4096)
                    if answer[3] & 15 == 0 and answer[7] > 0:
                        return
                except TimeoutError:
                    pass
                except ConnectionRefusedError:
                    time.sleep(0.001)
                if server.ended() or time.monotonic() > end:
                    raise RuntimeError(f"it does not answer: {server.said()[-500:]}")

    def remark(self, text):
        print(f"    {text}", file=sys.stderr)
        if text not in self.remarks:
            self.remarks.append(text)


class Trial:
    """A contender that serves, and what can be done with it."""

    def __init__(self, bench, settings, server, contender, start):
        self.bench, self.settings, self.server, self.contender, self.start = bench, settings, server, contender, start

    def ask(self, names, *options, seconds=None):
        """Full load; returns it, and microseconds of CPU for each answered query."""
        before = self.server.cpu()
        done = dnsperf(LOAD_CORE, self.settings.port, names, *options, seconds=seconds or self.bench.seconds)
        cost = (self.server.cpu() - before) * 1e6 / max(done.answered, 1)
        print(f"    {done.rate:,.0f} queries a second, {cost:.2f} us each, {done.bad} of {done.answered} lost or failed", file=sys.stderr)
        if done.bad > done.answered / 1000 or done.bad and self.contender == "dnsproxy":
            self.bench.remark(f"{self.contender}: {done.bad} of {done.answered} queries lost or failed under full load")
        return done, cost

    def hot(self, count=HOT, clients=8, mode="udp"):
        """Full load on names that are cached."""
        return self.ask(self.bench.names(count), "-m", mode, "-c", clients, "-q", 200)

    def warm(self, count, first=0):
        """Has names cached."""
        return self.ask(self.bench.names(count, first), "-n", 1, "-c", 8, "-q", 100, seconds=300)

    def at_rate(self, rate, seconds, **options):
        """Load at a fixed rate; returns the times of answers, and microseconds of CPU for each."""
        before = self.server.cpu()
        done = open_loop(LOAD_CORE, self.settings.binaries, self.settings.port, rate=rate, seconds=seconds, **options)
        cost = (self.server.cpu() - before) * 1e6 / done["sent"]
        print(f"    at {rate:,.0f} a second: {cost:.2f} us each, {done}", file=sys.stderr)
        if done["lost"] or done["failed"]:
            self.bench.remark(f"{self.contender}: {done['lost'] + done['failed']:.0f} of {done['sent']:.0f} queries lost or failed at {rate:,.0f} a second")
        return done, cost


def startup(bench, contender):
    with bench.trial(contender) as t:
        return {"start, ms": t.start * 1000}


def memory(bench, contender):
    count = 100_000
    with bench.trial(contender) as t:
        time.sleep(0.5)
        idle = t.server.resident()
        t.warm(count)
        return {"idle, MB": idle / 1e6, "octets a name": (t.server.resident() - idle) / count}


def hot_udp(bench, contender):
    with bench.trial(contender) as t:
        t.warm(HOT)
        return {"hot, UDP, µs": t.hot()[1]}


def hot_tcp(bench, contender):
    with bench.trial(contender) as t:
        t.warm(HOT)
        return {"hot, TCP, µs": t.hot(mode="tcp")[1]}


def cold(bench, contender):
    with bench.trial(contender) as t:
        return {"cold, µs": t.ask(bench.names(MANY), "-c", 8, "-q", 200)[1]}


def latency(bench, contender):
    with bench.trial(contender, delay="20ms") as t:
        t.at_rate(200, 1, prefix="first")
        done, cost = t.at_rate(1000, max(bench.seconds, 5), sockets=32)
        return {"p50, ms": done["p50"] / 1000, "p99, ms": done["p99"] / 1000, "1,000/s, µs": cost}


def growth(bench, contender):
    """What becomes dearer with names and clients; with a cache in which all names have room."""
    with bench.trial(contender, cache=256, entries=1_100_000) as t:
        if contender != NOT_FORWARDED:
            t.warm(HOT)
        few, cost = t.hot()
        row = {"hot, µs": cost, "hot, 1,000 sockets, µs": t.hot(clients=1000)[1]}
        row["half load, p99.9, ms"] = t.at_rate(few.rate / 2, bench.seconds, names=HOT)[0]["p99.9"] / 1000
        if contender == NOT_FORWARDED:
            return row
        t.warm(MANY - HOT, first=HOT)
        t.warm(MANY)  # what was lost
        row["hot, 1,000,000 names, µs"] = t.hot(MANY)[1]
        row["half load, 1,000,000 names, p99.9, ms"] = t.at_rate(few.rate / 2, bench.seconds, names=MANY)[0]["p99.9"] / 1000
        return row | {"1,000,000 names, MB": t.server.resident() / 1e6}


def bound(bench, contender):
    """Memory, once far more names were asked for than the cache has room for."""
    with bench.trial(contender, cache=32, entries=50_000) as t:
        t.warm(MANY)
        return {"1,000,000 names in 32 MiB, MB": t.server.resident() / 1e6}


SCENARIOS = {"startup": startup, "memory": memory, "hot-udp": hot_udp, "hot-tcp": hot_tcp, "cold": cold, "latency": latency,
             "growth": growth, "bound": bound}
FLOOR = {"hot-udp", "growth"}  # where the floor takes part
GROWTH = {"growth", "bound"}  # dear, and about one forwarder: the others take part if they are named


def wait_for(condition, process):
    end = time.monotonic() + 10
    while not condition():
        if process.ended() or time.monotonic() > end:
            raise RuntimeError(f"it does not start: {process.said()[-500:]}")
        time.sleep(0.005)


def query(name):
    """A query for the A records of name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"\x42\x42\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
