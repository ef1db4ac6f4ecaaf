package platform

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/wire"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestLookup checks that a gateway gets a key by its digest from the store, and a
// refusal for an unknown digest.
func TestLookup(t *testing.T) {
	s := newSite(t)
	digest := keys.DigestOf(s.secrets["agent"])
	key := do[wire.Key](s, 200, "gateway", "POST", "/keys/lookup", wire.Lookup{Digest: hex.EncodeToString(digest[:])})
	if key.ID != s.ids["agent"] || key.Kind != "agent" || key.Account != s.accounts["alice"] {
		t.Errorf("%+v", key)
	}
	s.refused(404, wire.NotFound, "gateway", "POST", "/keys/lookup", wire.Lookup{Digest: strings.Repeat("0", 64)})
	s.refused(422, wire.Invalid, "gateway", "POST", "/keys/lookup", wire.Lookup{Digest: strings.Repeat("x", 64)})
}

// nameless is a store that fails to return account names.
type nameless struct{ Store }

func (nameless) AccountNames(context.Context, []string) (map[string]string, error) {
	return nil, ledger.ErrUnavailable
}

// TestLookupWithoutName checks that a lookup succeeds even if the account's name is
// not available, because the name is used only in texts.
func TestLookupWithoutName(t *testing.T) {
	s := newSite(t)
	s.platform.o.Store = nameless{s.platform.o.Store}
	digest := keys.DigestOf(s.secrets["agent"])
	key := do[wire.Key](s, 200, "gateway", "POST", "/keys/lookup", wire.Lookup{Digest: hex.EncodeToString(digest[:])})
	if key.ID != s.ids["agent"] || key.AccountName != "" {
		t.Errorf("%+v", key)
	}
}

// TestGatewaySettles checks that a gateway can reserve, renew and capture a call. The
// platform, not the gateway, determines the fee and the account that is paid. Repeating
// a step changes nothing.
func TestGatewaySettles(t *testing.T) {
	s := newSite(t)
	o := s.order("agent")
	path := "/reservations/" + o.ID
	for range 2 {
		if r := do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", o); r.Balance.Reserved != 100_000 {
			t.Errorf("%+v", r)
		}
	}
	do[ops.None](s, 204, "gateway", "POST", path+"/renew", nil)
	for range 2 {
		c := do[wire.Captured](s, 200, "gateway", "POST", path+"/capture", wire.Capture{Order: &o})
		if c.Charge.Provider != s.accounts["acme"] || c.Charge.Fee != 2_500 || c.Charge.FeeTo != s.accounts["operator"] || c.Charge.State != "captured" || c.Balance.Posted != 9_900_000 {
			t.Errorf("%+v", c)
		}
	}
	s.refused(409, wire.Settled, "gateway", "DELETE", path, nil)
	s.refused(409, wire.Settled, "gateway", "POST", path+"/renew", nil)

	for _, amount := range []ledger.Amount{0, -1} { // an amount of zero must not stand for "all that is left"
		s.refused(422, wire.Invalid, "gateway", "POST", path+"/refund", OwnRefund{Amount: new(amount), Reason: "r"})
	}
	refund := wire.Refund{ID: ids.New("txn_"), Reason: "the result was not delivered"}
	for range 2 {
		r := do[wire.Refunded](s, 200, "gateway", "POST", "/reservations/"+o.ID+"/refund", refund)
		if r.ID != refund.ID || r.Amount != 100_000 || r.Charge != o.ID {
			t.Errorf("%+v", r)
		}
	}
	refund.ID = ids.New("txn_")
	s.refused(409, wire.Settled, "gateway", "POST", "/reservations/"+o.ID+"/refund", refund)
	rows, _, err := s.store.AuditLog(t.Context(), ledger.AuditFilter{Page: ledger.Page{Limit: 1}})
	if err != nil || len(rows) != 1 || rows[0].Actor != s.ids["gateway"] || rows[0].Action != "charge.refund" || rows[0].Target != o.ID || rows[0].From != "192.0.2.1" {
		t.Errorf("audit %+v, %v", rows, err)
	}
	if got := s.available("alice", false); got != "10.00" {
		t.Errorf("alice has %s", got)
	}

	released := s.order("agent")
	do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", released)
	do[ops.None](s, 204, "gateway", "DELETE", "/reservations/"+released.ID, nil)
	s.refused(409, wire.Settled, "gateway", "POST", "/reservations/"+released.ID+"/capture", wire.Capture{})
}

