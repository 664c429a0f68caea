package sandbox_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dnsproxy/internal/sandbox"
)

// act is something that a sealed process must fail at.
type act struct {
	name  string
	want  syscall.Errno
	needs sandbox.Part // which part stops it
	do    func(order) error
}

// closing turns a descriptor that should not be into an error or none.
func closing(fd int, err error) error {
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func socket(family, kind, protocol int) func(order) error {
	return func(order) error { return closing(unix.Socket(family, kind, protocol)) }
}

func open(name string, flags int) func(order) error {
	return func(order) error { return closing(unix.Open(name, flags, 0o600)) }
}

func raw(nr uintptr, args ...uintptr) func(order) error {
	return func(order) error {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno != 0 {
			return errno
		}
		return nil
	}
}

func connect(family int, port func(order) int) func(order) error {
	return func(o order) error {
		fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if family == unix.AF_INET6 {
			return unix.Connect(fd, &unix.SockaddrInet6{Port: port(o), Addr: [16]byte{15: 1}})
		}
		return unix.Connect(fd, &unix.SockaddrInet4{Port: port(o), Addr: [4]byte{127, 0, 0, 1}})
	}
}

func mapping(prot, flags int) func(order) error {
	return func(order) error {
		mem, err := unix.Mmap(-1, 0, os.Getpagesize(), prot, flags)
		if err == nil {
			unix.Munmap(mem)
		}
		return err
	}
}

const rw = unix.PROT_READ | unix.PROT_WRITE

// forbiddenActs give an errno; bannedCalls (below) end the process. design.md, promise 3.
var forbiddenActs = []act{
	// Files outside the policy.
	{"read /etc/passwd", unix.EACCES, sandbox.PartFiles, open("/etc/passwd", unix.O_RDONLY)},
	{"list /", unix.EACCES, sandbox.PartFiles, open("/", unix.O_RDONLY|unix.O_DIRECTORY)},
	{"read the parent of a granted directory", unix.EACCES, sandbox.PartFiles, func(o order) error {
		return open(filepath.Dir(o.Policy.ReadDirs[0]), unix.O_RDONLY)(o)
	}},
	{"read its own memory map", unix.EACCES, sandbox.PartFiles, open("/proc/self/maps", unix.O_RDONLY)},
	{"climb out of a granted directory", unix.EACCES, sandbox.PartFiles, func(o order) error {
		return open(o.Policy.ReadDirs[0]+"/../../../../../../../../etc/passwd", unix.O_RDONLY)(o)
	}},
	// Writing, even where reading is granted.
	{"write the configuration", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return open(o.ConfigFile, unix.O_WRONLY)(o) }},
	{"append to the configuration", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return open(o.ConfigFile, unix.O_RDWR|unix.O_APPEND)(o) }},
	{"truncate the configuration", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return open(o.ConfigFile, unix.O_RDONLY|unix.O_TRUNC)(o) }},
	{"truncate by name", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return unix.Truncate(o.ConfigFile, 0) }},
	{"create a file", unix.EPERM, sandbox.PartSeccomp, func(o order) error {
		return open(o.Policy.ReadDirs[0]+"/new", unix.O_RDONLY|unix.O_CREAT)(o)
	}},
	{"create a nameless file", unix.EPERM, sandbox.PartSeccomp, func(o order) error {
		return open(o.Policy.ReadDirs[0], unix.O_RDWR|unix.O_TMPFILE)(o)
	}},
	{"make a directory", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return unix.Mkdir(o.Policy.ReadDirs[0]+"/d", 0o700) }},
	{"unlink the configuration", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return unix.Unlink(o.ConfigFile) }},
	{"rename the configuration", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return unix.Rename(o.ConfigFile, o.ConfigFile+"~") }},
	{"link the configuration", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return unix.Link(o.ConfigFile, o.ConfigFile+"~") }},
	{"change the configuration's mode", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return unix.Chmod(o.ConfigFile, 0o666) }},
	{"change the configuration's owner", unix.EPERM, sandbox.PartSeccomp, func(o order) error { return unix.Chown(o.ConfigFile, 0, 0) }},
	{"write to a device", unix.EPERM, sandbox.PartSeccomp, open("/dev/null", unix.O_WRONLY)},
	{"make a file in memory", unix.EPERM, sandbox.PartSeccomp, func(order) error { return closing(unix.MemfdCreate("x", 0)) }},
	{"open by openat2", unix.EPERM, sandbox.PartSeccomp, func(o order) error {
		return closing(unix.Openat2(unix.AT_FDCWD, o.ConfigFile, &unix.OpenHow{}))
	}},

	// The network.
	{"connect to another port over IPv4", unix.EACCES, sandbox.PartConnect, connect(unix.AF_INET, otherPort)},
	{"connect to another port over IPv6", unix.EACCES, sandbox.PartConnect, connect(unix.AF_INET6, otherPort)},
	{"connect to port 53", unix.EACCES, sandbox.PartConnect, connect(unix.AF_INET, func(order) int { return 53 })},
	{"bind", unix.EPERM, sandbox.PartSeccomp, func(order) error { return withTCP(func(fd int) error { return unix.Bind(fd, &unix.SockaddrInet4{}) }) }},
	{"listen", unix.EPERM, sandbox.PartSeccomp, func(order) error { return withTCP(func(fd int) error { return unix.Listen(fd, 1) }) }},
	{"net.Listen", unix.EPERM, sandbox.PartSeccomp, func(order) error {
		_, err := net.Listen("tcp", "127.0.0.1:0")
		return errnoOf(err)
	}},
	{"net.Dial with UDP", unix.EPERM, sandbox.PartSeccomp, func(order) error {
		_, err := net.Dial("udp", "127.0.0.1:53")
		return errnoOf(err)
	}},
	{"UDP socket", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_INET, unix.SOCK_DGRAM, 0)},
	{"UDP socket over IPv6, non-blocking", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)},
	{"Multipath TCP socket", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)},
	{"Multipath TCP socket over IPv6", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)},
	{"SCTP socket", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)},
	{"raw socket", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
	{"unix socket", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)},
	{"unix socket pair", unix.EPERM, sandbox.PartSeccomp, func(order) error {
		_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		return err
	}},
	{"netlink socket", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)},
	{"packet socket", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
	{"vsock socket", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)},
	{"crypto API socket", unix.EPERM, sandbox.PartSeccomp, socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)},

	// Processes and memory.
	{"fork", unix.EPERM, sandbox.PartSeccomp, raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD))},
	{"vfork, as os/exec does", unix.EPERM, sandbox.PartSeccomp, raw(unix.SYS_CLONE, unix.CLONE_VFORK|unix.CLONE_VM|uintptr(unix.SIGCHLD))},
	{"clone3", unix.ENOSYS, sandbox.PartSeccomp, raw(unix.SYS_CLONE3)},
	{"a thread in a user namespace", unix.EPERM, sandbox.PartSeccomp, raw(unix.SYS_CLONE, unix.CLONE_THREAD|unix.CLONE_VM|unix.CLONE_SIGHAND|unix.CLONE_NEWUSER)},
	{"syscall.ForkExec", unix.EPERM, sandbox.PartSeccomp, func(order) error {
		_, err := syscall.ForkExec("/bin/true", nil, nil)
		return err
	}},
	{"signal the parent", unix.EPERM, sandbox.PartSeccomp, func(order) error { return unix.Kill(unix.Getppid(), 0) }},
	{"signal the parent's thread", unix.EPERM, sandbox.PartSeccomp, func(order) error {
		return unix.Tgkill(unix.Getppid(), unix.Getppid(), 0)
	}},
	{"map writable and executable", unix.EPERM, sandbox.PartSeccomp, mapping(rw|unix.PROT_EXEC, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)},
	{"map executable", unix.EPERM, sandbox.PartSeccomp, mapping(unix.PROT_READ|unix.PROT_EXEC, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)},
	{"make memory executable", unix.EPERM, sandbox.PartSeccomp, func(order) error {
		mem, err := unix.Mmap(-1, 0, os.Getpagesize(), rw, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
		if err != nil {
			return nil
		}
		defer unix.Munmap(mem)
		return unix.Mprotect(mem, unix.PROT_READ|unix.PROT_EXEC)
	}},
	{"map a file", unix.EPERM, sandbox.PartSeccomp, func(order) error {
		_, err := unix.Mmap(0, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE)
		return err
	}},

	// Privilege and the kernel.
	{"set the user ID", unix.EPERM, sandbox.PartSeccomp, raw(unix.SYS_SETUID)},
	{"capset", unix.EPERM, sandbox.PartSeccomp, raw(unix.SYS_CAPSET)},
	{"become dumpable", unix.EPERM, sandbox.PartSeccomp, raw(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)},
	{"change a limit", unix.EPERM, sandbox.PartSeccomp, func(order) error {
		return unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: 1}, nil)
	}},
	{"chroot", unix.EPERM, sandbox.PartSeccomp, func(order) error { return unix.Chroot("/") }},
	{"another filter", unix.EPERM, sandbox.PartSeccomp, raw(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER)},
	{"set the clock", unix.EPERM, sandbox.PartSeccomp, func(order) error { return unix.Settimeofday(&unix.Timeval{Sec: 1}) }},
	{"ioctl on the standard input", unix.EPERM, sandbox.PartSeccomp, func(order) error { return unix.IoctlSetInt(0, unix.TIOCSTI, 0) }},
}

