package ledger_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// The private and the public key of the example in RFC 8037, appendix A.
const (
	exampleSeed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	exampleX    = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
)

func example(t *testing.T) ed25519.PublicKey {
	t.Helper()
	seed, err := base64.RawURLEncoding.DecodeString(exampleSeed)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.NewSigner([ed25519.SeedSize]byte(seed)).Public()
}

// TestReceiptKeysAreAJWKSet checks that the JSON of receipt keys follows RFC 7517 and
// RFC 8037, and that parsing this JSON returns the same keys in the same order.
func TestReceiptKeysAreAJWKSet(t *testing.T) {
	keys := ledger.ReceiptKeys{example(t), signer(1).Public()}
	text, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(text, &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("%s: %v", text, err)
	}
	want := map[string]string{
		"kty": "OKP", "crv": "Ed25519", "x": exampleX, "kid": ledger.KeyID(keys[0]), "use": "sig", "alg": "EdDSA",
	}
	if !reflect.DeepEqual(set.Keys[0], want) {
		t.Errorf("got %v, want %v", set.Keys[0], want)
	}
	got, ignored, err := ledger.ParseReceiptKeys(text)
	if err != nil || ignored != 0 || !reflect.DeepEqual(got, keys) {
		t.Errorf("read back: %v, %d ignored, %v", got, ignored, err)
	}
	if text, err := json.Marshal(ledger.ReceiptKeys(nil)); err != nil || string(text) != `{"keys":[]}` {
		t.Errorf("no keys are %s, %v", text, err)
	}
}

// TestKeysOfOthersAreIgnored checks that keys of other types and for other uses are
// skipped, and that a receipt key may lack optional members.
func TestKeysOfOthersAreIgnored(t *testing.T) {
	const okp = `"kty":"OKP","crv":"Ed25519","x":"` + exampleX + `"`
	for key, taken := range map[string]bool{
		`{` + okp + `}`: true,
		`{` + okp + `,"use":"sig","alg":"Ed25519"}`:                true,
		`{` + okp + `,"nbf":1,"x5c":["MII"],"key_ops":["verify"]}`: true,
		`{` + okp + `,"kid":"` + ledger.KeyID(example(t)) + `"}`:   true,
		`{` + okp + `,"kid":"somebody-elses"}`:                     false,
		`{` + okp + `,"kid":7}`:                                    false,
		`{` + okp + `,"use":"enc"}`:                                false,
		`{` + okp + `,"alg":"ES256"}`:                              false,
		`{` + okp + `,"alg":null}`:                                 false,
		`{"kty":"OKP","crv":"X25519","x":"` + exampleX + `"}`:      false,
		`{"kty":"OKP","crv":"Ed448","x":"AA"}`:                     false,
		`{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`:             false,
		`{"kty":"RSA","n":"AA","e":"AQAB"}`:                        false,
		`{"kty":"new"}`:                                            false,
		`{"kty":["OKP"]}`:                                          false,
		`{"KTY":"OKP","CRV":"Ed25519","X":"` + exampleX + `"}`:     false,
		`{}`: false,
	} {
		keys, ignored, err := ledger.ParseReceiptKeys([]byte(`{"note":{},"keys":[` + key + `]}`))
		if err != nil || len(keys)+ignored != 1 || (len(keys) == 1) != taken {
			t.Errorf("%s: %d keys, %d ignored, %v", key, len(keys), ignored, err)
		}
	}
	twice, ignored, err := ledger.ParseReceiptKeys([]byte(`{"keys":[{` + okp + `},{` + okp + `}]}`))
	if err != nil || len(twice) != 1 || ignored != 0 {
		t.Errorf("the same key twice: %d keys, %d ignored, %v", len(twice), ignored, err)
	}
}

