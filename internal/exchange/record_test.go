package exchange

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/fareboxhq/farebox/internal/gate"
)

// fakeCallLog keeps the latest record.
type fakeCallLog struct {
	off    bool
	record *Record
}

func (f *fakeCallLog) Enabled() bool                    { return !f.off }
func (f *fakeCallLog) Log(_ context.Context, r *Record) { f.record = r }

// TestRecordOfARefusal checks that a request that is refused before the engine runs has
// a record without a price book's entry. If no record is wanted, the response writer is
// not wrapped, so that the request costs nothing more.
func TestRecordOfARefusal(t *testing.T) {
	for name, calls := range map[string]*fakeCallLog{"wanted": {}, "off": {off: true}, "none": nil} {
		x, w := exchangeFor(t, "")
		if calls != nil {
			x.site.Calls = calls
		}
		x.r.Header.Set("Mcp-Protocol-Version", "2099-01-01")
		x.openRecord()
		if wanted := name == "wanted"; (x.w != http.ResponseWriter(w)) != wanted {
			t.Errorf("%s: the writer is %T", name, x.w)
		}
		x.refuse(&gate.Refusal{Code: gate.StoreUnavailable, Cause: context.DeadlineExceeded})
		x.writeRecord()
		if name != "wanted" {
			if calls != nil && calls.record != nil {
				t.Errorf("%s: %+v", name, calls.record)
			}
			continue
		}
		r := calls.record
		if r.Decision != "STORE_UNAVAILABLE" || r.Code != gate.StoreUnavailable || r.Status != w.Code || r.BytesSent != int64(w.Body.Len()) || r.BytesSent == 0 ||
			r.Entry != "" || r.Account != "acct_1" || r.Ended != Complete || r.ProtocolVersion != "other" || r.Amount != nil || r.Upstream != 0 || r.Added != r.Duration {
			t.Errorf("%+v", r)
		}
	}
}

// TestSent checks that the status in a record is that of the final head. If the body is
// written without a head, the status is 200, as net/http sends it.
func TestSent(t *testing.T) {
	s := &sent{ResponseWriter: httptest.NewRecorder()}
	s.WriteHeader(http.StatusEarlyHints)
	if s.status != 0 {
		t.Errorf("the status of an informational head is %d", s.status)
	}
	s = &sent{ResponseWriter: httptest.NewRecorder()} // a new recorder, because a recorder keeps an informational head as if it were the final one
	if _, err := s.Write([]byte("text")); err != nil || s.status != http.StatusOK || s.size != 4 {
		t.Errorf("%d, %d, %v", s.status, s.size, err)
	}
	if err := http.NewResponseController(s).Flush(); err != nil {
		t.Errorf("the writer below cannot be flushed: %v", err)
	}
}
