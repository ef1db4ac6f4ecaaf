package remotestore

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"

	"github.com/fareboxhq/farebox/internal/clock"
)

// TestLostRequestsAreRepeatedUnderTheirID checks that a request that may have been
// lost is sent up to three times, always with the same id and content.
func TestLostRequestsAreRepeatedUnderTheirID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unavailableProblem := refuses(errors.New("disk"))
		for name, fault := range map[string]reply{
			"cut": cut, "torn": torn, "bad gateway": says(502, "text/html", "<html>"), "unavailable": unavailableProblem, "timeout": says(504, "", ""),
		} {
			s, f, _ := faked(t, fault, fault, gives(reserved))
			id := newID("chg_")
			got, err := s.Reserve(ctx(t), id, order(), ledger.Terms{})
			if err != nil || got.Balance != (ledger.Balance{Posted: 1_000_000, Reserved: 10_000}) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			if f.count() != 3 || f.bodies[0] != f.bodies[1] || f.bodies[1] != f.bodies[2] || !strings.Contains(f.bodies[0], id) {
				t.Errorf("%s: asked %q", name, f.bodies)
			}
			f.plays(fault, fault, gives(charged(id, order())))
			charge, balance, err := s.Capture(ctx(t), id, []byte("answer"))
			if err != nil || charge.ID != id || charge.Provider != "acct_acme" || charge.Fee != 100 || balance.Posted != 990_000 {
				t.Errorf("%s: %+v, %v", name, charge, err)
			}
			f.plays(fault)
			began := clock.Now()
			_, err = s.Reserve(ctx(t), newID("chg_"), order(), ledger.Terms{})
			unavailable(t, name, err)
			if f.count() != maxTries || clock.Since(began) > 2*time.Second {
				t.Errorf("%s: asked %d times in %s", name, f.count(), clock.Since(began))
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestRefusalsAreTheLedgersOwn checks that a refusal is not retried, and that it
// arrives as the corresponding error of package ledger.
func TestRefusalsAreTheLedgersOwn(t *testing.T) {
	poor := &ledger.InsufficientError{Balance: ledger.Balance{Posted: 5}, Needed: 10_000}
	for _, want := range []error{poor, &ledger.CapError{Cap: ledger.Cap{Holder: ledger.HolderKey, Period: ledger.PerDay, Amount: 7}, Needed: 8},
		ledger.ErrConflict, ledger.ErrSettled, ledger.ErrNotFound, ledger.ErrInFlight, ledger.ErrReused, ledger.ErrGone} {
		s, f, _ := faked(t, refuses(want))
		_, err := s.Reserve(ctx(t), newID("chg_"), order(), ledger.Terms{})
		if err == nil || err.Error() != want.Error() || errors.Is(err, ledger.ErrUnavailable) || f.count() != 1 {
			t.Errorf("%v arrives as %v after %d requests", want, err, f.count())
		}
		if s.OpenReservations() != 0 {
			t.Errorf("%v: it counts as open", want)
		}
	}
}

// TestDoubtIsUnavailable checks that an ambiguous or mismatched response is
// ErrUnavailable, never a charge and never a refusal.
func TestDoubtIsUnavailable(t *testing.T) {
	id := newID("chg_")
	captured := func(change func(*wire.Captured)) reply {
		c := charged(id, order())
		change(&c)
		return gives(c)
	}
	good, err := json.Marshal(charged(id, order()))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]reply{
		"garbage":               says(200, "application/json", "<html>ok</html>"),
		"nothing":               says(200, "application/json", ""),
		"an empty object":       says(200, "application/json", "{}"),
		"another type":          says(200, "text/plain", string(good)),
		"a name twice":          says(200, "application/json", `{"charge":{},`+string(good[1:])),
		"a name in other case":  says(200, "application/json", strings.Replace(string(good), `"charge"`, `"CHARGE"`, 1)),
		"something after it":    says(200, "application/json", string(good)+"{}"),
		"too much":              says(200, "application/json", `{"x":"`+strings.Repeat("x", smallResponse)+`",`+string(good[1:])),
		"another charge":        captured(func(c *wire.Captured) { c.Charge.ID = newID("chg_") }),
		"another server":        captured(func(c *wire.Captured) { c.Charge.Server = "maps" }),
		"another tool":          captured(func(c *wire.Captured) { c.Charge.Tool = "x" }),
		"another amount":        captured(func(c *wire.Captured) { c.Charge.Amount++ }),
		"another account":       captured(func(c *wire.Captured) { c.Charge.Account = "acct_2" }),
		"another environment":   captured(func(c *wire.Captured) { c.Charge.Test = true }),
		"what is not captured":  captured(func(c *wire.Captured) { c.Charge.State = "reserved" }),
		"a redirect":            says(307, "", ""),
		"a page that is absent": says(404, "text/html", "not found"),
		"a bare refusal":        says(402, "application/json", `{"code":"INSUFFICIENT_BALANCE","status":402}`),
		"a status of its own":   says(402, "application/problem+json", `{"code":"SETTLED","status":409}`),
		"a code of its own":     says(418, "application/problem+json", `{"code":"TEAPOT","status":418,"title":"no"}`),
		"an error of the site":  says(500, "text/plain", "oops"),
		"a code out of place":   refuses(ledger.ErrExists),
		"the key is refused":    tells(&wire.Problem{Status: 401, Code: wire.TokenInvalid, Title: "Invalid key"}),
	} {
		s, f, _ := faked(t, gives(reserved))
		if _, err := s.Reserve(ctx(t), id, order(), ledger.Terms{}); err != nil {
			t.Fatal(err)
		}
		f.plays(r)
		_, _, err := s.Capture(ctx(t), id, nil)
		unavailable(t, name, err)
		_, _, err = s.Charge(ctx(t), id, order(), ledger.Terms{}, nil)
		unavailable(t, name+", charged", err)
		if f.count() != 2 {
			t.Errorf("%s: asked %q", name, f.asked)
		}
	}
}

// TestForgottenReservationIsChargedUnderItsID checks that if a restart of the platform
// forgot a reservation, Capture charges the reservation's order under the same id.
// Capture must not do this if the reservation was released or belongs to another
// gateway.
func TestForgottenReservationIsChargedUnderItsID(t *testing.T) {
	id := newID("chg_")
	terms := ledger.Terms{Key: ledger.Caps{Day: 5}, Server: ledger.Caps{Day: 7}, FreeCalls: 2, Idempotency: ledger.Idempotency{Key: "k", Fingerprint: [32]byte{1}}}
	s, f, _ := faked(t, gives(reserved))
	if _, err := s.Reserve(ctx(t), id, order(), terms); err != nil {
		t.Fatal(err)
	}
	f.plays(refuses(ledger.ErrNotFound), cut, gives(charged(id, order())))
	if c, _, err := s.Capture(ctx(t), id, []byte("answer")); err != nil || c.ID != id {
		t.Fatalf("%+v, %v", c, err)
	}
	var first, second wire.Capture
	if err := errors.Join(json.Unmarshal([]byte(f.bodies[0]), &first), json.Unmarshal([]byte(f.bodies[1]), &second)); err != nil {
		t.Fatal(err)
	}
	want := wire.OrderOf(id, order(), terms)
	if first.Order != nil || second.Order == nil || second.Order.Caps.Day != 7 || second.Order.FreeCalls != 2 || *second.Order.Idempotency != *want.Idempotency ||
		second.Order.Key != "key_1" || string(first.Answer) != "answer" || string(second.Answer) != "answer" || f.bodies[1] != f.bodies[2] {
		t.Errorf("asked %q", f.bodies)
	}
	if s.OpenReservations() != 0 {
		t.Error("a settled reservation is open")
	}
	f.plays(refuses(ledger.ErrNotFound))
	if _, _, err := s.Capture(ctx(t), id, nil); !errors.Is(err, ledger.ErrNotFound) || f.count() != 1 {
		t.Errorf("what is not known here: %v after %q", err, f.asked)
	}
	f.plays(gives(reserved), cut)
	if _, err := s.Reserve(ctx(t), id, order(), terms); err != nil {
		t.Fatal(err)
	}
	unavailable(t, "release", s.Release(ctx(t), id))
	f.plays(refuses(ledger.ErrNotFound))
	if _, _, err := s.Capture(ctx(t), id, nil); !errors.Is(err, ledger.ErrNotFound) || f.count() != 1 {
		t.Errorf("what was given up: %v after %q", err, f.asked)
	}
}

// TestAnswersAreSentWhenTheyAreKept checks that a capture sends the response of the
// call only if the call has an idempotency key and the response is not too long to
// be stored.
func TestAnswersAreSentWhenTheyAreKept(t *testing.T) {
	for name, c := range map[string]struct {
		terms  ledger.Terms
		answer []byte
		sent   bool
	}{
		"kept":         {ledger.Terms{Idempotency: ledger.Idempotency{Key: "k"}}, []byte("answer"), true},
		"not repeated": {ledger.Terms{}, []byte("answer"), false},
		"too long":     {ledger.Terms{Idempotency: ledger.Idempotency{Key: "k"}}, make([]byte, ledger.MaxStoredResponse+1), false},
	} {
		id := newID("chg_")
		s, f, _ := faked(t, gives(reserved), gives(charged(id, order())))
		if _, err := s.Reserve(ctx(t), id, order(), c.terms); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Capture(ctx(t), id, c.answer); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(f.bodies[1], "answer") != c.sent {
			t.Errorf("%s: sent %.80q", name, f.bodies[1])
		}
	}
}

// TestFirstAnswer checks that Reserve returns a stored response instead of a
// reservation. Reserve returns the stored response only if its account, lineage and
// server are those of the order.
func TestFirstAnswer(t *testing.T) {
	id := newID("chg_")
	first := charged(id, order())
	terms := ledger.Terms{Idempotency: ledger.Idempotency{Key: "k"}}
	s, f, _ := faked(t, gives(wire.Reserved{First: &wire.Answer{Charge: first.Charge, Balance: first.Balance, Body: []byte("body")}}))
	rotated := order()
	rotated.Key, rotated.Amount = "key_2", 5
	got, err := s.Reserve(ctx(t), newID("chg_"), rotated, terms)
	if err != nil || got.First == nil || got.First.Charge.ID != id || string(got.First.Body) != "body" || s.OpenReservations() != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = s.Reserve(ctx(t), newID("chg_"), order(), ledger.Terms{})
	unavailable(t, "an answer that was not asked for", err)
	for name, change := range map[string]func(*wire.Charge){
		"server": func(c *wire.Charge) { c.Server = "x" }, "lineage": func(c *wire.Charge) { c.Lineage = "x" }, "account": func(c *wire.Charge) { c.Account = "x" },
	} {
		other := first
		change(&other.Charge)
		f.plays(gives(wire.Reserved{First: &wire.Answer{Charge: other.Charge, Body: []byte("body")}}))
		_, err := s.Reserve(ctx(t), newID("chg_"), order(), terms)
		unavailable(t, name, err)
	}
}

// TestOnlyRefundsArePosted checks that a gateway posts only refunds, and that the
// response must match the request.
func TestOnlyRefundsArePosted(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	refund := ledger.Transaction{ID: newID("txn_"), Kind: ledger.KindRefund, Charge: newID("chg_"), Reason: "sorry"}
	answer := wire.Refunded{ID: refund.ID, Charge: refund.Charge, Amount: 5, At: at, Balance: wire.Balance{Posted: 9}}
	s, f, _ := faked(t, cut, gives(answer))
	got, balance, err := s.PostTransaction(ctx(t), refund, ledger.Audit{})
	want := refund
	want.Amount, want.At = 5, at
	if err != nil || got != want || balance.Posted != 9 || f.count() != 2 {
		t.Errorf("%+v, %v, %v", got, balance, err)
	}
	answer.Amount = 4
	f.plays(gives(answer))
	refund.Amount = 5
	_, _, err = s.PostTransaction(ctx(t), refund, ledger.Audit{})
	unavailable(t, "another amount", err)
	for _, kind := range []ledger.Kind{ledger.KindCredit, ledger.KindAdjustment, ledger.KindCharge, ledger.KindFee} {
		f.plays(cut)
		if _, _, err := s.PostTransaction(ctx(t), ledger.Transaction{ID: newID("txn_"), Kind: kind, Amount: 1}, ledger.Audit{}); !errors.Is(err, ledger.ErrInvalid) || f.count() != 0 {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, _, err := s.PostTransaction(ctx(t), ledger.Transaction{ID: refund.ID, Kind: ledger.KindRefund, Charge: "../keys"}, ledger.Audit{}); !errors.Is(err, ledger.ErrNotFound) || f.count() != 0 {
		t.Errorf("a charge that can be none: %v", err)
	}
}

// TestNonsenseIsNotAsked checks that malformed ids and invalid orders fail without a
// request.
func TestNonsenseIsNotAsked(t *testing.T) {
	s, f, _ := faked(t, cut)
	for _, id := range []string{"", "chg_", "chg_1", newID("txn_"), newID("chg_") + "0", "chg_../../../../../../../../../../../../../", newID("chg_")[:39] + "G"} {
		_, _, err := s.Capture(ctx(t), id, nil)
		if _, reserve := s.Reserve(ctx(t), id, order(), ledger.Terms{}); !errors.Is(reserve, ledger.ErrInvalid) {
			t.Errorf("%q: %v", id, reserve)
		}
		for _, err := range []error{err, s.Renew(ctx(t), id), s.Release(ctx(t), id)} {
			if !errors.Is(err, ledger.ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
	}
	nothing := order()
	nothing.Amount = 0
	for _, terms := range []ledger.Terms{{Server: ledger.Caps{Day: -1}}, {Idempotency: ledger.Idempotency{Key: strings.Repeat("x", ledger.MaxIdempotencyKey+1)}}} {
		if _, err := s.Reserve(ctx(t), newID("chg_"), order(), terms); !errors.Is(err, ledger.ErrInvalid) {
			t.Errorf("%+v: %v", terms, err)
		}
	}
	if _, err := s.Reserve(ctx(t), newID("chg_"), nothing, ledger.Terms{}); !errors.Is(err, ledger.ErrInvalid) {
		t.Error(err)
	}
	if f.count() != 0 {
		t.Errorf("asked %q", f.asked)
	}
}

// TestCallerLeaves checks that a cancelled call returns the context's error and does
// not count as a failure of the platform. If the context is cancelled before the
// call, nothing is sent.
func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := faked(t, hangs)
		for range 2 * openAfter {
			gone, cancel := context.WithCancel(ctx(t))
			time.AfterFunc(100*time.Millisecond, cancel)
			_, _, err := s.Capture(gone, newID("chg_"), nil)
			unavailable(t, "capture", err)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			before := f.count()
			if _, err = s.Reserve(gone, newID("chg_"), order(), ledger.Terms{}); !errors.Is(err, context.Canceled) || f.count() != before {
				t.Errorf("%v", err)
			}
		}
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestOpenReservations checks that a reservation counts as open until it is settled
// or expires. Renew extends this time. Reserve fails when the number of open
// reservations has reached the bound.
func TestOpenReservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, _ := faked(t, gives(reserved))
		s.open.bound = 3
		ids := []string{newID("chg_"), newID("chg_"), newID("chg_")}
		for _, id := range ids {
			for range 2 {
				if _, err := s.Reserve(ctx(t), id, order(), ledger.Terms{}); err != nil && s.OpenReservations() < 3 {
					t.Fatal(err)
				}
			}
		}
		before := f.count()
		_, err := s.Reserve(ctx(t), newID("chg_"), order(), ledger.Terms{})
		unavailable(t, "one too many", err)
		if s.OpenReservations() != 3 || f.count() != before {
			t.Errorf("%d open", s.OpenReservations())
		}
		f.plays(done)
		if err := s.Release(ctx(t), ids[0]); err != nil || s.OpenReservations() != 2 {
			t.Errorf("%d open, %v", s.OpenReservations(), err)
		}
		time.Sleep(ledger.ReservationLife - time.Second)
		if err := s.Renew(ctx(t), ids[1]); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if n := s.OpenReservations(); n != 1 {
			t.Errorf("%d open", n)
		}
		time.Sleep(ledger.ReservationLife)
		if n := s.OpenReservations(); n != 0 {
			t.Errorf("%d open", n)
		}
		if want := []string{"DELETE /reservations/" + ids[0], "POST /reservations/" + ids[1] + "/renew"}; !slices.Equal(f.asked, want) {
			t.Errorf("asked %q", f.asked)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestRequestsMayBeReplayed checks that net/http may retry a request on a new
// connection if an idle connection was closed. For this, the request needs the
// header X-Idempotency-Key and a body that can be read again.
func TestRequestsMayBeReplayed(t *testing.T) {
	var keyed, replayable bool
	s, _, _ := faked(t, func(q *http.Request, _ []byte) (*http.Response, error) {
		_, keyed = q.Header["X-Idempotency-Key"]
		replayable = q.GetBody != nil && q.Header.Get("X-Idempotency-Key") == "" && q.Header.Get("Authorization") == "Bearer "+secret
		return done(q, nil)
	})
	if _, err := s.Reserve(ctx(t), newID("chg_"), order(), ledger.Terms{}); !errors.Is(err, ledger.ErrUnavailable) || !keyed || !replayable {
		t.Errorf("%v, %v, %v", keyed, replayable, err)
	}
}