// TestPrivateKeysAreRefused checks that a set with a private or symmetric key of any
// type is refused, and that the error does not repeat the key.
func TestPrivateKeysAreRefused(t *testing.T) {
	const private = `{"kty":"OKP","crv":"Ed25519","x":"` + exampleX + `","d":"` + exampleSeed + `"}`
	for _, set := range []string{
		`{"keys":[` + private + `]}`,
		`{"keys":[{"kty":"new"},` + private + `]}`,
		`{"keys":[{"kty":"oct","k":"` + exampleSeed + `"}]}`,
		`{"keys":[{"kty":"RSA","n":"AA","e":"AQAB","d":"` + exampleSeed + `"}]}`,
		`{"keys":[{"kty":"RSA","n":"AA","e":"AQAB","p":"` + exampleSeed + `"}]}`,
		`{"keys":[{"kty":"AKP","pub":"AA","priv":"` + exampleSeed + `"}]}`,
		`{"keys":[{"kty":"EC","d":null}]}`,
		private,
	} {
		keys, _, err := ledger.ParseReceiptKeys([]byte(set))
		if !errors.Is(err, ledger.ErrPrivateKey) || keys != nil || strings.Contains(err.Error(), exampleSeed) {
			t.Errorf("%s: %v, %v", set, keys, err)
		}
	}
}

