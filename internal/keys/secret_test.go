package keys

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// vectors are secrets with checksums and digests that other programs computed.
var vectors = []struct{ secret, digest string }{
	{"sk_live_" + strings.Repeat("0", 56) + "143f5bf7", ""},
	{
		"pat_test_0123456789abcdef0123456789abcdef0123456789abcdef01234567" + "3431c9c8",
		"e0608ba35e3053a202b08e409678c8f655527b28af73b2ce49ca153137a14657",
	},
}

// checksum is the CRC-32 (IEEE 802.3) of the text, bit by bit.
func checksum(text string) uint32 {
	crc := ^uint32(0)
	for _, c := range []byte(text) {
		crc ^= uint32(c)
		for range 8 {
			if crc&1 == 1 {
				crc = crc>>1 ^ 0xedb88320
			} else {
				crc >>= 1
			}
		}
	}
	return ^crc
}

// refused fails the test unless Parse returns ErrMalformed and the zero digest.
func refused(t *testing.T, why, secret string) {
	t.Helper()
	digest, err := Parse(secret)
	if !errors.Is(err, ErrMalformed) {
		t.Errorf("%s: %q: error %v, want ErrMalformed itself", why, secret, err)
	}
	if digest != (Digest{}) {
		t.Errorf("%s: %q: a digest beside the error", why, secret)
	}
}

// forEachKind calls f for every kind and environment.
func forEachKind(f func(Kind, Environment)) {
	for k := Agent; k <= Refresh; k++ {
		f(k, Live)
		f(k, Test)
	}
}

// TestMintedSecretsParse: a minted secret has the prefix and form for its kind, and
// its digest is the SHA-256 of the whole text.
func TestMintedSecretsParse(t *testing.T) {
	forEachKind(func(k Kind, e Environment) {
		family := "sk"
		switch k {
		case Personal:
			family = "pat"
		case Access:
			family = "at"
		case Refresh:
			family = "rt"
		}
		want := fmt.Sprintf("%s_%s_", family, e)
		if got := DefaultFormat.Prefix(k, e); got != want {
			t.Errorf("%v %v: prefix %q, want %q", k, e, got, want)
		}
		for range 100 {
			secret := Mint(k, e)
			digits, ok := strings.CutPrefix(secret, want)
			if !ok || len(digits) != 64 {
				t.Fatalf("%v %v: %q has not the form of a secret", k, e, secret)
			}
			if _, err := hex.DecodeString(digits); err != nil || strings.ToLower(digits) != digits {
				t.Fatalf("%v %v: %q has other than lower-case hex digits", k, e, secret)
			}
			if want := fmt.Sprintf("%08x", checksum(secret[:len(secret)-8])); digits[56:] != want {
				t.Fatalf("%v %v: checksum %s, want %s", k, e, digits[56:], want)
			}
			digest, err := Parse(secret)
			if err != nil || digest != sha256.Sum256([]byte(secret)) || digest != DigestOf(secret) {
				t.Fatalf("%v %v: digest %x, error %v", k, e, digest, err)
			}
		}
	})
}

// TestParseVectors: secrets that other programs minted are valid.
func TestParseVectors(t *testing.T) {
	for _, v := range vectors {
		digest, err := Parse(v.secret)
		if err != nil {
			t.Errorf("%s: %v", v.secret, err)
		}
		if got := hex.EncodeToString(digest[:]); v.digest != "" && got != v.digest {
			t.Errorf("%s: digest %s, want %s", v.secret, got, v.digest)
		}
	}
}

// TestMintNeverRepeats: all secrets differ, and each random digit takes every value.
func TestMintNeverRepeats(t *testing.T) {
	const n = 2000
	seen := make(map[string]bool, n)
	var values [56][256]bool
	for range n {
		secret := Mint(Agent, Live)
		if seen[secret] {
			t.Fatal("a secret was minted twice")
		}
		seen[secret] = true
		for i, c := range []byte(secret[len("sk_live_"):][:56]) {
			values[i][c] = true
		}
	}
	for i := range values {
		for _, c := range []byte("0123456789abcdef") {
			if !values[i][c] {
				t.Errorf("digit %d was never %c in %d secrets", i, c, n)
			}
		}
	}
}

// TestEveryOneCharacterChangeIsRefused: a secret with one byte replaced, left out,
// doubled or swapped with the next is refused without a lookup.
func TestEveryOneCharacterChangeIsRefused(t *testing.T) {
	for _, secret := range []string{Mint(Agent, Live), Mint(Personal, Test), vectors[0].secret} {
		for i := range secret {
			for c := range 256 {
				if byte(c) != secret[i] {
					refused(t, "changed", secret[:i]+string([]byte{byte(c)})+secret[i+1:])
				}
			}
			refused(t, "left out", secret[:i]+secret[i+1:])
			refused(t, "doubled", secret[:i+1]+secret[i:])
			if i > 0 && secret[i] != secret[i-1] {
				refused(t, "swapped", secret[:i-1]+secret[i:i+1]+secret[i-1:i]+secret[i+1:])
			}
		}
	}
}

