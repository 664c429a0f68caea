package sandbox

import "golang.org/x/sys/unix"

// The list was derived from traces of the daemon's work (the strace test repeats that) and
// from the runtime's sources, not copied from another program. What an architecture has
// under a name of its own stands in that architecture's file.
//
// Done before sealing, so not listed: making epoll instances and eventfds (the runtime's
// poller), pipes, unix sockets, uname, reading limits, bind and listen.

// tmpfileBit is O_TMPFILE without the O_DIRECTORY that the kernel wants beside it.
const tmpfileBit = unix.O_TMPFILE &^ unix.O_DIRECTORY

// threadFlags must be set in every clone(2), and newProcessFlags must not: what is left
// makes threads. Go passes CLONE_VM, FS, FILES, SIGHAND, SYSVSEM and THREAD.
const (
	threadFlags     = unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND
	newProcessFlags = unix.CLONE_VFORK | unix.CLONE_PTRACE | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP |
		unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
)

const anyBit = ^uint32(0)

// The checks that more than one architecture's name for a call shares.
var (
	// Nothing becomes executable that the linker did not make so.
	notExecutable = check{2, unix.PROT_EXEC, []uint32{0}}
	// Memory, never a file.
	anonymous = check{3, unix.MAP_ANONYMOUS, []uint32{unix.MAP_ANONYMOUS}}
	// What package net asks of a descriptor: duplicates, close-on-exec, non-blocking.
	descriptorFlags = check{1, anyBit, []uint32{unix.F_DUPFD_CLOEXEC, unix.F_GETFL, unix.F_SETFL, unix.F_GETFD, unix.F_SETFD}}
)