// TestCaptureWithoutReservation checks that a capture without a known reservation
// makes a charge under the same id, if the request contains the order and the order
// could be reserved now.
func TestCaptureWithoutReservation(t *testing.T) {
	s := newSite(t)
	o := s.order("agent")
	path := "/reservations/" + o.ID + "/capture"
	s.refused(404, wire.NotFound, "gateway", "POST", path, wire.Capture{})
	s.refused(404, wire.NotFound, "gateway", "DELETE", "/reservations/"+o.ID, nil)
	s.refused(409, wire.Settled, "gateway", "POST", path, wire.Capture{Order: &o}) // a released reservation can no longer be captured
	o = s.order("agent")
	path = "/reservations/" + o.ID + "/capture"
	for i := range 2 {
		if c := do[wire.Captured](s, 200, "gateway", "POST", path, wire.Capture{Order: &o}); c.Charge.ID != o.ID || c.Balance.Posted != 9_900_000 || c.Made != (i == 0) {
			t.Errorf("%+v", c)
		}
	}
	late := s.order("agent")
	do[any](s, 200, "admin", "DELETE", "/keys/"+s.ids["agent"], nil)
	s.refused(401, wire.TokenInvalid, "gateway", "POST", "/reservations/"+late.ID+"/capture", wire.Capture{Order: &late})
	if c := do[wire.Captured](s, 200, "gateway", "POST", path, wire.Capture{Order: &o}); c.Made { // a repetition returns the first outcome
		t.Errorf("%+v", c)
	}
	other := o
	other.Amount = 5
	s.refused(409, wire.Conflict, "gateway", "POST", path, wire.Capture{Order: &other})
	other = s.order("agent")
	s.refused(422, wire.Invalid, "gateway", "POST", path, wire.Capture{Order: &other})
	s.refused(401, wire.TokenInvalid, "gateway", "POST", "/reservations", s.order("agent"))
}

// TestGatewayStaysAtItsServers checks that no caller can settle, refund or see
// charges at servers that are not its own.
func TestGatewayStaysAtItsServers(t *testing.T) {
	s := newSite(t)
	o := s.order("agent")
	do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", o)
	for _, foreign := range []string{"mail gateway", "bare gateway", "rival"} {
		s.refused(404, wire.NotFound, foreign, "POST", "/reservations/"+o.ID+"/renew", nil)
		s.refused(404, wire.NotFound, foreign, "POST", "/reservations/"+o.ID+"/capture", wire.Capture{})
		s.refused(404, wire.NotFound, foreign, "DELETE", "/reservations/"+o.ID, nil)
		s.refused(403, wire.ServerForbidden, foreign, "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Order: &o})
		if foreign != "rival" {
			s.refused(403, wire.ServerForbidden, foreign, "POST", "/reservations", o)
			s.refused(404, wire.NotFound, foreign, "POST", "/reservations/"+o.ID+"/refund", wire.Refund{ID: ids.New("txn_"), Reason: "r"})
		}
	}
	unknown := s.order("agent")
	unknown.Server = "nowhere"
	s.refused(403, wire.ServerForbidden, "gateway", "POST", "/reservations", unknown)
	// Both before and after the capture, a gateway that uses the id of another gateway's
	// reservation learns only that the id is taken.
	mine := s.orderBy("mail gateway", "mail", "agent")
	mine.ID = o.ID
	s.refused(409, wire.Conflict, "mail gateway", "POST", "/reservations", mine)
	s.refused(409, wire.Conflict, "mail gateway", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Order: &mine})
	do[wire.Captured](s, 200, "gateway", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{})
	s.refused(409, wire.Conflict, "mail gateway", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Order: &mine})
}

