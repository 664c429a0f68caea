//go:build servers

// The tests behind the build tag servers run the built daemon between tools
// that nobody here wrote: DNS-over-TLS servers, authoritative servers and
// clients from Debian. TestServers is the only test; it runs itself again in a
// network and mount namespace of its own, so that port 53 and /etc/resolv.conf
// are free to use, nothing leaves the machine, and everything that leaves the
// daemon can be captured.
//
//	go test -tags=servers -run '^TestServers$' -v ./cmd/dnsproxy
//
// DNSPROXY_BINARY may name the daemon's executable; without it, it is built.
// With DNSPROXY_SERVERS_LOGS=1 every program's output is shown, not only that of failed tests.
package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// insideKey is the environment variable that tells the second run from the
// first: it names the daemon's executable.
const insideKey = "DNSPROXY_SERVERS_BINARY"

func TestServers(t *testing.T) {
	binary := os.Getenv(insideKey)
	if binary == "" {
		runInNamespace(t)
		return
	}
	arrangeNamespace(t)
	r := newRig(t, binary)
	t.Run("zones", r.testZones)
	for _, up := range r.upstreams {
		t.Run("relay/"+up.name, func(t *testing.T) { r.testRelay(t, up) })
	}
	t.Run("clients", r.testClients)
	t.Run("refused", r.testRefused)
	t.Run("hello", r.testClientHello)
	t.Run("reload", r.testReloadUnderLoad)
	t.Run("restart", r.testRestartUnderLoad)
	t.Run("faults", r.testUpstreamFaults)
	t.Run("crowd", r.testManyTCPClients)
}

// runInNamespace builds the daemon and runs this test again in namespaces of
// its own; without root, in a user namespace too.
func runInNamespace(t *testing.T) {
	binary := os.Getenv("DNSPROXY_BINARY")
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "dnsproxy")
		build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building the daemon: %v\n%s", err, out)
		}
	}
	// Parallel tests wait for deadlines, not for processors.
	cmd := exec.Command(os.Args[0], append(os.Args[1:], "-test.parallel=16")...)
	cmd.Env = append(os.Environ(), insideKey+"="+binary)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		t.Fatalf("running in a namespace: %v", err)
	}
}

// arrangeNamespace makes mounts private, brings the loopback up and points
// resolv.conf at 127.0.0.1.
func arrangeNamespace(t *testing.T) {
	t.Helper()
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatalf("making mounts private: %v", err)
	}
	command(t, "/", "ip", "link", "set", "lo", "up")
	for _, addr := range []string{firstServer, secondServer, secondServerIPv6} {
		command(t, "/", "ip", "address", "add", addr, "dev", "lo")
	}
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, "nameserver 127.0.0.1\noptions timeout:5 attempts:1\n")
	if err := syscall.Mount(conf, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("mounting over /etc/resolv.conf: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount("/etc/resolv.conf", syscall.MNT_DETACH) })
}
