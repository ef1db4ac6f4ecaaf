package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func newSecret(b byte) string {
	return secretPrefix + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(b), 32)))
}

var message = &alert.Message{
	Alert: alert.Alert{
		ID: "alr_1", Kind: alert.Balance, Account: "acct_1", At: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC),
		Data: alert.Data{Amount: new(2 * ledger.Unit), Limit: new(5 * ledger.Unit)},
	},
	AccountName: "acme", Currency: "USD", Title: "The balance of acme is below 5.00 USD", Detail: "2.00 USD are available to the account acme.",
}

// TestWebhookIsSigned checks that a receiver with any one of the secrets can verify a
// request with the library of Standard Webhooks, and that a receiver with another
// secret cannot. The body must describe the event.
func TestWebhookIsSigned(t *testing.T) {
	t.Parallel()
	type request struct {
		header http.Header
		body   []byte
	}
	got := make(chan request, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- request{r.Header, body}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	channel, err := NewWebhooks([]Webhook{{URL: receiver.URL + "/hook?token=private", Secrets: []string{newSecret('a'), newSecret('b')}}})
	if err != nil {
		t.Fatal(err)
	}
	targets, err := channel.Targets(t.Context(), "acct_1")
	if err != nil || len(targets) != 1 || strings.Contains(targets[0], "private") {
		t.Fatalf("targets %q, %v", targets, err)
	}
	if err := channel.Send(t.Context(), targets[0], message); err != nil {
		t.Fatal(err)
	}
	r := <-got
	for secret, want := range map[byte]bool{'a': true, 'b': true, 'c': false} {
		verifier, err := standardwebhooks.NewWebhook(newSecret(secret))
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.VerifyIgnoringTimestamp(r.body, r.header); (err == nil) != want {
			t.Errorf("secret %c: %v", secret, err)
		}
	}
	if r.header.Get("Webhook-Id") != "alr_1" || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", r.header)
	}
	const want = `{"type":"alert.balance","timestamp":"2026-11-30T12:00:00Z","data":{"id":"alr_1","account":"acct_1","account_name":"acme","currency":"USD",` +
		`"title":"The balance of acme is below 5.00 USD","detail":"2.00 USD are available to the account acme.","amount":"2.00","limit":"5.00"}}`
	if string(r.body) != want {
		t.Errorf("body %s\nwant %s", r.body, want)
	}
	var parsed map[string]any
	if err := json.Unmarshal(r.body, &parsed); err != nil {
		t.Error(err)
	}
}

// TestWebhookFails checks that Send returns an error for every status except 2xx, does
// not follow redirects, and stops waiting for a response when its context ends. No
// error contains the URL.
func TestWebhookFails(t *testing.T) {
	t.Parallel()
	followed := false
	release := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/private/redirect":
			http.Redirect(w, r, "/followed", http.StatusTemporaryRedirect)
		case "/followed":
			followed = true
		case "/private/hangs":
			select {
			case <-release:
			case <-r.Context().Done():
			}
		default:
			w.WriteHeader(http.StatusGone)
		}
	}))
	defer receiver.Close()
	defer close(release)
	for _, url := range []string{receiver.URL + "/private/redirect", receiver.URL + "/private/gone", receiver.URL + "/private/hangs", "http://127.0.0.1:1/private"} {
		channel, err := NewWebhooks([]Webhook{{URL: url, Secrets: []string{newSecret('a')}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithDeadline(t.Context(), clock.Deadline(time.Second))
		err = channel.Send(ctx, targetOf(url), message)
		cancel()
		if err == nil || strings.Contains(err.Error(), "private") {
			t.Errorf("%s: %v", url, err)
		}
		if err := channel.Send(t.Context(), "other", message); !errors.Is(err, alert.ErrNotConfigured) {
			t.Errorf("an unknown target: %v", err)
		}
	}
	if followed {
		t.Error("the redirect was followed")
	}
}

// TestWebhookIsChecked checks that a webhook is refused if it has no TLS, no secret, or
// a secret that is too short. No error contains the secret.
func TestWebhookIsChecked(t *testing.T) {
	t.Parallel()
	good := newSecret('a')
	for _, bad := range [][]Webhook{
		{{URL: "http://example.com/hook", Secrets: []string{good}}}, {{URL: "ftp://example.com", Secrets: []string{good}}}, {{URL: "https://", Secrets: []string{good}}},
		{{URL: "https://example.com/hook"}}, {{URL: "https://example.com", Secrets: []string{"whsec_c2hvcnQ="}}}, {{URL: "https://example.com", Secrets: []string{strings.TrimPrefix(good, secretPrefix)}}},
		{{URL: "https://example.com", Secrets: []string{"whsec_%%%secret"}}},
		{{URL: "https://example.com", Secrets: []string{good}}, {URL: "https://example.com", Secrets: []string{good}}},
	} {
		if _, err := NewWebhooks(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		} else if strings.Contains(err.Error(), "c2hvcnQ") || strings.Contains(err.Error(), "%secret") {
			t.Errorf("the secret is in the error: %v", err)
		}
	}
	if _, err := NewWebhooks([]Webhook{{URL: "http://[::1]:8080/hook", Secrets: []string{good}}}); err != nil {
		t.Error(err)
	}
}