// TestGatewayDoesNotSetWhoEarns checks that a gateway can choose neither the account
// that earns nor the account that pays. It cannot choose the caps of the key either.
func TestGatewayDoesNotSetWhoEarns(t *testing.T) {
	s := newSite(t)
	for _, member := range []string{`"provider":"acct_1"`, `"fee":"0.00"`, `"fee_to":"acct_1"`, `"account":"acct_1"`, `"lineage":"key_1"`, `"test":true`} {
		text, err := json.Marshal(s.order("agent"))
		if err != nil {
			t.Fatal(err)
		}
		p := s.refused(422, wire.Invalid, "gateway", "POST", "/reservations", strings.TrimSuffix(string(text), "}")+","+member+"}")
		if !strings.HasPrefix(p.Field, "body.") {
			t.Errorf("%+v", p)
		}
	}
	capped := s.order("capped agent")
	capped.Caps.Call = 5_000_000
	p := s.refused(402, wire.SpendingCap, "gateway", "POST", "/reservations", capped)
	if p.Cap == nil || p.Cap.Holder != ledger.HolderKey || p.Needed == nil || *p.Needed != 100_000 {
		t.Errorf("%+v", p)
	}
	yen := s.order("agent")
	yen.Currency = "JPY"
	if p := s.refused(422, wire.Invalid, "gateway", "POST", "/reservations", yen); p.Field != "body.currency" || !strings.Contains(p.Detail, "USD") {
		t.Errorf("a gateway whose prices are in yen: %+v", p)
	}
	bound := s.order("agent")
	bound.Caps.Call = 5
	if p := s.refused(402, wire.SpendingCap, "gateway", "POST", "/reservations", bound); p.Cap == nil || p.Cap.Holder != ledger.HolderServer {
		t.Errorf("%+v", p)
	}
	if p := s.refused(402, wire.InsufficientBalance, "gateway", "POST", "/reservations", s.order("poor agent")); p.Balance == nil || p.Needed == nil {
		t.Errorf("%+v", p)
	}
	s.refused(403, wire.KindWrong, "gateway", "POST", "/reservations", s.order("weak personal"))
	for _, key := range []string{"provider", "gateway", "admin"} {
		s.refused(401, wire.TokenInvalid, "gateway", "POST", "/reservations", s.order(key)) // a gateway gets no proof of a key of this kind, so the order has no proof
	}
	s.refused(401, wire.TokenInvalid, "gateway", "POST", "/reservations", s.order("bound agent"))
	s.refused(422, wire.Invalid, "gateway", "POST", "/reservations", s.order("nobody")) // no key has this name, so the order names no key
	test := s.order("test agent")
	if r := do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", test); r.Balance.Reserved != 100_000 {
		t.Errorf("%+v", r)
	}
	test.ID, test.Server = ids.New("chg_"), "prod"
	s.refused(403, wire.ServerForbidden, "gateway", "POST", "/reservations", test)
	free := s.order("agent")
	free.FreeCalls = 1
	if r := do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", free); !r.Waived {
		t.Errorf("%+v", r)
	}
}

// TestGatewayRepeats checks that a call that is sent again gets the first response.
func TestGatewayRepeats(t *testing.T) {
	s := newSite(t)
	o := s.order("agent")
	o.Idempotency = &wire.Idempotency{Key: "once", Fingerprint: strings.Repeat("ab", 32)}
	do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", o)
	again := o
	again.ID = ids.New("chg_")
	s.refused(409, wire.InFlight, "gateway", "POST", "/reservations", again)
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	do[wire.Captured](s, 200, "gateway", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Answer: answer})
	r := do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", again)
	if r.First == nil || string(r.First.Body) != string(answer) || r.First.Charge.ID != o.ID {
		t.Errorf("%+v", r)
	}
	again.Idempotency = &wire.Idempotency{Key: "once", Fingerprint: strings.Repeat("cd", 32)}
	s.refused(409, wire.KeyReused, "gateway", "POST", "/reservations", again)
}

