package dot_test

import (
	"testing"
	"testing/synctest"
	"time"

	"dnsproxy/internal/dot"
	"dnsproxy/internal/dottest"
)

// A resumed session has the certificates of the handshake that its ticket stems from, so that
// one which the upstream has renewed meanwhile is seen by a full handshake alone.
func TestRenewedCertificateIsSeenWithinAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		s := dottest.New(t, dottest.InMemory(), dottest.WithAction(soon(dottest.Answer)))
		old, renewed := time.Now().Add(2*time.Hour), time.Now().Add(20*time.Hour)
		s.Present(s.CA().Issue(dottest.Leaf{NotBefore: time.Now().Add(-20 * time.Hour), NotAfter: old}))
		c := dot.NewClient(s.Endpoint(), log.logger())
		defer c.Close()
		reopen := func(name string) *dot.Session {
			t.Helper()
			s.CloseAll()
			synctest.Wait()
			mustAnswer(t, c, name)
			return c.Stats().Session
		}
		mustAnswer(t, c, "first.example")
		s.KeepTickets(s.CA().Issue(dottest.Leaf{NotAfter: renewed}))
		for range 5 {
			time.Sleep(10 * time.Minute)
			if got := reopen("resumed.example"); !got.Resumed || !got.NotAfter.Equal(old.Truncate(time.Second)) {
				t.Errorf("resumed: %v, ends %v; want %v", got.Resumed, got.NotAfter, old)
			}
		}
		time.Sleep(11 * time.Minute)
		if got := reopen("full.example"); got.Resumed || !got.NotAfter.Equal(renewed.Truncate(time.Second)) {
			t.Errorf("after an hour: resumed: %v, ends %v; want %v", got.Resumed, got.NotAfter, renewed)
		}
		if got := reopen("again.example"); !got.Resumed {
			t.Error("sessions are not resumed any more")
		}
		for _, line := range []string{"certificate ends soon", "certificate renewed"} {
			if n := log.count(line); n != 1 {
				t.Errorf("%q is told %d times, want once:\n%s", line, n, &log)
			}
		}
	})
}
