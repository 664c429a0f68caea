"""Programs that run on one core each, what they use, and the two that make load."""
import contextlib, dataclasses, json, os, pathlib, re, resource, signal, subprocess

TICK = os.sysconf("SC_CLK_TCK")


def on_core(core, argv):
    """The command that runs argv on one core, and ends it should this script be killed."""
    return ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core), *map(str, argv)]


class Process:
    """A program in the background, with the threads and processes that it starts."""

    def __init__(self, argv, core, folder):
        self.output = pathlib.Path(folder) / "output"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(on_core(core, argv), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def ended(self):
        return self.process.poll() is not None

    def said(self):
        return self.output.read_text(errors="replace")

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def read(self, name):
        """What /proc has under this name for the process and each of its descendants."""
        todo = [self.process.pid]
        for pid in todo:
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    todo += map(int, pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split())
                yield pathlib.Path(f"/proc/{pid}/{name}").read_text()

    def cpu(self):
        """Seconds of CPU that all threads used so far, user and system (proc(5), stat: utime and stime)."""
        return sum(sum(map(int, stat.rsplit(")", 1)[1].split()[11:13])) for stat in self.read("stat")) / TICK

    def resident(self):
        """Resident octets, shared and mapped ones included."""
        return sum(int(kib) << 10 for status in self.read("status") for kib in re.findall(r"^VmRSS:\s+(\d+)", status, re.M))


def run(*argv, timeout=60, **more):
    """Runs a program to its end, and returns what it printed."""
    return subprocess.run(list(map(str, argv)), check=True, capture_output=True, text=True, timeout=timeout, **more).stdout


@dataclasses.dataclass
class Load:
    answered: int
    bad: int  # lost, or not NOERROR
    rate: float


def dnsperf(core, port, names, *options, seconds):
    """Asks for the names as fast as they are answered, for so long at most."""
    said = run(*on_core(core, ["dnsperf", "-s", "127.0.0.1", "-p", port, "-d", names, "-l", seconds, *options]), timeout=seconds + 30,
               preexec_fn=allow_descriptors)
    answered, lost = (int(re.search(rf"Queries {word}:\s+(\d+)", said).group(1)) for word in ("completed", "lost"))
    good = re.search(r"NOERROR (\d+)", said)
    rate = re.search(r"Queries per second:\s+([\d.]+)", said)
    return Load(answered, lost + answered - int(good.group(1) if good else 0), float(rate.group(1)))


def open_loop(core, binaries, port, *, rate, seconds, **options):
    """Asks at this rate, and returns what ./load/main.go counts; times in microseconds."""
    argv = [binaries / "load", "-server", f"127.0.0.1:{port}", "-rate", round(rate), "-duration", f"{seconds}s"]
    for name, value in options.items():
        argv += [f"-{name}", value]
    return json.loads(run(*on_core(core, argv), timeout=seconds + 30, preexec_fn=allow_descriptors))


def allow_descriptors():
    """Lets a program have as many sockets as the kernel allows this one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
