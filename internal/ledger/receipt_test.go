package ledger_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
)

func signer(n byte) *ledger.Signer { return ledger.NewSigner([ed25519.SeedSize]byte{n}) }

func aReceipt() ledger.Receipt {
	return ledger.NewReceipt(&ledger.Charge{
		ID: "chg_1", State: ledger.Captured, At: time.Date(2026, 7, 28, 12, 0, 0, 999, time.UTC),
		Order: ledger.Order{Account: "acct_1", Server: "weather", Tool: "get_forecast", Amount: 10_000, Test: true},
	}, "USD")
}

func signed(t *testing.T, s *ledger.Signer) string {
	t.Helper()
	return s.Sign(aReceipt())
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// TestReceiptIsVerified checks that a receipt is accepted if the key that signed it is
// among the given keys, and that its content is returned unchanged.
func TestReceiptIsVerified(t *testing.T) {
	jws := signed(t, signer(1))
	got, err := ledger.VerifyReceipt(jws, signer(2).Public(), signer(1).Public())
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Receipt{
		Charge: "chg_1", Payer: "acct_1", Server: "weather", Tool: "get_forecast", Amount: 10_000,
		Currency: "USD", Environment: "test", At: 1785240000,
	}
	if got != want || !got.Time().Equal(time.Date(2026, 7, 28, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("receipt is %+v, want %+v", got, want)
	}
	if live := ledger.NewReceipt(&ledger.Charge{}, "EUR"); live.Environment != "live" || live.Currency != "EUR" {
		t.Errorf("receipt of a live charge is %+v", live)
	}
}

// TestReceiptIsAJWS checks that a receipt can be verified by the rules of RFC 7515 and
// RFC 8037 alone, without this package.
func TestReceiptIsAJWS(t *testing.T) {
	parts := strings.Split(signed(t, signer(1)), ".")
	var header, payload map[string]any
	for i, v := range []*map[string]any{&header, &payload} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatal(err)
		}
	}
	if header["alg"] != "EdDSA" || header["kid"] != ledger.KeyID(signer(1).Public()) || len(header) != 3 {
		t.Errorf("header is %v", header)
	}
	if payload["amount"] != "0.01" || payload["payer"] != "acct_1" {
		t.Errorf("payload is %v", payload)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !ed25519.Verify(signer(1).Public(), []byte(parts[0]+"."+parts[1]), signature) {
		t.Errorf("the signature is not one of Ed25519: %v", err)
	}
}

// TestTamperedReceiptIsRefused checks that a receipt is refused if any one of its
// characters is changed.
func TestTamperedReceiptIsRefused(t *testing.T) {
	jws, public := signed(t, signer(1)), signer(1).Public()
	for i := range jws {
		for _, c := range []byte{'A', 'B', '.', '=', '+'} {
			if jws[i] == c {
				continue
			}
			changed := jws[:i] + string(c) + jws[i+1:]
			if r, err := ledger.VerifyReceipt(changed, public); !errors.Is(err, ledger.ErrReceipt) || r != (ledger.Receipt{}) {
				t.Fatalf("character %d changed to %c: %+v, %v", i, c, r, err)
			}
		}
	}
}

// TestForgedReceiptIsRefused checks that a receipt signed with another key is refused,
// and so is a receipt with a header that asks for another algorithm (RFC 8725, sections
// 2.1 and 3.1).
func TestForgedReceiptIsRefused(t *testing.T) {
	public := signer(1).Public()
	kid := ledger.KeyID(public)
	genuine := strings.Split(signed(t, signer(1)), ".")
	stranger := strings.Split(signed(t, signer(2)), ".")
	header := func(alg, typ, kid string) string {
		return b64(`{"alg":"` + alg + `","typ":"` + typ + `","kid":"` + kid + `"}`)
	}
	const typ = "farebox-receipt+jws"
	mac := hmac.New(sha256.New, public)
	hs := header("HS256", typ, kid) + "." + genuine[1]
	mac.Write([]byte(hs))
	for name, jws := range map[string]string{
		"alg none":              header("none", typ, kid) + "." + genuine[1] + ".",
		"alg none, signature":   header("none", typ, kid) + "." + genuine[1] + "." + genuine[2],
		"alg HS256":             hs + "." + b64(string(mac.Sum(nil))),
		"another type":          header("EdDSA", "JWT", kid) + "." + genuine[1] + "." + genuine[2],
		"a stranger's":          strings.Join(stranger, "."),
		"a stranger's, our kid": header("EdDSA", typ, kid) + "." + stranger[1] + "." + stranger[2],
		"no kid":                header("EdDSA", typ, "") + "." + genuine[1] + "." + genuine[2],
		"payload of another":    genuine[0] + "." + stranger[1][:len(stranger[1])-4] + "AAAA." + genuine[2],
		"no signature":          genuine[0] + "." + genuine[1] + ".",
		"two parts":             genuine[0] + "." + genuine[1],
		"four parts":            strings.Join(genuine, ".") + ".x",
		"padding":               strings.Join(genuine, ".") + "==",
		"white space":           " " + strings.Join(genuine, "."),
		"empty":                 "",
		"no JSON":               b64("{") + "." + genuine[1] + "." + genuine[2],
	} {
		if r, err := ledger.VerifyReceipt(jws, public); !errors.Is(err, ledger.ErrReceipt) || r != (ledger.Receipt{}) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := ledger.VerifyReceipt(strings.Join(genuine, ".")); !errors.Is(err, ledger.ErrReceipt) {
		t.Errorf("without any key: %v", err)
	}
}

// TestSignedNonsenseIsRefused checks that content that is not a receipt is refused,
// even if the right key has signed it.
func TestSignedNonsenseIsRefused(t *testing.T) {
	key := ed25519.NewKeyFromSeed(append([]byte{1}, make([]byte, ed25519.SeedSize-1)...))
	head := strings.Split(signed(t, signer(1)), ".")[0]
	for _, payload := range []string{"", "[]", `{"amount":1}`, `{"amount":"1.0000001"}`, "x"} {
		text := head + "." + b64(payload)
		jws := text + "." + b64(string(ed25519.Sign(key, []byte(text))))
		if _, err := ledger.VerifyReceipt(jws, signer(1).Public()); !errors.Is(err, ledger.ErrReceipt) {
			t.Errorf("payload %q: %v", payload, err)
		}
	}
}

// FuzzVerifyReceipt checks that only receipts signed by the given key are accepted, and
// that every other text gives ErrReceipt.
func FuzzVerifyReceipt(f *testing.F) {
	s := signer(1)
	genuine := s.Sign(aReceipt())
	for _, seed := range []string{genuine, genuine + "A", "..", "", genuine[:len(genuine)-1]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, jws string) {
		_, err := ledger.VerifyReceipt(jws, s.Public())
		if (err == nil) != (jws == genuine) || err != nil && !errors.Is(err, ledger.ErrReceipt) {
			t.Errorf("%q: %v", jws, err)
		}
	})
}

// FuzzReceiptPayload checks that the payload of a receipt is exactly the output of
// json.Marshal for the receipt, for any names of the server and the tool.
func FuzzReceiptPayload(f *testing.F) {
	f.Add("weather", "get_forecast", "USD", int64(10_000), int64(1), false)
	f.Add("a\"b", "resource:file:///ü/<&>", "\x00\x7f", int64(-1), int64(-5), true)
	f.Add("\xff", "\u2028", "", int64(1<<62), int64(0), true)
	f.Fuzz(func(t *testing.T, server, tool, currency string, amount, at int64, free bool) {
		r := ledger.Receipt{
			Charge: "chg_" + tool, Payer: server + tool, Server: server, Tool: tool, Amount: ledger.Amount(amount),
			Currency: currency, Environment: "live", At: at, Free: free,
		}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(signer(1).Sign(r), ".")
		payload, _, _ := strings.Cut(rest, ".")
		if got, err := base64.RawURLEncoding.DecodeString(payload); err != nil || string(got) != string(want) {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	})
}
