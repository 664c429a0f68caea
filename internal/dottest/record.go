package dottest

import (
	"encoding/binary"
	"net"
	"sync"
)

// Types of TLS records (RFC 8446, section 5.1).
const (
	recordHandshake   = 22
	recordApplication = 23
	recordHeaderLen   = 5
)

// recorder notes what a client sends below TLS.
type recorder struct {
	net.Conn

	mu      sync.Mutex
	pending []byte
	hello   []byte // the first handshake record's payload
	records int    // of application data, handshake's Finished included
	sizes   []int  // of those, as they are encrypted
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, b[:n]...)
	for len(r.pending) >= recordHeaderLen {
		size := recordHeaderLen + int(binary.BigEndian.Uint16(r.pending[3:]))
		if len(r.pending) < size {
			break
		}
		switch r.pending[0] {
		case recordHandshake:
			if r.hello == nil {
				r.hello = append([]byte(nil), r.pending[recordHeaderLen:size]...)
			}
		case recordApplication:
			r.records++
			r.sizes = append(r.sizes, size-recordHeaderLen)
		}
		r.pending = r.pending[size:]
	}
	return n, err
}
