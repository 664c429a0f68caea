// Command load measures a DNS server's answer times for packaging/bench. It sends A queries
// over UDP at a fixed rate, whatever comes back (open loop), and counts each answer's time from the
// moment at which its query was to be sent. So a server that stalls cannot slow the queries down
// that would have shown it. Throughput is dnsperf's business.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settings are the command's options.
type settings struct {
	server, prefix, zone string
	rate, sockets, names int
	duration, timeout    time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.server, "server", "127.0.0.1:53", "address and port of the server")
	flag.StringVar(&s.prefix, "prefix", "n", "what the first label begins with; a number follows")
	flag.StringVar(&s.zone, "zone", "bench.test", "what follows the first label")
	flag.IntVar(&s.rate, "rate", 1000, "queries a second")
	flag.IntVar(&s.sockets, "sockets", 8, "client sockets, used in turn")
	flag.IntVar(&s.names, "names", 0, "ask for names with numbers below this, at random; 0: each query for a new one")
	flag.DurationVar(&s.duration, "duration", 10*time.Second, "how long to send")
	flag.DurationVar(&s.timeout, "timeout", 2*time.Second, "how long to wait for the last answers")
	flag.Parse()
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	// The collector's pauses would look like the server's.
	debug.SetGCPercent(-1)
	// One thread does everything: two on one core would wait for each other. And it is woken
	// when it wants to be, not 50 us later (prctl(2), PR_SET_TIMERSLACK).
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return err
	}
	m := &measurement{settings: s, interval: time.Second / time.Duration(s.rate)}
	m.took = make([]time.Duration, int(s.duration/m.interval))
	m.lag = make([]time.Duration, len(m.took))
	if err := m.connect(); err != nil {
		return err
	}
	if err := m.exchange(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m.summary())
}

// measurement is one run: query i is due at i times the interval, and is sent from socket i
// modulo their number. The IDs of each socket's queries are 0, 1, 2 and so on, and begin again after 65535.
type measurement struct {
	settings
	interval       time.Duration
	sockets        []unix.PollFd
	start          time.Time
	sent, answered int
	lag            []time.Duration // how late each query was sent
	took           []time.Duration // until each answer; 0: none yet; -1: not what was wanted
}

func (m *measurement) connect() error {
	server, err := netip.ParseAddrPort(m.server)
	if err != nil {
		return err
	}
	for range m.settings.sockets {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("making a socket: %w", err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: server.Addr().As4(), Port: int(server.Port())}); err != nil {
			return fmt.Errorf("connecting to %q: %w", m.server, err)
		}
		m.sockets = append(m.sockets, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return nil
}

// exchange sends every query when it is due, or at once if that is past, and takes answers
// in between; then until all have come, or the timeout.
func (m *measurement) exchange() error {
	choose := rand.New(rand.NewPCG(1, 2)) // the same names for every server
	m.start = time.Now()
	last := time.Duration(len(m.took)-1) * m.interval
	for m.answered < len(m.took) && time.Since(m.start) < last+m.timeout {
		for burst := 0; burst < 32 && m.sent < len(m.took) && time.Since(m.start) >= m.due(m.sent); burst++ {
			if err := m.send(choose); err != nil {
				return err
			}
		}
		wait := 10 * time.Millisecond
		if m.sent < len(m.took) {
			wait = max(0, m.due(m.sent)-time.Since(m.start))
		}
		if err := m.await(wait); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) due(i int) time.Duration { return time.Duration(i) * m.interval }

// send sends the next query.
func (m *measurement) send(choose *rand.Rand) error {
	i := m.sent
	number := i
	if m.names > 0 {
		number = choose.IntN(m.names)
	}
	var buffer [300]byte
	query := appendQuery(buffer[:0], uint16(i/len(m.sockets)), m.prefix+strconv.Itoa(number)+"."+m.zone)
	m.lag[i] = time.Since(m.start) - m.due(i)
	m.sent++
	_, err := unix.Write(int(m.sockets[i%len(m.sockets)].Fd), query)
	if errors.Is(err, unix.ECONNREFUSED) { // that an earlier query found nobody
		return nil
	}
	return err
}

// appendQuery appends a query for the A records of name.
func appendQuery(dst []byte, id uint16, name string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, id)
	dst = append(dst, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // RD, one question
	for label := range strings.SplitSeq(name, ".") {
		dst = append(dst, byte(len(label)))
		dst = append(dst, label...)
	}
	return append(dst, 0, 0, 1, 0, 1)
}

// await waits for answers, for so long at most, and takes what has come.
func (m *measurement) await(wait time.Duration) error {
	timeout := unix.NsecToTimespec(int64(wait))
	ready, err := unix.Ppoll(m.sockets, &timeout, nil)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("waiting for answers: %w", err)
	}
	for k := 0; ready > 0 && k < len(m.sockets); k++ {
		if m.sockets[k].Revents != 0 {
			m.take(k)
			ready--
		}
	}
	return nil
}

// take reads the answers that have come to socket k.
func (m *measurement) take(k int) {
	var answer [4096]byte
	for {
		n, err := unix.Read(int(m.sockets[k].Fd), answer[:])
		if err != nil {
			return
		}
		if n < 12 {
			continue
		}
		// The last query from here that has this ID.
		newest := (m.sent - 1 - k) / len(m.sockets)
		i := (newest-int(uint16(newest)-binary.BigEndian.Uint16(answer[:])))*len(m.sockets) + k
		if i < 0 || i >= m.sent || m.took[i] != 0 {
			continue
		}
		m.answered++
		m.took[i] = time.Since(m.start) - m.due(i)
		if answer[3]&15 != 0 || binary.BigEndian.Uint16(answer[6:]) == 0 {
			m.took[i] = -1
		}
	}
}

// summary counts, and gives times in microseconds.
func (m *measurement) summary() map[string]float64 {
	var good []time.Duration
	var lost, failed int
	for i := range m.took {
		switch t := m.took[i]; {
		case t == 0:
			lost++
		case t < 0:
			failed++
		default:
			good = append(good, t)
		}
	}
	slices.Sort(good)
	slices.Sort(m.lag)
	return map[string]float64{
		"sent": float64(len(m.took)), "lost": float64(lost), "failed": float64(failed),
		"p50": quantile(good, 0.5), "p99": quantile(good, 0.99), "p99.9": quantile(good, 0.999), "max": quantile(good, 1),
		"lag p99.9": quantile(m.lag, 0.999),
	}
}

// quantile returns the part q of sorted in microseconds; 0 if there is nothing.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]) / float64(time.Microsecond)
}
