package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// witness holds what the check after sealing needs and could not open any more.
type witness struct {
	policy   Policy
	statuses []*os.File // /proc/self/task/TID/status of every thread; read afresh by each pread
	outside  string     // a path that could be read, outside the policy; "" if there is none
}

// newWitness also checks that the policy's directories are there: a rule needs their
// inodes, and an administrator should see his misspelling and not a landlock error.
func newWitness(p Policy) (*witness, error) {
	for _, dir := range p.ReadDirs {
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("directory %q, which is to stay readable, is not an absolute path", dir)
		}
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("opening directory %q, which is to stay readable: %w", dir, err)
		}
		unix.Close(fd)
	}
	w := &witness{policy: p}
	for _, name := range []string{"/", "/proc/self/status", "/dev/null"} {
		if !p.reads(name) && openAndClose(name, unix.O_RDONLY) == nil {
			w.outside = name
			break
		}
	}
	names, _ := filepath.Glob("/proc/self/task/*/status") // the pattern is well formed
	for _, name := range names {
		if f, err := os.Open(name); err == nil { // an ended thread has none
			w.statuses = append(w.statuses, f)
		}
	}
	return w, nil
}

func (w *witness) close() {
	for _, f := range w.statuses {
		f.Close()
	}
}

// verify reads back every thread's state and attempts what must fail, on this thread
// and on another. It compares with what r claims.
func (w *witness) verify(r *Report) error {
	checked, err := w.threads(*r)
	if err != nil {
		return err
	}
	r.Threads = checked
	return onTwoThreads(func() error { return w.attempts(*r) })
}

// threads checks the threads that were there before sealing. Those born since have
// inherited their creator's state, and creators were frozen while each step went round.
func (w *witness) threads(r Report) (int, error) {
	checked := 0
	buf := make([]byte, 8192)
	for _, f := range w.statuses {
		n, _ := f.ReadAt(buf, 0) // io.EOF, or ESRCH if the thread has ended
		if n == 0 {
			continue
		}
		if err := checkStatus(buf[:n], r); err != nil {
			return checked, fmt.Errorf("checking %s: %w", f.Name(), err)
		}
		checked++
	}
	if checked == 0 {
		return 0, errors.New("no thread's status could be read: /proc is not mounted")
	}
	return checked, nil
}

// checkStatus compares the text of a /proc/PID/task/TID/status, proc_pid_status(5), with r.
func checkStatus(status []byte, r Report) error {
	want := map[string]string{}
	if r.Capabilities {
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			want[set] = noCapability
		}
	}
	if r.BoundingSet {
		want["CapBnd"] = noCapability
	}
	if r.NoNewPrivs {
		want["NoNewPrivs"] = "1"
	}
	if r.Seccomp {
		want["Seccomp"] = "2" // SECCOMP_MODE_FILTER
	}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		expected, judged := want[key]
		if !judged {
			continue
		}
		if got := strings.TrimSpace(value); got != expected {
			return fmt.Errorf("%s is %s, want %s", key, got, expected)
		}
		delete(want, key)
	}
	for key := range want {
		return fmt.Errorf("%s is not there", key)
	}
	return nil
}

const noCapability = "0000000000000000"

// attempt is something that must fail, and how.
type attempt struct {
	what string
	want unix.Errno
	do   func() error
}

// attempts tries what r says is impossible.
func (w *witness) attempts(r Report) error {
	var list []attempt
	if r.Files && w.outside != "" {
		list = append(list, attempt{"reading " + w.outside, unix.EACCES, func() error { return openAndClose(w.outside, unix.O_RDONLY) }})
	}
	if r.Connect {
		list = append(list, attempt{"connecting to another port", unix.EACCES, w.connectElsewhere})
	}
	if r.Seccomp {
		list = append(list,
			attempt{"opening a file for writing", unix.EPERM, func() error { return openAndClose("/dev/null", unix.O_WRONLY) }},
			attempt{"binding a socket", unix.EPERM, func() error { return unix.Bind(-1, &unix.SockaddrInet4{}) }},
			attempt{"making a Multipath TCP socket", unix.EPERM, func() error { return makeSocket(unix.AF_INET, unix.IPPROTO_MPTCP) }},
			attempt{"making a unix socket", unix.EPERM, func() error { return makeSocket(unix.AF_UNIX, 0) }},
			attempt{"mapping memory that is writable and executable", unix.EPERM, mapExecutable},
		)
	}
	for _, a := range list {
		switch err := a.do(); {
		case err == nil:
			return fmt.Errorf("%s is still possible", a.what)
		case !errors.Is(err, a.want):
			return fmt.Errorf("%s fails with %q, want %q", a.what, err, a.want)
		}
	}
	return nil
}

// connectElsewhere connects to a loopback port that the policy does not hold. Landlock
// refuses before anything is sent.
func (w *witness) connectElsewhere() error {
	port := 9 // discard, RFC 863
	for slices.Contains(w.policy.ConnectPorts, uint16(port)) {
		port++
	}
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) { // a host with IPv6 only
		to = &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, to)
}

func openAndClose(name string, flags int) error {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func makeSocket(family, protocol int) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func mapExecutable() error {
	mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return unix.Munmap(mem)
}

// onTwoThreads runs f on the calling thread and, while that one is held, on another.
func onTwoThreads(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	other := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		other <- f()
	}()
	return errors.Join(f(), <-other)
}
