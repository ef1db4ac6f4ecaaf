package platform

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/wire"
)

var actorNobody = admin.Actor{Name: "test"}

type keyChange = admin.KeyChange

// TestBadBodies checks that a body is refused if it is invalid, or if two JSON parsers
// could read it differently. The problem names the location and does not quote the
// body.
func TestBadBodies(t *testing.T) {
	s := newSite(t)
	token := s.secrets["agent"]
	good := `{"token":"` + token + `","server":"weather","tool":"t","amount":"0.01"}`
	for body, want := range map[string]int{
		"":                400,
		"{":               400,
		"[]":              422,
		"null":            422,
		`"` + token + `"`: 422,
		good + good:       400,
		good + "x":        400,
		strings.Replace(good, `"tool"`, `"tool":"a","tool"`, 1):      400,
		strings.Replace(good, `"tool"`, `"Tool"`, 1):                 422,
		strings.Replace(good, `"tool"`, `"`+"\xff"+`"`, 1):           400,
		strings.Replace(good, `"t"`, `"\ud800"`, 1):                  400,
		strings.Replace(good, `"0.01"`, `0.01`, 1):                   422,
		strings.Replace(good, `"0.01"`, `"0.0000001"`, 1):            422,
		strings.Replace(good, `"0.01"`, `"1e3"`, 1):                  422,
		strings.Replace(good, `"0.01"`, `null`, 1):                   422,
		strings.Replace(good, `"0.01"`, `"99999999999999999999"`, 1): 422,
		strings.Replace(good, `"server"`, `"extra":1,"server"`, 1):   422,
		strings.Replace(good, `"weather"`, `{"`+token+`":1}`, 1):     422,
		strings.Repeat(`{"a":`, 20_000):                              413,
		strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000):    400,
	} {
		p := s.refused(want, map[int]wire.Code{400: wire.Invalid, 422: wire.Invalid, 413: wire.TooLarge}[want], "provider", "POST", "/charge", body)
		if text, _ := json.Marshal(p); strings.Contains(string(text), token) {
			t.Errorf("the token is echoed: %s", text)
		}
	}
	for _, kind := range []string{"text/plain", "application/cbor", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset", ""} {
		s.refused(415, wire.Invalid, "provider", "POST", "/charge", good, "Content-Type", kind)
	}
	s.refused(422, wire.Invalid, "admin", "GET", "/keys?limit=501", nil)
	s.refused(422, wire.Invalid, "admin", "GET", "/keys?limit=x", nil)
	s.refused(422, wire.Invalid, "admin", "GET", "/keys?unknown=1", nil)
	s.refused(422, wire.Invalid, "admin", "GET", "/journal?after=x", nil)
	if strings.Contains(s.logged.String(), "sk_live_") {
		t.Errorf("a token is logged: %s", s.logged)
	}
	if list, err := s.service.Charges(t.Context(), admin.ChargeQuery{Page: pageOne}); err != nil || len(list.Items) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestMutatedBodies checks that for any mutation of a valid body the response is a
// problem or a charge, never a server error, and never contains the token.
func TestMutatedBodies(t *testing.T) {
	s := newSite(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	good, err := json.Marshal(s.request("agent"))
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		body := append([]byte(nil), good...)
		for range 1 + random.IntN(3) {
			at := random.IntN(len(body))
			switch random.IntN(3) {
			case 0:
				body[at] = byte(random.UintN(256))
			case 1:
				body = append(body[:at], body[at+1:]...)
			default:
				body = append(body[:at], append([]byte{`{}[]",:0\`[random.IntN(9)]}, body[at:]...)...)
			}
		}
		r := s.send("provider", "POST", "/charge", string(body))
		if r.status != 200 {
			s.problem(r)
		}
		if r.status >= 500 || strings.Contains(string(r.body), s.secrets["agent"]) {
			t.Errorf("%q: %d %s", body, r.status, r.body)
		}
	}
}
