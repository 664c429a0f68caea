package cache_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"dnsproxy/internal/cache"
)

// name returns the i-th key of 25 bytes.
func name(dst []byte, i int) []byte {
	return fmt.Appendf(dst, "host%013d.example", i)
}

func get(c *cache.Cache, key []byte) (value []byte, ok bool) {
	e, ok := c.Acquire(key)
	if !ok {
		return nil, false
	}
	defer e.Release()
	return bytes.Clone(e.Value), true
}

func TestPutThenAcquire(t *testing.T) {
	for _, tt := range []struct {
		name       string
		key, value string
		stored     int64
		lifetime   time.Duration
		wantStored int64
		wantLife   time.Duration
	}{
		{"answer", "example.", "192.0.2.1", 1_700_000_000, 300 * time.Second, 1_700_000_000, 300 * time.Second},
		{"empty key", "", "root", 1, time.Second, 1, time.Second},
		{"empty value", "a.", "", 1, time.Second, 1, time.Second},
		{"both empty", "", "", 1, 0, 1, 0},
		{"part of a second", "b.", "x", 1, 1999 * time.Millisecond, 1, time.Second},
		{"negative times", "c.", "x", -5, -time.Hour, 0, 0},
		{"longest lifetime", "d.", "x", 1, (1<<32 - 1) * time.Second, 1, (1<<32 - 1) * time.Second},
		{"lifetime beyond bound", "e.", "x", 1, (1<<32 + 7) * time.Second, 1, (1<<32 - 1) * time.Second},
		{"time beyond bound", "f.", "x", 1 << 40, time.Second, 1<<32 - 1, time.Second},
		{"longest message", "g.", strings.Repeat("x", 65535), 1, time.Second, 1, time.Second},
		{"long key", strings.Repeat("k", 65535), "x", 1, time.Second, 1, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := cache.New(1 << 20)
			c.Put([]byte(tt.key), []byte(tt.value), tt.stored, tt.lifetime)
			e, ok := c.Acquire([]byte(tt.key))
			if !ok {
				t.Fatal("not found")
			}
			defer e.Release()
			if string(e.Value) != tt.value || e.Stored != tt.wantStored || e.Lifetime != tt.wantLife || e.Hits != 1 {
				t.Errorf("got %d bytes, stored %d, lifetime %v, hits %d", len(e.Value), e.Stored, e.Lifetime, e.Hits)
			}
		})
	}
}

func TestAcquireOfUnknown(t *testing.T) {
	c := cache.New(1 << 20)
	if _, ok := c.Acquire([]byte("x")); ok {
		t.Error("found in an empty cache")
	}
	c.Put([]byte("x"), []byte("1"), 1, time.Second)
	for _, key := range []string{"", "X", "x\x00", "y", "xx"} {
		if _, ok := c.Acquire([]byte(key)); ok {
			t.Errorf("found %q", key)
		}
	}
}

func TestZeroKeepsNothing(t *testing.T) {
	for _, size := range []int64{0, -1, 100} {
		c := cache.New(size)
		c.Put([]byte("x"), []byte("1"), 1, time.Second)
		if _, ok := c.Acquire([]byte("x")); ok {
			t.Errorf("cache of %d bytes kept something", size)
		}
		if n := c.Remove(func([]byte) bool { return true }); n != 0 {
			t.Errorf("cache of %d bytes removed %d", size, n)
		}
		if s := c.Stats(); s.Entries != 0 || s.Bytes != 0 {
			t.Errorf("cache of %d bytes: %+v", size, s)
		}
	}
}