// TestCaptureBody checks that the longest response that can be stored fits into a
// capture. A larger body is refused.
func TestCaptureBody(t *testing.T) {
	s := newSite(t)
	o := s.order("agent")
	o.Idempotency = &wire.Idempotency{Key: "once", Fingerprint: strings.Repeat("ab", 32)}
	do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", o)
	s.refused(413, wire.TooLarge, "gateway", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Answer: make([]byte, captureBody)})
	s.refused(413, wire.TooLarge, "gateway", "POST", "/reservations", strings.Repeat(" ", ops.SmallBody+1))
	do[wire.Captured](s, 200, "gateway", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Answer: make([]byte, ledger.MaxStoredResponse), Order: &o})
	again := o
	again.ID = ids.New("chg_")
	if r := do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", again); r.First == nil || len(r.First.Body) != ledger.MaxStoredResponse {
		t.Error("the answer is not kept")
	}
}

// TestBonds checks that a gateway can store a binding and gets it back as it was
// stored.
func TestBonds(t *testing.T) {
	s := newSite(t)
	mark := strings.Repeat("ab", 16)
	b := wire.Binding{Server: "weather", HandleHash: mark, Account: s.accounts["alice"], Until: clock.Now().Add(time.Hour).UTC().Truncate(time.Microsecond), Payload: []byte("p")}
	do[ops.None](s, 204, "gateway", "PUT", "/bindings/"+mark, b)
	if got := do[wire.Binding](s, 200, "gateway", "GET", "/bindings/"+mark+"?server=weather", nil); got.Account != b.Account || !got.Until.Equal(b.Until) || string(got.Payload) != "p" {
		t.Errorf("%+v", got)
	}
	s.refused(404, wire.NotFound, "gateway", "GET", "/bindings/"+strings.Repeat("cd", 16)+"?server=weather", nil)
	s.refused(422, wire.Invalid, "gateway", "PUT", "/bindings/"+strings.Repeat("cd", 16), b)
	s.refused(422, wire.Invalid, "gateway", "GET", "/bindings/"+strings.Repeat("zz", 16)+"?server=weather", nil)
	s.refused(403, wire.ServerForbidden, "bare gateway", "GET", "/bindings/"+mark+"?server=weather", nil)
	b.Payload = make([]byte, ledger.MaxBinding+1)
	s.refused(422, wire.Invalid, "gateway", "PUT", "/bindings/"+mark, b)
}

// TestUses checks that the last uses of keys are recorded, and that no recorded time
// is in the future.
func TestUses(t *testing.T) {
	s := newSite(t)
	used := wire.Used{Keys: map[string]time.Time{s.ids["agent"]: clock.Now().Add(time.Hour)}}
	for range 2_000 {
		used.Keys[ids.New("key_")] = clock.Now()
	}
	do[ops.None](s, 204, "gateway", "POST", "/keys/used", used)
	key, err := s.store.Key(t.Context(), s.ids["agent"])
	if err != nil || key.LastUsedAt.IsZero() || key.LastUsedAt.After(clock.Now()) {
		t.Errorf("used at %v, %v", key.LastUsedAt, err)
	}
}

// TestFollow checks that gateways can follow key changes. Nodes that use different
// keys are different nodes, even under the same name.
func TestFollow(t *testing.T) {
	s := newSite(t)
	begin := do[wire.Revocations](s, 200, "gateway", "POST", "/keys/revocations/follow", wire.Follow{Node: "n1", Seen: -1, LeaseMS: 2000})
	do[wire.Revocations](s, 200, "mail gateway", "POST", "/keys/revocations/follow", wire.Follow{Node: "n1", Seen: -1, LeaseMS: 2000})
	do[any](s, 200, "admin", "DELETE", "/keys/"+s.ids["agent"], nil)
	r := do[wire.Revocations](s, 200, "gateway", "POST", "/keys/revocations/follow", wire.Follow{Node: "n1", Seen: begin.Position, LeaseMS: 2000})
	digest := keys.DigestOf(s.secrets["agent"])
	if !slices.Contains(r.Digests, hex.EncodeToString(digest[:keys.HalfDigest])) || r.Position <= begin.Position {
		t.Errorf("%+v after %+v", r, begin)
	}
	do[ops.None](s, 204, "mail gateway", "DELETE", "/keys/revocations/nodes/n1", nil)
	if left := s.log.following(); len(left) != 1 || left[0] != s.ids["gateway"]+"/n1" {
		t.Errorf("%q follow", left)
	}
	for i := range maxNodes {
		do[wire.Revocations](s, 200, "mail gateway", "POST", "/keys/revocations/follow", wire.Follow{Node: ids.New(""), Seen: int64(i), LeaseMS: 2000})
	}
	s.refused(429, wire.TooMany, "mail gateway", "POST", "/keys/revocations/follow", wire.Follow{Node: "one more", Seen: -1, LeaseMS: 2000})
	s.refused(422, wire.Invalid, "gateway", "POST", "/keys/revocations/follow", wire.Follow{Node: "n", Seen: -1, LeaseMS: 2001})
}