// TestOtherFormsAreRefused: Parse refuses every text that differs from a secret in its
// prefix, length, case or white space, even if the checksum fits.
func TestOtherFormsAreRefused(t *testing.T) {
	secret := Mint(Agent, Live)
	digits := strings.TrimPrefix(secret, "sk_live_")
	for _, upper := range []string{strings.ToUpper(secret), "sk_live_" + strings.ToUpper(digits), "SK_LIVE_" + digits} {
		refused(t, "upper case", upper)
	}
	for _, prefix := range []string{
		"", "_", "sk_", "sk__", "live_", "sk_prod_", "pk_live_", "sk-live-", "Bearer sk_live_", "sk_live_sk_live_", "ak_live_", "pat_", "\x00sk_live_",
	} {
		// The checksum is valid, so that only the prefix can be at fault.
		body := prefix + digits[:56]
		refused(t, "prefix", body+fmt.Sprintf("%08x", checksum(body)))
	}
	for _, known := range DefaultFormat.prefixes {
		if known != "sk_live_" {
			refused(t, "another's prefix", known+digits)
		}
	}
	for n := range 256 {
		if n == 56 {
			continue
		}
		body := "sk_live_" + strings.Repeat("a", n)
		refused(t, "length", body+fmt.Sprintf("%08x", checksum(body)))
	}
	for _, s := range []string{" " + secret, secret + " ", secret + "\n", secret + "\x00", "\t" + secret} {
		refused(t, "white space", s)
	}
	for n := range len(secret) {
		refused(t, "cut off", secret[:n])
	}
	upper := "sk_live_" + strings.Repeat("A", 56)
	refused(t, "upper case, its own checksum", upper+fmt.Sprintf("%08x", checksum(upper)))
}

// TestParseDoesNotAllocate: Parse does not allocate for valid or malformed secrets.
func TestParseDoesNotAllocate(t *testing.T) {
	good := Mint(Personal, Test)
	bad := good[:len(good)-1] + "x"
	mistyped := good[:20] + "00000000" + good[28:]
	for _, s := range []string{good, bad, mistyped, "", strings.Repeat("a", 500)} {
		if n := testing.AllocsPerRun(1000, func() { _, _ = Parse(s) }); n != 0 {
			t.Errorf("%d bytes: %v allocations", len(s), n)
		}
	}
}

// TestHint: a hint is the prefix and the last four digits, which belong to the
// checksum. A text without a known prefix has no hint. (This is a part of promise 10 of
// docs/promises.md.)
func TestHint(t *testing.T) {
	forEachKind(func(k Kind, e Environment) {
		secret := Mint(k, e)
		if got, want := Hint(secret), DefaultFormat.Prefix(k, e)+"…"+secret[len(secret)-4:]; got != want {
			t.Errorf("hint %q of %q, want %q", got, secret, want)
		}
	})
	for _, s := range []string{"", "sk_live_", "sk_live_abc", "password", "SK_LIVE_" + strings.Repeat("0", 64)} {
		if got := Hint(s); got != "" {
			t.Errorf("hint %q of %q, want none", got, s)
		}
	}
}

// FuzzParse: Parse accepts exactly the secrets that an independent implementation of
// the rules accepts, and returns the same digest. All other texts are ErrMalformed.
func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.secret)
		f.Add(strings.ToUpper(v.secret))
		f.Add(v.secret[1:])
		f.Add(v.secret + "0")
	}
	f.Add("")
	f.Add("sk_live_")
	f.Add("sk_live_" + strings.Repeat("é", 32))
	f.Fuzz(func(t *testing.T, secret string) {
		want := false
		for _, p := range []string{"sk_live_", "sk_test_", "pat_live_", "pat_test_"} {
			digits, ok := strings.CutPrefix(secret, p)
			if !ok || len(digits) != 64 || strings.Trim(digits, "0123456789abcdef") != "" {
				continue
			}
			want = digits[56:] == fmt.Sprintf("%08x", checksum(p+digits[:56]))
		}
		digest, err := Parse(secret)
		switch {
		case want && (err != nil || digest != sha256.Sum256([]byte(secret))):
			t.Errorf("%q: digest %x, error %v", secret, digest, err)
		case !want && (!errors.Is(err, ErrMalformed) || digest != Digest{}):
			t.Errorf("%q: digest %x, error %v; want ErrMalformed", secret, digest, err)
		}
		Hint(secret)
	})
}

// FuzzParseMended adds valid checksums to the fuzzer's texts, because the fuzzer
// would hardly ever find a valid checksum by itself. Such a text is accepted if and
// only if its form is right.
func FuzzParseMended(f *testing.F) {
	f.Add("sk_live_", strings.Repeat("0", 56))
	f.Add("pat_test_", strings.Repeat("f", 55))
	f.Add("sk_test_", strings.Repeat("F", 56))
	f.Fuzz(func(t *testing.T, prefix, digits string) {
		body := prefix + digits
		secret := fmt.Sprintf("%s%08x", body, checksum(body))
		_, err := Parse(secret)
		ok := false
		for _, p := range DefaultFormat.prefixes {
			rest, has := strings.CutPrefix(body, p)
			ok = ok || has && len(rest) == 56 && strings.Trim(rest, "0123456789abcdef") == ""
		}
		if (err == nil) != ok {
			t.Errorf("%q: error %v", secret, err)
		}
	})
}

// BenchmarkParse measures Parse for valid secrets. It parses many secrets in turn,
// because the branch predictor would learn the digits of a single secret and hide the
// cost of mispredicted branches.
func BenchmarkParse(b *testing.B) {
	secrets := make([]string, 4096)
	for i := range secrets {
		secrets[i] = Mint(Agent, Live)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := Parse(secrets[i%len(secrets)]); err != nil {
			b.Fatal(err)
		}
	}
}
