package cache

import "encoding/binary"

const (
	ghostBucket = 16 // bytes
	ghostSize   = 2  // bytes a fingerprint
)

// ghost remembers 16 bits of the hashes of entries that left lately. It is a table of
// buckets of 8, each of which forgets its oldest first. A key that was never seen is
// taken for a known one in 8 cases of 65,536 at the most.
type ghost struct {
	mem []byte // as many fingerprints as the index may have slots
	on  bool   // whether anything was ever added
}

// bucket returns the bucket for hash in a table that goes with an index of n slots. While
// the index grows, what was remembered is lost.
func (g *ghost) bucket(hash uint64, n int) []byte {
	buckets := n * ghostSize / ghostBucket
	if buckets == 0 {
		return nil
	}
	i := int(uint64(uint32(hash)) * uint64(buckets) >> 32)
	return g.mem[i*ghostBucket:][:ghostBucket]
}

// fingerprint uses bits that choose neither the shard nor the bucket, and is never 0.
func fingerprint(hash uint64) uint16 { return max(1, uint16(hash>>32)) }

func (g *ghost) add(hash uint64, n int) {
	b := g.bucket(hash, n)
	if b == nil {
		return
	}
	g.on = true
	copy(b[ghostSize:], b)
	binary.LittleEndian.PutUint16(b, fingerprint(hash))
}

// take reports whether hash is remembered, and forgets it.
func (g *ghost) take(hash uint64, n int) bool {
	if !g.on {
		return false
	}
	b := g.bucket(hash, n)
	for i := 0; i < len(b); i += ghostSize {
		if binary.LittleEndian.Uint16(b[i:]) == fingerprint(hash) {
			binary.LittleEndian.PutUint16(b[i:], 0)
			return true
		}
	}
	return false
}

func (g *ghost) bytes(n int) int {
	if !g.on {
		return 0
	}
	return n * ghostSize
}