// TestForgottenNodesUseNoMemory checks the record of leases. When one node of a key
// is forgotten, the record keeps the other nodes of the key. As soon as all nodes of
// the key are forgotten, the record has no entry for the key.
func TestForgottenNodesUseNoMemory(t *testing.T) {
	n, now := newNodes(), clock.Now()
	for _, node := range []string{"n1", "n2"} {
		n.admit("key_1", node, now, now)
	}
	n.forget("key_1", "n1")
	if _, there := n.leases["key_1"]["n2"]; !there {
		t.Errorf("left: %v", n.leases)
	}
	n.forget("key_1", "n2")
	n.forget("key_2", "n1")
	if len(n.leases) != 0 {
		t.Errorf("left: %v", n.leases)
	}
}

// events opens the stream of key changes, and returns a scanner that reads its lines.
func (s *site) events(key, query string, headers ...string) *bufio.Scanner {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", s.server.URL+wire.Base+"/keys/revocations"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.secrets[key])
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("%d %v", answer.StatusCode, answer.Header)
	}
	return bufio.NewScanner(answer.Body)
}

// next reads one event of a stream. The last result is false at the end of the stream.
func next(t *testing.T, lines *bufio.Scanner) (id string, r wire.Revocations, more bool) {
	t.Helper()
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "data":
			if err := json.Unmarshal([]byte(value), &r); err != nil {
				t.Fatal(err)
			}
			return id, r, true
		}
	}
	return "", r, false
}

// TestStream checks that a stream sends changes as they happen, can be resumed after
// an interruption, and ends when its key is disabled or the platform closes.
func TestStream(t *testing.T) {
	s := newSite(t)
	lines := s.events("gateway", "")
	begin, _, _ := next(t, lines)
	do[any](s, 200, "admin", "DELETE", "/keys/"+s.ids["agent"], nil)
	digest := keys.DigestOf(s.secrets["agent"])
	id, r, _ := next(t, lines)
	if id == begin || !slices.Equal(r.Digests, []string{hex.EncodeToString(digest[:keys.HalfDigest])}) {
		t.Errorf("%s: %+v", id, r)
	}
	for _, resumed := range []*bufio.Scanner{s.events("mail gateway", "?after="+begin), s.events("mail gateway", "?after=0", "Last-Event-ID", begin)} {
		if again, r, _ := next(t, resumed); again != id || len(r.Digests) != 1 {
			t.Errorf("resumed with %s: %+v", again, r)
		}
	}
	do[any](s, 200, "admin", "POST", "/keys/"+s.ids["gateway"]+"/disable", nil)
	for more := true; more; {
		_, _, more = next(t, lines)
	}
	last := s.events("mail gateway", "")
	close(s.closing)
	for more := true; more; {
		_, _, more = next(t, last)
	}
}

// TestStreamWaits checks that a stream without changes sends comments, and ends when
// its key expires.
func TestStreamWaits(t *testing.T) {
	s := newSite(t)
	s.platform.keepAlive = 10 * time.Millisecond
	soon := "1s"
	if _, err := s.service.UpdateKey(t.Context(), actorNobody, s.ids["gateway"], keyChange{ExpiresIn: &soon}); err != nil {
		t.Fatal(err)
	}
	lines, alive := s.events("gateway", ""), 0
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), ":") {
			alive++
		}
	}
	if alive == 0 {
		t.Error("nothing was said")
	}
	s.refused(401, wire.TokenExpired, "gateway", "GET", "/keys/revocations", nil)
}
