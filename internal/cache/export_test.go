package cache

import (
	"bytes"
	"fmt"
	"hash/maphash"
)

// Check returns an error if a shard's rings, index and counters do not agree.
func (c *Cache) Check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.table.Load()
	for i := range t.shards {
		if err := t.shards[i].check(); err != nil {
			return fmt.Errorf("shard %d: %w", i, err)
		}
	}
	return nil
}

func (s *shard) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := 0
	for _, r := range []*ring{&s.small, &s.main} {
		n, size := 0, 0
		var err error
		r.each(s.mem, func(at int, rec []byte) {
			size += len(rec)
			if len(rec)%8 != 0 || at < r.base || at+len(rec) > r.base+r.touched {
				err = fmt.Errorf("record of %d bytes at %d outside of ring at %d", len(rec), at, r.base)
			}
			if isDead(rec) {
				return
			}
			n++
			key := recordKey(rec)
			if found, ok := s.find(key, maphash.Bytes(s.seed, key)); !ok || found != at {
				err = fmt.Errorf("record at %d: the index has it at %d, %t", at, found, ok)
			}
		})
		if err != nil {
			return err
		}
		if n != r.live || size != r.used || r.used > r.size || r.touched > r.size {
			return fmt.Errorf("ring %+v has %d records in %d bytes", *r, n, size)
		}
		live += n
	}
	slots := 0
	for i := range s.index.n {
		if s.index.slot(i) != 0 {
			slots++
		}
	}
	if slots != live || s.index.used != live || s.index.n > s.index.max {
		return fmt.Errorf("%d records, %d slots in use, counted as %d", live, slots, s.index.used)
	}
	if len(bytes.Trim(s.index.spare, "\x00")) > 0 {
		return fmt.Errorf("spare index is not zero")
	}
	return nil
}
