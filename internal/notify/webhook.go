// Package notify sends alerts by webhook and by e-mail. It stores no alerts or
// deliveries: package alert decides which messages are sent, when, and how often.
package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/weburl"
)

// Webhook is a URL to which alerts are sent, with the secrets for signing them.
type Webhook struct {
	// URL has the scheme https, or http if its host is a loopback address.
	URL string
	// Each secret signs every request, so a receiver may know any one of them while
	// secrets are replaced. A secret is "whsec_" and 24 to 64 bytes in base64.
	Secrets []string
}

// Webhooks is an alert.Channel. Its requests follow Standard Webhooks 1.0.0: a receiver
// verifies the header webhook-signature, and ignores a message if it has already
// received one with the same webhook-id.
type Webhooks struct {
	hooks  map[string]*hook // by target
	order  []string
	client *http.Client
}

type hook struct {
	url     string
	signers []*standardwebhooks.Webhook
}

// secretPrefix is the prefix of all secrets.
const secretPrefix = "whsec_"

// Bounds of a decoded secret in bytes (Standard Webhooks, "Symmetric").
const (
	minSecret = 24
	maxSecret = 64
)

// NewWebhooks returns a channel for the given webhooks. The text of an error contains
// no secret.
func NewWebhooks(list []Webhook) (*Webhooks, error) {
	w := &Webhooks{hooks: make(map[string]*hook), client: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
		// Do not follow redirects, because they would send the alert to an address that
		// no operator has configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for i := range list {
		if err := CheckURL(list[i].URL); err != nil {
			return nil, err
		}
		if len(list[i].Secrets) == 0 {
			return nil, errors.New("a webhook needs a secret, which signs its requests: make one with echo whsec_$(openssl rand -base64 32)")
		}
		h := &hook{url: list[i].URL}
		for _, secret := range list[i].Secrets {
			if err := checkSecret(secret); err != nil {
				return nil, err
			}
			signer, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				return nil, errBadSecret
			}
			h.signers = append(h.signers, signer)
		}
		name := targetOf(h.url)
		if w.hooks[name] != nil {
			return nil, errors.New("the same webhook is given twice")
		}
		w.hooks[name], w.order = h, append(w.order, name)
	}
	return w, nil
}

// targetOf returns the target for a URL. The target is a hash of the URL, because
// targets are stored and the URL itself may contain a secret.
func targetOf(address string) string {
	sum := sha256.Sum256([]byte(address))
	return hex.EncodeToString(sum[:8])
}

// CheckURL returns an error if alerts must not be sent to the URL.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "" {
		return errors.New("webhook: want an https URL, as in: webhook https://example.com/alerts")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return fmt.Errorf("webhook: %s would get alerts without TLS: use https, or a loopback address", u.Host)
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

var errBadSecret = fmt.Errorf("the secret of a webhook is %s and %d to %d bytes in base64: make one with echo whsec_$(openssl rand -base64 32)", secretPrefix, minSecret, maxSecret)

func checkSecret(secret string) error {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(raw) < minSecret || len(raw) > maxSecret {
		return errBadSecret
	}
	return nil
}

// Name returns "webhook".
func (w *Webhooks) Name() string { return "webhook" }

// Targets returns a target for each webhook.
func (w *Webhooks) Targets(context.Context, string) ([]string, error) { return w.order, nil }

// payload is the body of a request.
type payload struct {
	Type      string    `json:"type"` // "alert." and the kind, as in alert.balance
	Timestamp time.Time `json:"timestamp"`
	Data      content   `json:"data"`
}

// content describes the alert in the body of a request.
type content struct {
	ID          string `json:"id"`
	Account     string `json:"account,omitempty"`
	AccountName string `json:"account_name,omitempty"`
	Key         string `json:"key,omitempty"` // lineage of the key
	Currency    string `json:"currency"`
	Title       string `json:"title"`
	Detail      string `json:"detail"`
	alert.Data
}

// Send sends a message to a webhook. The message has arrived if the response has a
// status from 200 to 299.
func (w *Webhooks) Send(ctx context.Context, target string, m *alert.Message) error {
	h := w.hooks[target]
	if h == nil {
		return alert.ErrNotConfigured
	}
	body, err := json.Marshal(payload{"alert." + string(m.Kind), m.At, content{m.ID, m.Account, m.AccountName, m.Key, m.Currency, m.Title, m.Detail, m.Data}})
	if err != nil {
		return fmt.Errorf("encoding the alert: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL of the webhook cannot be used")
	}
	at := clock.Now()
	var signatures []string
	for _, s := range h.signers {
		signature, err := s.Sign(m.ID, at, body)
		if err != nil {
			return fmt.Errorf("signing the alert: %w", err)
		}
		signatures = append(signatures, signature)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Farebox")
	r.Header.Set(standardwebhooks.HeaderWebhookID, m.ID)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, fmt.Sprint(at.Unix()))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return w.do(r)
}

// do sends a request. An error contains the host of the URL, but not the rest of the
// URL.
func (w *Webhooks) do(r *http.Request) error {
	resp, err := w.client.Do(r)
	if err != nil {
		return fmt.Errorf("%s could not be reached: %w", r.URL.Host, weburl.Cause(err))
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // read the body so that the connection can be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("%s answered with status %d", r.URL.Host, resp.StatusCode)
	}
	return nil
}
