package histogram_test

import (
	"math"
	"testing"
	"time"

	"dnsproxy/internal/histogram"
)

func TestQuantilesAreRightWithinAQuarter(t *testing.T) {
	for _, d := range []time.Duration{0, 500, time.Microsecond, 3 * time.Microsecond, 33 * time.Microsecond, 20 * time.Millisecond, time.Second, 8 * time.Second} {
		var l histogram.Live
		l.Add(d, 10)
		h := l.Snapshot()
		for _, p := range []float64{0.01, 0.5, 0.99, 1} {
			if q := h.Quantile(p); math.Abs(float64(q-d)) > float64(d)/4+1024 {
				t.Errorf("quantile %v of %v is %v", p, d, q)
			}
		}
		if h.Count() != 10 || h.Sum != 10*d {
			t.Errorf("%v: %d counted, %v in all", d, h.Count(), h.Sum)
		}
	}
}

func TestPowersOfTwoAreExact(t *testing.T) {
	var l histogram.Live
	for k := 10; k <= 33; k++ {
		l.Add(1<<k-1, 1)
		l.Add(1<<k, 1)
	}
	h := l.Snapshot()
	for k := 10; k <= 33; k++ {
		if got, want := h.AtMost(1<<k), uint64(2*(k-10)+1); got != want {
			t.Errorf("at most 2^%d ns: %d, want %d", k, got, want)
		}
	}
}

func TestWhatIsBeyondTheBucketsIsCounted(t *testing.T) {
	var l histogram.Live
	l.Add(-time.Second, 1)
	l.Add(time.Hour, 1)
	h := l.Snapshot()
	if h.Count() != 2 || h.AtMost(time.Microsecond*2) != 1 {
		t.Errorf("%d counted, %d short", h.Count(), h.AtMost(time.Microsecond*2))
	}
	if h.AtMost(time.Minute) != 1 {
		t.Error("an hour was counted as a minute at most")
	}
	if q := h.Quantile(1); q < 8*time.Second {
		t.Errorf("the longest is %v", q)
	}
}

func TestPlusAndSince(t *testing.T) {
	var l histogram.Live
	l.Add(time.Millisecond, 3)
	before := l.Snapshot()
	l.Add(time.Second, 2)
	after := l.Snapshot()
	diff := after.Since(before)
	if diff.Count() != 2 || diff.Sum != 2*time.Second {
		t.Errorf("since: %d, %v", diff.Count(), diff.Sum)
	}
	if sum := diff.Plus(before); sum != after {
		t.Errorf("plus: %v, want %v", sum, after)
	}
}

func TestEmpty(t *testing.T) {
	var h histogram.Histogram
	if h.Quantile(0.99) != 0 || h.Count() != 0 {
		t.Error("something in nothing")
	}
}

func BenchmarkAdd(b *testing.B) {
	var l histogram.Live
	for b.Loop() {
		l.Add(20*time.Microsecond, 3)
	}
}