// TestDamagedKeySetsAreRefused checks that damaged or ambiguous sets are refused, and
// that the error does not repeat the set.
func TestDamagedKeySetsAreRefused(t *testing.T) {
	const okp = `"kty":"OKP","crv":"Ed25519"`
	good := `{` + okp + `,"x":"` + exampleX + `"}`
	for name, set := range map[string]string{
		"empty":             "",
		"a seed":            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n",
		"half of it":        `{"keys":[` + good,
		"a list":            `[` + good + `]`,
		"no list":           `{"keys":` + good + `}`,
		"null":              `{"keys":null}`,
		"another name":      `{"Keys":[` + good + `]}`,
		"two lists":         `{"keys":[],"keys":[` + good + `]}`,
		"two lists, escape": `{"keys":[],"\u006beys":[` + good + `]}`,
		"more after it":     `{"keys":[` + good + `]}{}`,
		"not UTF-8":         `{"keys":[{"kty":"` + "\xff" + `"}]}`,
		"byte order mark":   "\ufeff" + `{"keys":[]}`,
		"no object":         `{"keys":[7]}`,
		"a member twice":    `{"keys":[{` + okp + `,"x":"AA","x":"` + exampleX + `"}]}`,
		"no x":              `{"keys":[{` + okp + `}]}`,
		"short x":           `{"keys":[{` + okp + `,"x":"` + exampleX[:42] + `"}]}`,
		"long x":            `{"keys":[{` + okp + `,"x":"` + exampleX + `AAAA"}]}`,
		"padded x":          `{"keys":[{` + okp + `,"x":"` + exampleX + `="}]}`,
		"x in another form": `{"keys":[{` + okp + `,"x":"` + exampleX[:42] + `p"}]}`,
		"x over two lines":  `{"keys":[{` + okp + `,"x":"` + exampleX[:42] + `\n` + exampleX[42:] + `"}]}`,
		"nested":            `{"keys":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`,
		"too long":          `{"keys":[` + good + `]}` + strings.Repeat(" ", ledger.MaxReceiptKeys),
	} {
		keys, _, err := ledger.ParseReceiptKeys([]byte(set))
		if err == nil || keys != nil || len(err.Error()) > 200 || strings.Contains(err.Error(), exampleX[:20]) || strings.Contains(err.Error(), "9d61b1") {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
	}
}

// TestVerifyNamesTheKey checks that Verify uses the key that the receipt names, however
// many keys there are, and returns the id of that key.
func TestVerifyNamesTheKey(t *testing.T) {
	var keys ledger.ReceiptKeys
	for n := range byte(10) {
		keys = append(keys, signer(n).Public())
	}
	for n := range byte(10) {
		r, id, err := keys.Verify(signed(t, signer(n)))
		if err != nil || r != aReceipt() || id != ledger.KeyID(keys[n]) {
			t.Errorf("key %d: %+v, %q, %v", n, r, id, err)
		}
	}
	if r, id, err := keys.Verify(signed(t, signer(11))); !errors.Is(err, ledger.ErrReceipt) || r != (ledger.Receipt{}) || id != "" {
		t.Errorf("a stranger's: %+v, %q, %v", r, id, err)
	}
}

// TestReceiptsHaveOneForm checks that a text that other parsers might read differently
// is refused, even if it is signed with the installation's own key.
func TestReceiptsHaveOneForm(t *testing.T) {
	const content = `"charge":"c","payer":"p","server":"s","tool":"t","amount":"0.01","currency":"USD","environment":"live"`
	kid := ledger.KeyID(signer(1).Public())
	header := `{"alg":"EdDSA","typ":"farebox-receipt+jws","kid":"` + kid + `"}`
	key := ed25519.NewKeyFromSeed(append([]byte{1}, make([]byte, ed25519.SeedSize-1)...))
	sign := func(header, payload string) string {
		text := b64(header) + "." + b64(payload)
		return text + "." + b64(string(ed25519.Sign(key, []byte(text))))
	}
	good := `{` + content + `,"iat":1}`
	if _, err := ledger.VerifyReceipt(sign(header, good), signer(1).Public()); err != nil {
		t.Fatalf("what the others are made of is refused: %v", err)
	}
	wrong := map[string]string{
		"line end in the signature": func() string { s := sign(header, good); return s[:len(s)-4] + "\n" + s[len(s)-4:] }(),
		"line end at the end":       sign(header, good) + "\r\n",
		"too long":                  sign(header, `{`+content+`,"iat":1`+strings.Repeat(" ", ledger.MaxReceipt)+`}`),
	}
	for name, h := range map[string]string{
		"two algorithms":           `{"alg":"none","alg":"EdDSA","typ":"farebox-receipt+jws","kid":"` + kid + `"}`,
		"two algorithms, the case": `{"ALG":"none","alg":"EdDSA","typ":"farebox-receipt+jws","kid":"` + kid + `"}`,
		"another case":             `{"Alg":"EdDSA","typ":"farebox-receipt+jws","kid":"` + kid + `"}`,
		"two kids":                 `{"alg":"EdDSA","typ":"farebox-receipt+jws","kid":"` + kid + `","\u006bid":"x"}`,
		"crit":                     `{"alg":"EdDSA","typ":"farebox-receipt+jws","kid":"` + kid + `","crit":["b64"],"b64":false}`,
		"a key of its own":         `{"alg":"EdDSA","typ":"farebox-receipt+jws","kid":"` + kid + `","jwk":{}}`,
		"no kid":                   `{"alg":"EdDSA","typ":"farebox-receipt+jws"}`,
		"null":                     `{"alg":"EdDSA","typ":null,"kid":"` + kid + `"}`,
		"more after it":            header + `{}`,
	} {
		wrong["header: "+name] = sign(h, good)
	}
	for name, p := range map[string]string{
		"two amounts":           `{` + content + `,"iat":1,"amount":"5"}`,
		"two amounts, the case": `{` + content + `,"iat":1,"Amount":"5"}`,
		"unknown member":        `{` + content + `,"iat":1,"discount":"5"}`,
		"missing":               `{` + content + `}`,
		"null":                  `{` + content + `,"iat":null}`,
		"a time of another day": `{` + content + `,"iat":1.5}`,
		"more after it":         good + `0`,
		"not UTF-8":             `{` + content + `,"iat":1,"` + "\xff" + `":0}`,
	} {
		wrong["content: "+name] = sign(header, p)
	}
	for name, jws := range wrong {
		r, err := ledger.VerifyReceipt(jws, signer(1).Public())
		if !errors.Is(err, ledger.ErrReceipt) || r != (ledger.Receipt{}) || len(err.Error()) > 300 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestEveryReceiptFits checks that the longest possible receipt has at most half of
// MaxReceipt bytes, so that there is room for members added later.
func TestEveryReceiptFits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	jws := signer(1).Sign(ledger.Receipt{
		Charge: long(100), Payer: long(100), Server: long(512), Tool: long(128),
		Amount: -1 << 63, Currency: "USD", Environment: "live", At: 1 << 62,
	})
	if len(jws) > ledger.MaxReceipt/2 {
		t.Errorf("%d bytes", len(jws))
	}
}

// FuzzParseReceiptKeys checks that an accepted set has only public keys, and that
// writing and parsing these keys returns the same keys.
func FuzzParseReceiptKeys(f *testing.F) {
	for _, seed := range []string{
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + exampleX + `"}]}`, `{"keys":[]}`, `{"keys":[{"d":""}]}`, "", "[]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, _, err := ledger.ParseReceiptKeys(text)
		if err != nil {
			return
		}
		written, err := json.Marshal(keys)
		if err != nil {
			t.Fatal(err)
		}
		again, ignored, err := ledger.ParseReceiptKeys(written)
		if err != nil || ignored != 0 || !reflect.DeepEqual(again, keys) {
			t.Errorf("%q: %v, %d ignored, %v", text, again, ignored, err)
		}
	})
}