func otherPort(o order) int { return o.Port ^ 1 }

func withTCP(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil // the caller then reports that the act passed
	}
	defer unix.Close(fd)
	return f(fd)
}

// errnoOf is the errno at the bottom of an error of package net or os.
func errnoOf(err error) error {
	for err != nil {
		if errno, ok := err.(syscall.Errno); ok {
			return errno
		}
		wrapped, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = wrapped.Unwrap()
	}
	return nil
}

// forbidden attempts every act on threads older and younger than the seal.
func forbidden(o order) {
	before := lockedThreads(3)
	sealed := o.seal()
	after := lockedThreads(3)
	for _, a := range forbiddenActs {
		if missing(sealed, a.needs) {
			continue // it would work, and some do harm
		}
		before(func() { report(a.name, "before", a.do(o)) })
		after(func() { report(a.name, "after", a.do(o)) })
	}
}

func TestForbiddenActsFailOnEveryThread(t *testing.T) {
	for _, user := range users(t) {
		t.Run(user.name, func(t *testing.T) {
			o := newOrder(t, "forbidden")
			list, stderr, state := run(t, o, user.become)
			if !state.Success() {
				t.Fatalf("child: %v\n%s", state, stderr)
			}
			sealed := requireSealed(t, list)
			tried := map[string]int{}
			for _, r := range list[1:] {
				tried[r.Act]++
				a := actNamed(t, r.Act)
				if missing(sealed, a.needs) {
					continue // requireSealed has said so
				}
				if r.Errno != a.want {
					t.Errorf("%s, on a thread from %s sealing: got %q, want %q", r.Act, r.Thread, r.Err, a.want)
				}
			}
			for _, a := range forbiddenActs {
				if tried[a.name] != 6 {
					t.Errorf("%s: tried on %d threads, want 6", a.name, tried[a.name])
				}
			}
		})
	}
}