func TestTooLargeRemovesWhatWasThere(t *testing.T) {
	c := cache.New(64 << 10)
	key := []byte("x")
	for _, tt := range []struct{ key, value []byte }{
		{key, make([]byte, 64<<10)},
		{key, make([]byte, 6<<10)},
		{bytes.Repeat(key, 1<<16), nil},
	} {
		c.Put(tt.key, []byte("1"), 1, time.Second)
		c.Put(tt.key, tt.value, 1, time.Second)
		if _, ok := c.Acquire(tt.key); ok {
			t.Errorf("key of %d bytes, value of %d: found", len(tt.key), len(tt.value))
		}
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

func TestPutReplaces(t *testing.T) {
	c := cache.New(1 << 20)
	key := []byte("example.")
	for _, n := range []int{60, 60, 61, 10, 0, 2000, 1999, 1000, 5000} {
		value := bytes.Repeat([]byte{byte(n)}, n)
		c.Put(key, value, int64(n), time.Duration(n)*time.Second)
		for hits := range 3 {
			e, ok := c.Acquire(key)
			if !ok {
				t.Fatalf("%d bytes: not found", n)
			}
			if !bytes.Equal(e.Value, value) || e.Stored != int64(n) || e.Lifetime != time.Duration(n)*time.Second {
				t.Errorf("%d bytes: got %d, %+v", n, len(e.Value), e)
			}
			if e.Hits != hits+1 {
				t.Errorf("%d bytes: got %d hits, want %d since it was stored", n, e.Hits, hits+1)
			}
			e.Release()
		}
		if s := c.Stats(); s.Entries != 1 {
			t.Errorf("%d bytes: %d entries", n, s.Entries)
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHitsStopAtABound(t *testing.T) {
	c := cache.New(1 << 20)
	c.Put([]byte("x"), nil, 1, 0)
	for i := range 1000 {
		e, _ := c.Acquire([]byte("x"))
		if want := min(i+1, 255); e.Hits != want {
			t.Fatalf("got %d hits, want %d", e.Hits, want)
		}
		e.Release()
	}
}

func TestClaimRefreshOnce(t *testing.T) {
	c := cache.New(1 << 20)
	key := []byte("x")
	for round := range 3 {
		c.Put(key, make([]byte, 10*(round+1)), 1, time.Second)
		for i := range 4 {
			e, _ := c.Acquire(key)
			if got := e.ClaimRefresh(); got != (i == 0) {
				t.Errorf("value %d, claim %d: got %t", round, i, got)
			}
			if e.ClaimRefresh() {
				t.Errorf("value %d, claim %d: claimed twice on one loan", round, i)
			}
			e.Release()
		}
	}
}

func TestRemove(t *testing.T) {
	c := cache.New(4 << 20)
	for i := range 1000 {
		c.Put(name(nil, i), []byte{1}, 1, time.Second)
	}
	odd := func(key []byte) bool { return key[16]%2 == 1 }
	if n := c.Remove(odd); n != 500 {
		t.Errorf("removed %d, want 500", n)
	}
	if n := c.Remove(odd); n != 0 {
		t.Errorf("removed %d again", n)
	}
	for i := range 1000 {
		if _, ok := get(c, name(nil, i)); ok != (i%2 == 0) {
			t.Fatalf("key %d: found %t", i, ok)
		}
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if n := c.Remove(func([]byte) bool { return true }); n != 500 {
		t.Errorf("removed %d, want 500", n)
	}
	empty := cache.New(4 << 20).Stats().Bytes
	if s := c.Stats(); s.Entries != 0 || s.Bytes != empty || s.Evictions != 0 {
		t.Errorf("got %+v, want the bytes of an empty cache, %d", s, empty)
	}
	c.Put([]byte("x"), []byte("1"), 1, time.Second)
	if _, ok := get(c, []byte("x")); !ok {
		t.Error("not found after flush")
	}
}

// A cache that is large enough is a map.
func TestEqualsMapWhileNothingIsEvicted(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := cache.New(32 << 20)
	model := map[string]string{}
	for range 100_000 {
		key := name(nil, rng.IntN(5000))
		switch rng.IntN(10) {
		case 0, 1, 2, 3:
			value := make([]byte, rng.IntN(300))
			for i := range value {
				value[i] = byte(rng.Uint32())
			}
			c.Put(key, value, 1, time.Second)
			model[string(key)] = string(value)
		case 4:
			if rng.IntN(1000) == 0 {
				digit := byte('0' + rng.IntN(10))
				match := func(key []byte) bool { return key[16] == digit }
				want := 0
				for k := range model {
					if match([]byte(k)) {
						want++
						delete(model, k)
					}
				}
				if n := c.Remove(match); n != want {
					t.Fatalf("removed %d, want %d", n, want)
				}
			}
		default:
			got, ok := get(c, key)
			want, wantOK := model[string(key)]
			if ok != wantOK || string(got) != want {
				t.Fatalf("%s: got %x, %t, want %x, %t", key, got, ok, want, wantOK)
			}
		}
	}
	if s := c.Stats(); s.Evictions != 0 || s.Entries != len(model) {
		t.Errorf("got %+v, want %d entries", s, len(model))
	}
}

// operate reads operations from script and checks each against a map: the cache may forget,
// but never says anything that was not the last thing put, nor takes more than its bound.
func operate(t *testing.T, script []byte) {
	t.Helper()
	maxBytes := int64(1<<10) << (next(&script) % 11)
	c := cache.New(maxBytes)
	type entry struct {
		value  string
		stored int64
	}
	model := map[string]entry{}
	for step := 0; len(script) > 0; step++ {
		op := next(&script)
		key := bytes.Repeat([]byte{next(&script) % 64}, int(op>>4))
		switch op % 16 {
		case 0:
			digit := byte(len(script))
			for k := range model {
				if strings.HasPrefix(k, string(digit%64)) {
					delete(model, k)
				}
			}
			c.Remove(func(key []byte) bool { return len(key) > 0 && key[0] == digit%64 })
		case 1:
			maxBytes = int64(1<<10) << (next(&script) % 11)
			c.Resize(maxBytes)
		case 2, 3, 4, 5, 6, 7, 8:
			size := int(next(&script))
			if op%16 == 8 {
				size *= int(next(&script))
			}
			value := bytes.Repeat([]byte{byte(step)}, size)
			c.Put(key, value, int64(step), time.Second)
			model[string(key)] = entry{string(value), int64(step)}
		default:
			if e, ok := c.Acquire(key); ok {
				want, known := model[string(key)]
				if !known || string(e.Value) != want.value || e.Stored != want.stored {
					t.Fatalf("step %d: got %d bytes stored at %d, want %d at %d, known: %t",
						step, len(e.Value), e.Stored, len(want.value), want.stored, known)
				}
				e.Release()
			}
		}
		if s := c.Stats(); s.Bytes > maxBytes || s.Entries > len(model) {
			t.Fatalf("step %d: %+v, bound %d, model has %d", step, s, maxBytes, len(model))
		}
		if err := c.Check(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
}

func next(script *[]byte) byte {
	if len(*script) == 0 {
		return 0
	}
	b := (*script)[0]
	*script = (*script)[1:]
	return b
}

func TestOperations(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 0))
		script := make([]byte, 4000)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		script[0] = byte(seed)
		if seed%2 == 0 {
			// Fewer changes of size, so that the rings go round.
			for i := 1; i < len(script); i++ {
				if script[i]%16 < 2 && rng.IntN(100) > 0 {
					script[i] += 4
				}
			}
		}
		operate(t, script)
	}
}

func FuzzOperations(f *testing.F) {
	f.Add([]byte{3, 0x12, 1, 50, 0x19, 1, 0x11, 1, 1, 0x19, 1})
	f.Add(binary.BigEndian.AppendUint64(nil, 0x0518_08ff_ff18_09ff))
	f.Fuzz(operate)
}

// A record in a ring that goes round keeps its bytes, whatever sizes its neighbours have.
func TestContentsSurviveManyRounds(t *testing.T) {
	for _, maxBytes := range []int64{2 << 10, 5000, 16 << 10, 100_000, 1 << 20, 3 << 20} {
		rng := rand.New(rand.NewPCG(7, 7))
		c := cache.New(maxBytes)
		largest := int(maxBytes / 20)
		pattern := make([]byte, largest+256)
		for i := range pattern {
			pattern[i] = byte(i)
		}
		rounds := min(150_000, int(maxBytes))
		for i := range rounds {
			id := rng.IntN(int(maxBytes / 40))
			key := name(nil, id)
			if e, ok := c.Acquire(key); ok {
				if !bytes.Equal(e.Value, pattern[id%256:][:len(e.Value)]) {
					t.Fatalf("bound %d, step %d: value of key %d is wrong", maxBytes, i, id)
				}
				e.Release()
				if rng.IntN(3) > 0 {
					continue
				}
			}
			size := rng.IntN(60)
			if rng.IntN(10) == 0 {
				size = rng.IntN(largest)
			}
			c.Put(key, pattern[id%256:][:size], int64(i), time.Second)
			if i%1997 != 0 {
				continue
			}
			if s := c.Stats(); s.Bytes > maxBytes {
				t.Fatalf("bound %d, step %d: %d bytes", maxBytes, i, s.Bytes)
			}
			if err := c.Check(); err != nil {
				t.Fatalf("bound %d, step %d: %v", maxBytes, i, err)
			}
		}
		// An entry takes up to a twentieth of the bound here, so that the rings may have wide gaps.
		if s := c.Stats(); s.Evictions == 0 || s.Bytes < maxBytes*3/4 {
			t.Errorf("bound %d: the cache did not fill: %+v", maxBytes, s)
		}
	}
}
