package cache

import (
	"bytes"
	"encoding/binary"
)

// A record is an entry in a ring: a header, the key and the value, padded to a multiple of
// 8 bytes. The header is, little endian:
//
//	0   uint32  length of the value; of a dead record, its size as a whole
//	4   uint16  length of the key
//	6   uint8   times acquired since stored, up to 255
//	7   uint8   flags
//	8   uint32  when it was stored, Unix time
//	12  uint32  lifetime in seconds
//
// A dead record may end after its first 8 bytes.
const (
	headerSize  = 16
	hitsOffset  = 6
	flagsOffset = 7
	maxKey      = 1<<16 - 1
	maxHits     = 255
)

const (
	// useMask holds the times the record was acquired, up to 3, less one for each
	// time that this saved it from eviction.
	useMask = 1<<2 - 1
	claimed = 1 << 2
	dead    = 1 << 3
)

// meta is what a header tells besides lengths.
type meta struct {
	stored, lifetime uint32
	hits, flags      uint8
}

func pad(n int) int { return (n + 7) &^ 7 }

// recordSize returns the size of the record for a key and a value of these lengths.
func recordSize(key, value int) int { return pad(headerSize + key + value) }

// sizeOf returns the size of the record at the start of b.
func sizeOf(b []byte) int {
	n := int(binary.LittleEndian.Uint32(b))
	if isDead(b) {
		return n
	}
	return recordSize(int(binary.LittleEndian.Uint16(b[4:])), n)
}

func isDead(b []byte) bool { return b[flagsOffset]&dead != 0 }

// kill makes b one dead record.
func kill(b []byte) {
	binary.LittleEndian.PutUint64(b, uint64(len(b))|dead<<(8*flagsOffset))
}

func writeRecord(b, key, value []byte, m meta) {
	binary.LittleEndian.PutUint32(b, uint32(len(value)))
	binary.LittleEndian.PutUint16(b[4:], uint16(len(key)))
	b[hitsOffset] = m.hits
	b[flagsOffset] = m.flags
	binary.LittleEndian.PutUint32(b[8:], m.stored)
	binary.LittleEndian.PutUint32(b[12:], m.lifetime)
	copy(b[headerSize:], key)
	copy(b[headerSize+len(key):], value)
}

func readMeta(b []byte) meta {
	return meta{
		stored:   binary.LittleEndian.Uint32(b[8:]),
		lifetime: binary.LittleEndian.Uint32(b[12:]),
		hits:     b[hitsOffset],
		flags:    b[flagsOffset],
	}
}

func recordKey(b []byte) []byte {
	return b[headerSize:][:binary.LittleEndian.Uint16(b[4:])]
}

func recordValue(b []byte) []byte {
	n := binary.LittleEndian.Uint32(b)
	return b[headerSize+int(binary.LittleEndian.Uint16(b[4:])):][:n:n]
}

// hasKey reports whether the live record at the start of b is key's.
func hasKey(b, key []byte) bool {
	return int(binary.LittleEndian.Uint16(b[4:])) == len(key) && bytes.Equal(b[headerSize:][:len(key)], key)
}
