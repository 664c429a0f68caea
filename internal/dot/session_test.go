package dot_test

import (
	"testing"

	"dnsproxy/internal/dottest"
)

func TestSendAnswersOverOneSession(t *testing.T) {
	restingGoroutines(t)
	s := dottest.New(t)
	c := newClient(t, s.Endpoint())
	for _, name := range names(5) {
		mustAnswer(t, c, name)
	}
	if st := s.Stats(); st.Connections != 1 || st.Queries != 5 || st.NotPadded != 0 {
		t.Errorf("server counted %+v, want 5 padded queries on 1 connection", st)
	}
}

func TestSendPipelinesAThousandQueries(t *testing.T) {
	s := dottest.New(t)
	c := newClient(t, s.Endpoint())
	if failed := failures(sendAll(t, c, names(1000))); len(failed) > 0 {
		t.Fatalf("%d failed, the first: %v", len(failed), failed[0])
	}
	if st := s.Stats(); st.Connections != 1 || st.Queries != 1000 || st.Duplicates != 0 {
		t.Errorf("server counted %+v, want 1000 queries, no duplicates, 1 connection", st)
	}
}
