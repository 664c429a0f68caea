package probe

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/wire"
)

// burstNames are asked for at once, with type SOA. Everybody asks for names below
// them, so that they tell nothing. The first are likely to be unknown to an upstream's
// cache, and the last likely to be known: an upstream that can answer out of order will.
const burstNames = "aq. bv. cx. dj. er. fk. gq. ht. ki. lr. mh. nr. pn. sj. tk. va. net. org. com. ."

func burstQuestions() (questions []dns.Question) {
	for name := range strings.FieldsSeq(burstNames) {
		questions = append(questions, dns.Question{Name: name, Qtype: dns.TypeSOA, Qclass: dns.ClassINET})
	}
	return questions
}

// answer is one that came.
type answer struct {
	id  int // of the query, from 0
	msg []byte
	q   wire.Query
}

// ask sends one query, for the root's name servers, which every resolver knows.
func (i *inspection) ask(conn *tls.Conn) error {
	began := time.Now()
	got, err := i.exchange(conn, []dns.Question{{Name: ".", Qtype: dns.TypeNS, Qclass: dns.ClassINET}})
	if err != nil {
		return err
	}
	i.found.Times.Answer = seconds(time.Since(began))
	i.found.Answers = describe(got[0])
	return nil
}

// describe says what an answer tells of who gave it.
func describe(a answer) *Answers {
	out := &Answers{Octets: len(a.msg)}
	if units, ok := wire.Keepalive(a.msg, a.q); ok {
		announced := seconds(time.Duration(units) * 100 * time.Millisecond) // RFC 7828, section 3.1
		out.Keepalive = &announced
	}
	m := new(dns.Msg)
	if m.Unpack(a.msg) != nil { // what the daemon relays all the same
		m.Rcode = int(a.msg[3] & 0xf)
	}
	if out.RCode = dns.RcodeToString[m.Rcode]; out.RCode == "" {
		out.RCode = fmt.Sprintf("RCODE%d", m.Rcode)
	}
	if opt := m.IsEdns0(); opt != nil {
		out.Padded = slices.ContainsFunc(opt.Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0PADDING })
	}
	return out
}

// burst sends many queries at once. That not all are answered is no reason for the daemon to
// refuse the upstream, but that none is.
func (i *inspection) burst(conn *tls.Conn) error {
	questions := burstQuestions()
	began := time.Now()
	got, err := i.exchange(conn, questions)
	a := i.found.Answers
	a.Burst, a.Answered = len(questions), len(got)
	a.OutOfOrder = !slices.IsSortedFunc(got, func(a, b answer) int { return a.id - b.id })
	if err == nil {
		i.found.Times.Burst = seconds(time.Since(began))
		return nil
	}
	if len(got) == 0 || dot.ReasonOf(err) == dot.Protocol {
		return err
	}
	a.BurstError = causeOf(err)
	return nil
}

// exchange sends queries as the daemon does, in one write, and returns the answers in the order that they
// came in, all unless there is an error.
func (i *inspection) exchange(conn *tls.Conn, questions []dns.Question) (got []answer, err error) {
	var out []byte
	sent := make([]wire.Query, len(questions))
	for id, question := range questions {
		if sent[id], err = queryFor(question); err != nil {
			return nil, err
		}
		begin := len(out)
		// edns-tcp-keepalive on the first query of each session (RFC 7828, section 3.2.1).
		out = wire.AppendUpstream(out, sent[id], uint16(id+1), id == 0)
		if sent[id], err = wire.ParseQuery(slices.Clone(out[begin+2:])); err != nil {
			return nil, err
		}
	}
	_ = conn.SetDeadline(time.Now().Add(i.timeout))
	if _, err := conn.Write(out); err != nil {
		return nil, i.failed(err)
	}
	due := slices.Repeat([]bool{true}, len(questions))
	for range questions {
		msg, err := read(conn)
		if err != nil {
			return got, i.failed(err)
		}
		id := int(binary.BigEndian.Uint16(msg)) - 1
		if id < 0 || id >= len(due) || !due[id] {
			return got, i.errorf(dot.Protocol, errors.New("sent a response that nobody asked for"))
		}
		due[id] = false
		if _, err := wire.ParseResponse(msg, sent[id]); err != nil {
			return got, i.errorf(dot.Protocol, err)
		}
		got = append(got, answer{id, msg, sent[id]})
	}
	return got, nil
}

// queryFor returns a client's query.
func queryFor(question dns.Question) (wire.Query, error) {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{RecursionDesired: true}, Question: []dns.Question{question}}
	b, err := m.Pack()
	if err != nil {
		return wire.Query{}, err
	}
	return wire.ParseQuery(b)
}

// headerLen is the size of a message's header (RFC 1035, section 4.1.1).
const headerLen = 12

var errShort = errors.New("sent a message that is shorter than its header")

// read reads one message behind its length (RFC 1035, section 4.2.2).
func read(conn net.Conn) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	if len(msg) < headerLen {
		return nil, errShort
	}
	if _, err := io.ReadFull(conn, msg); err != nil {
		return nil, err
	}
	return msg, nil
}

func (i *inspection) errorf(reason dot.Reason, err error) error {
	return &dot.Error{Reason: reason, Upstream: i.e.Upstream, Addr: i.e.Addr, Err: err}
}

// failed puts an error of reading or writing into words.
func (i *inspection) failed(err error) error {
	switch {
	case errors.Is(err, errShort):
		return i.errorf(dot.Protocol, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return i.errorf(dot.Timeout, fmt.Errorf("no answer within %v", i.timeout))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return i.errorf(dot.Closed, errors.New("closed the session instead of answering"))
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return i.errorf(dot.Reset, errors.New("reset the session instead of answering"))
	default:
		return i.errorf(dot.Other, err)
	}
}