// commonRules are the calls that every architecture names alike. pid is the process
// that may be signalled: its own.
func commonRules(pid uint32) []rule {
	self := []check{{0, anyBit, []uint32{pid}}}
	return []rule{
		// With conditions; the most frequent first.
		{"clone", unix.SYS_CLONE, "the runtime starts threads; processes and namespaces are refused", []check{{0, threadFlags | newProcessFlags, []uint32{threadFlags}}}},
		{"mprotect", unix.SYS_MPROTECT, "the runtime takes the rights of memory that it gives up", []check{notExecutable}},
		{"openat", unix.SYS_OPENAT, "a reload reads the configuration and the CA files; never for writing", []check{{2, unix.O_ACCMODE | unix.O_CREAT | unix.O_TRUNC | tmpfileBit, []uint32{unix.O_RDONLY}}}},
		{"socket", unix.SYS_SOCKET, "sessions to upstreams: TCP over IPv4 or IPv6; not Multipath TCP, which landlock does not see", []check{
			{0, anyBit, []uint32{unix.AF_INET, unix.AF_INET6}},
			{1, 0xf, []uint32{unix.SOCK_STREAM}}, // beside SOCK_NONBLOCK and SOCK_CLOEXEC; socket(2)
			{2, anyBit, []uint32{0, unix.IPPROTO_TCP}}}},
		{"tgkill", unix.SYS_TGKILL, "the runtime preempts goroutines by a signal to their thread", self},
		{"kill", unix.SYS_KILL, "the runtime ends the process by its own signal, so that the manager sees which", self},
		{"prctl", unix.SYS_PRCTL, "the runtime names its memory in /proc/PID/maps", []check{{0, anyBit, []uint32{unix.PR_SET_VMA}}}},

		// Bytes in and out of open descriptors.
		{"read", unix.SYS_READ, "sessions, clients over TCP, files, the runtime's eventfd", nil},
		{"write", unix.SYS_WRITE, "sessions, clients over TCP, the journal, stack traces", nil},
		{"writev", unix.SYS_WRITEV, "net.Buffers sends a message and its length in one call", nil},
		{"pread64", unix.SYS_PREAD64, "the runtime reads the cgroup's CPU limit again and again", nil},
		{"close", unix.SYS_CLOSE, "ended connections, files", nil},
		{"recvmmsg", unix.SYS_RECVMMSG, "UDP queries in batches", nil},
		{"sendmmsg", unix.SYS_SENDMMSG, "UDP answers in batches", nil},
		{"recvmsg", unix.SYS_RECVMSG, "one UDP query with the address that was asked", nil},
		{"sendmsg", unix.SYS_SENDMSG, "one UDP answer from that address; journal and notify datagrams", nil},
		{"recvfrom", unix.SYS_RECVFROM, "package net's read from a UDP socket", nil},
		{"sendto", unix.SYS_SENDTO, "package net's write to a UDP socket", nil},

		// Connections.
		{"accept4", unix.SYS_ACCEPT4, "clients over TCP, the control and metrics sockets", nil},
		{"connect", unix.SYS_CONNECT, "sessions to upstreams; landlock judges the port", nil},
		{"getsockname", unix.SYS_GETSOCKNAME, "package net fills in a connection's local address", nil},
		{"getpeername", unix.SYS_GETPEERNAME, "package net fills in a connection's remote address", nil},
		{"getsockopt", unix.SYS_GETSOCKOPT, "the outcome of a connect (SO_ERROR), TCP_INFO", nil},
		{"setsockopt", unix.SYS_SETSOCKOPT, "TCP_NODELAY, keep-alive, TCP_USER_TIMEOUT", nil},
		{"shutdown", unix.SYS_SHUTDOWN, "half-closing a connection", nil},
		{"epoll_ctl", unix.SYS_EPOLL_CTL, "the runtime watches new connections", nil},
		{"epoll_pwait", unix.SYS_EPOLL_PWAIT, "the runtime waits for readiness", nil},

		// Files, read again on a reload.
		{"getdents64", unix.SYS_GETDENTS64, "listing a directory of CA files; the check of all threads", nil},
		{"readlinkat", unix.SYS_READLINKAT, "resolving what a configured path links to", nil},

		{"getcwd", unix.SYS_GETCWD, "a configuration that was named by a relative path", nil},

		// Memory.
		{"munmap", unix.SYS_MUNMAP, "the runtime and the cache return memory", nil},
		{"madvise", unix.SYS_MADVISE, "the runtime and the cache return pages", nil},

		// Threads and time.
		{"futex", unix.SYS_FUTEX, "the runtime's locks and parked threads", nil},
		{"nanosleep", unix.SYS_NANOSLEEP, "the runtime's monitor thread", nil},
		{"clock_gettime", unix.SYS_CLOCK_GETTIME, "time, on machines whose vDSO cannot tell it; CLOCK_BOOTTIME", nil},
		{"restart_syscall", unix.SYS_RESTART_SYSCALL, "the kernel resumes a sleep that SIGSTOP and SIGCONT broke", nil},
		{"sched_yield", unix.SYS_SCHED_YIELD, "the runtime's spinning locks", nil},
		{"sched_getaffinity", unix.SYS_SCHED_GETAFFINITY, "the runtime follows changes of the CPUs it may use", nil},
		{"exit", unix.SYS_EXIT, "a thread ends", nil},
		{"exit_group", unix.SYS_EXIT_GROUP, "the process ends", nil},
		{"gettid", unix.SYS_GETTID, "a new thread learns its ID", nil},
		{"getpid", unix.SYS_GETPID, "for tgkill", nil},
		{"getrusage", unix.SYS_GETRUSAGE, "the CPU time in the metrics", nil},
		{"getrandom", unix.SYS_GETRANDOM, "query IDs and TLS, on kernels whose vDSO has no getrandom", nil},

		// Signals.
		{"rt_sigaction", unix.SYS_RT_SIGACTION, "signal.Notify and Reset; restoring the default before dying", nil},
		{"rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, "a new thread's mask", nil},
		{"rt_sigreturn", unix.SYS_RT_SIGRETURN, "the end of every signal handler", nil},
		{"sigaltstack", unix.SYS_SIGALTSTACK, "a new thread's stack for signals", nil},
	}
}

// refusals are the calls that an intruder makes and this program never does: the process
// dies by SIGSYS rather than let him try again.
func refusals() []refusal {
	const kill = unix.SECCOMP_RET_KILL_PROCESS
	return []refusal{
		{"execve", unix.SYS_EXECVE, "another program", kill},
		{"execveat", unix.SYS_EXECVEAT, "another program, from a descriptor", kill},
		{"ptrace", unix.SYS_PTRACE, "another process's memory", kill},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, "another process's memory", kill},
		{"process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, "another process's memory", kill},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, "another process's descriptors", kill},
		{"bpf", unix.SYS_BPF, "code in the kernel", kill},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, "a wide way into the kernel", kill},
		{"userfaultfd", unix.SYS_USERFAULTFD, "holds the kernel still in a race", kill},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, "calls that seccomp does not see", kill},
		{"io_uring_enter", unix.SYS_IO_URING_ENTER, "calls that seccomp does not see", kill},
		{"io_uring_register", unix.SYS_IO_URING_REGISTER, "calls that seccomp does not see", kill},
		{"init_module", unix.SYS_INIT_MODULE, "code in the kernel", kill},
		{"finit_module", unix.SYS_FINIT_MODULE, "code in the kernel", kill},
		{"delete_module", unix.SYS_DELETE_MODULE, "the kernel's own parts", kill},
		{"kexec_load", unix.SYS_KEXEC_LOAD, "another kernel", kill},
		{"kexec_file_load", unix.SYS_KEXEC_FILE_LOAD, "another kernel", kill},
		{"add_key", unix.SYS_ADD_KEY, "the kernel's key store, a wide way in", kill},
		{"request_key", unix.SYS_REQUEST_KEY, "the kernel's key store, a wide way in", kill},
		{"keyctl", unix.SYS_KEYCTL, "the kernel's key store, a wide way in", kill},
		{"unshare", unix.SYS_UNSHARE, "a user namespace brings back capabilities", kill},
		{"setns", unix.SYS_SETNS, "another's namespaces", kill},
		{"mount", unix.SYS_MOUNT, "another view of the files", kill},
		{"umount2", unix.SYS_UMOUNT2, "another view of the files", kill},
		{"pivot_root", unix.SYS_PIVOT_ROOT, "another view of the files", kill},
		{"fsopen", unix.SYS_FSOPEN, "another view of the files", kill},
		{"fsconfig", unix.SYS_FSCONFIG, "another view of the files", kill},
		{"fsmount", unix.SYS_FSMOUNT, "another view of the files", kill},
		{"fspick", unix.SYS_FSPICK, "another view of the files", kill},
		{"move_mount", unix.SYS_MOVE_MOUNT, "another view of the files", kill},
		{"open_tree", unix.SYS_OPEN_TREE, "another view of the files", kill},
		{"mount_setattr", unix.SYS_MOUNT_SETATTR, "another view of the files", kill},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, "files past every path rule", kill},

		// Not an attack: glibc tries it first, and only ENOSYS sends it back to clone.
		{"clone3", unix.SYS_CLONE3, "its flags are in memory, where no filter sees them", unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
	}
}
