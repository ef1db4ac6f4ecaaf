package keys

import (
	"errors"
	"strings"
	"testing"
)

func format(t *testing.T, o FormatOptions) *Format {
	t.Helper()
	f, err := NewFormat(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFormatPrefixes: new secrets get the first prefix, secrets with another listed
// prefix stay valid, and secrets with any other prefix are refused.
func TestFormatPrefixes(t *testing.T) {
	usual := format(t, FormatOptions{})
	ours := format(t, FormatOptions{Prefixes: []string{"acme_sk", "sk"}, PersonalPrefixes: []string{"acme_pat"}})
	minted := ours.Mint(Agent, Live)
	if !strings.HasPrefix(minted, "acme_sk_live_") || !strings.HasPrefix(ours.Mint(Personal, Test), "acme_pat_test_") {
		t.Errorf("minted %q", minted)
	}
	for secret, ok := range map[string]bool{
		minted: true, ours.Mint(Personal, Live): true, usual.Mint(Agent, Test): true, usual.Mint(Personal, Live): false,
	} {
		if _, err := ours.Parse(secret); (err == nil) != ok {
			t.Errorf("%q: %v", secret, err)
		}
	}
	if _, err := usual.Parse(minted); !errors.Is(err, ErrMalformed) {
		t.Errorf("a prefix that is not listed: %v", err)
	}
	for _, o := range []FormatOptions{
		{Prefixes: []string{""}}, {Prefixes: []string{"SK"}}, {Prefixes: []string{"a b"}}, {Prefixes: []string{strings.Repeat("a", 33)}},
		{Prefixes: []string{"sk", "sk"}}, {Prefixes: []string{"pat"}}, {PersonalPrefixes: []string{"x-y"}},
	} {
		if _, err := NewFormat(o); err == nil || !strings.Contains(err.Error(), "prefix") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestFormatUnchecked: an unchecked format accepts another system's secrets, if their
// length and characters are allowed.
func TestFormatUnchecked(t *testing.T) {
	f := format(t, FormatOptions{Unchecked: true})
	for secret, ok := range map[string]bool{
		"0123456789abcdef": true, "fc-7Yh.9/Qz=" + strings.Repeat("x", 20): true, f.Mint(Agent, Live): true,
		"": false, "0123456789abcde": false, strings.Repeat("x", 257): false, "0123456789 abcdef": false, "0123456789abcdef\n": false, "0123456789abcdé": false,
	} {
		digest, err := f.Parse(secret)
		if (err == nil) != ok || ok && digest != DigestOf(secret) {
			t.Errorf("%q: %v", secret, err)
		}
	}
}