func actNamed(t *testing.T, name string) act {
	for _, a := range forbiddenActs {
		if a.name == name {
			return a
		}
	}
	t.Fatalf("no act is called %q", name)
	return act{}
}

// banned makes one call that ends the process; its arguments make it fail if it does not.
func banned(o order) {
	before := lockedThreads(1)
	o.seal()
	which, nr, _ := strings.Cut(o.Act, " ")
	n, err := strconv.Atoi(nr)
	if err != nil {
		fatal("%v", err)
	}
	do := func() { unix.Syscall6(uintptr(n), 0, 0, 0, 0, 0, 0) }
	if which == "before" {
		before(do)
	} else {
		lockedThreads(1)(do)
	}
}

func TestBannedCallsEndTheProcess(t *testing.T) {
	for i, call := range sandbox.BannedCalls() {
		t.Run(call.Name, func(t *testing.T) {
			o := newOrder(t, "banned")
			o.Act = []string{"before", "after"}[i%2] + " " + strconv.Itoa(int(call.Nr))
			list, stderr, state := run(t, o)
			if missing(requireSealed(t, list), sandbox.PartSeccomp) {
				t.Fatal("no seccomp here")
			}
			if ws := state.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != unix.SIGSYS {
				t.Errorf("%s: child ended by %v, want SIGSYS\n%s", call.Name, state, stderr)
			}
		})
	}
}

func TestTrapNamesTheCall(t *testing.T) {
	o := newOrder(t, "banned")
	o.Trap = true
	o.Act = "after " + strconv.Itoa(unix.SYS_BIND)
	_, stderr, state := run(t, o)
	if state.ExitCode() != 2 {
		t.Fatalf("child ended by %v, want exit status 2 of a Go crash", state)
	}
	// "bind", where the sources of x/sys are at hand.
	if got, want := trapped(t, stderr), callName(t, unix.SYS_BIND); got != want {
		t.Errorf("got %q as the trapped call, want %q\n%s", got, want, stderr)
	}
}
