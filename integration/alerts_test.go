package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/smtptest"
)

// alertSecret signs the webhooks of the tests.
const alertSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="

// alertHook receives webhooks, and verifies each request. While alertHook.fails is set,
// it refuses the requests.
type alertHook struct {
	url string

	mu       sync.Mutex
	fails    bool
	attempts int
	got      []alertMessage
}

// alertMessage is a request of a webhook.
type alertMessage struct {
	Type string `json:"type"`
	Data struct {
		ID          string `json:"id"`
		AccountName string `json:"account_name"`
		Key         string `json:"key"`
		Amount      string `json:"amount"`
		Limit       string `json:"limit"`
		Percent     int    `json:"percent"`
		Tool        string `json:"tool"`
		Title       string `json:"title"`
	} `json:"data"`
}

func newAlertHook(t *testing.T) *alertHook {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(alertSecret)
	if err != nil {
		t.Fatal(err)
	}
	h := new(alertHook)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the gateway was killed
		}
		if err := verifier.VerifyIgnoringTimestamp(body, r.Header); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		var m alertMessage
		if err := json.Unmarshal(body, &m); err != nil || m.Data.ID != r.Header.Get("Webhook-Id") {
			t.Errorf("%v: %s", err, body)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.attempts++; h.fails {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		h.got = append(h.got, m)
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

func (h *alertHook) set(fails bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails = fails
}

func (h *alertHook) messages() []alertMessage {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

func (h *alertHook) tried() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempts
}

// await waits for n messages. It fails the test if there are more.
func (h *alertHook) await(t *testing.T, n int) []alertMessage {
	t.Helper()
	harness.Eventually(t, "webhooks", func() error {
		if got := h.messages(); len(got) < n {
			return fmt.Errorf("%d messages, want %d", len(got), n)
		}
		return nil
	})
	got := h.messages()
	if len(got) != n {
		t.Fatalf("%d messages, want %d: %+v", len(got), n, got)
	}
	return got
}

// alertOption is the option "alerts" for the webhook and the mail server.
func alertOption(h *alertHook, mail *smtptest.Server) string {
	return fmt.Sprintf(`alerts {
			every 1s
			webhook %s/alerts {
				secret %s
			}
			email {
				smtp %s
				from "Farebox <alerts@example.com>"
				to ops@example.com
			}
		}`, h.url, alertSecret, mail.Addr)
}

// listedAlert is an element of the output of "alert list".
type listedAlert struct {
	ID         string `json:"id"`
	Kind       string `json:"kind"`
	Title      string `json:"title"`
	Deliveries []struct {
		Channel  string `json:"channel"`
		State    string `json:"state"`
		Attempts int    `json:"attempts"`
		Problem  string `json:"problem"`
	} `json:"deliveries"`
}

// TestAlerts checks that each crossing of a balance or a cap raises one alert, which
// reaches the webhook and the mail server. If the gateway is killed between raising an
// alert and delivering it, the gateway delivers the alert after its restart, under the
// same id, and does not raise it again.
func TestAlerts(t *testing.T) {
	t.Parallel()
	hook, mail := newAlertHook(t), smtptest.Start(t)
	site := priced(binaries.StartWeather(t, "-stateless"))
	g := binaries.StartGateway(t, strings.Replace(site, "currency USD", "currency USD\n\t\t"+alertOption(hook, mail), 1))
	g.NewAgent(t, "payer", "0.10")
	key := g.NewKey(t, "payer", "--cap", "day=0.10")
	g.CLI(t, nil, "alert", "set", "payer", "--balance", "0.08", "--tools", "true")

	hook.set(true)
	pays(t, g, key.Secret, middling, "0.02") // the balance is at the threshold
	pays(t, g, key.Secret, cheapest, "0.01") // the balance is below the threshold
	harness.Eventually(t, "an attempt", func() error {
		if hook.tried() == 0 {
			return fmt.Errorf("none")
		}
		return nil
	})
	g.Kill()
	hook.set(false)
	g.Start(t)
	first := hook.await(t, 1)[0]
	if first.Type != "alert.balance" || first.Data.AccountName != "payer" || first.Data.Amount != "0.07" || first.Data.Limit != "0.08" {
		t.Errorf("%+v", first)
	}

	pays(t, g, key.Secret, cheapest, "0.01") // the balance is still below the threshold, and 40 % of the cap are spent
	pays(t, g, key.Secret, dearest, "0.03")  // 70 % of the cap are spent
	if m := hook.await(t, 2)[1]; m.Type != "alert.cap" || m.Data.Percent != 50 || m.Data.Key != key.ID {
		t.Errorf("%+v", m)
	}
	pays(t, g, key.Secret, cheapest, "0.01") // 80 % of the cap are spent
	if m := hook.await(t, 3)[2]; m.Type != "alert.cap" || m.Data.Percent != 80 || m.Data.Amount != "0.08" || m.Data.Limit != "0.10" {
		t.Errorf("%+v", m)
	}
	var list []listedAlert
	g.CLI(t, &list, "alert", "list", "--account", "payer")
	var kinds []string
	for _, a := range list {
		kinds = append(kinds, a.Kind)
		for _, d := range a.Deliveries {
			if d.State != "delivered" && d.Channel == "webhook" {
				t.Errorf("%s: %+v", a.ID, d)
			}
		}
	}
	if !slices.Equal(kinds, []string{"cap", "cap", "balance"}) || list[2].ID != first.Data.ID || list[2].Deliveries[1].Attempts < 2 {
		t.Errorf("%+v", list)
	}
	harness.Eventually(t, "e-mails", func() error {
		if n := len(mail.Messages()); n < 3 {
			return fmt.Errorf("%d e-mails", n)
		}
		return nil
	})
	if !slices.ContainsFunc(mail.Messages(), func(m smtptest.Message) bool {
		return m.To == "ops@example.com" && strings.Contains(m.Text, "Subject: "+first.Data.Title)
	}) {
		t.Errorf("no e-mail about %q: %+v", first.Data.Title, mail.Messages())
	}
	var tested struct {
		Items []struct {
			Channel string `json:"channel"`
			Sent    bool   `json:"sent"`
		} `json:"items"`
	}
	g.CLI(t, &tested, "alert", "test")
	if len(tested.Items) != 2 || !tested.Items[0].Sent || !tested.Items[1].Sent {
		t.Errorf("%+v", tested)
	}
	hook.await(t, 4)
	metrics := g.Metrics(t)
	if metrics[`farebox_alerts_total{kind="cap"}`] != 2 || metrics[`farebox_alert_deliveries_total{channel="webhook",outcome="delivered"}`] < 3 {
		t.Errorf("metrics %v", metrics)
	}
	g.VerifyLedger(t)
}

// TestAlertsOfNetworks checks that a use of a key from another network than before
// raises an alert.
func TestAlertsOfNetworks(t *testing.T) {
	t.Parallel()
	hook, mail := newAlertHook(t), smtptest.Start(t)
	site := priced(binaries.StartWeather(t, "-stateless"))
	site = strings.Replace(site, "currency USD", "currency USD\n\t\t"+alertOption(hook, mail), 1)
	site = strings.Replace(site, "\tmetrics\n", "\tmetrics\n\tservers {\n\t\ttrusted_proxies static 127.0.0.0/8 ::1/128\n\t}\n", 1)
	g := binaries.StartGateway(t, site)
	_, key := g.NewAgent(t, "payer", "1000.00")
	g.CLI(t, nil, "alert", "set", "payer", "--networks", "true")
	from := func(address string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Endpoint(), strings.NewReader(body(1, cheapest)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", address)
		answer, err := g.Send(http.DefaultClient, key.Secret, req)
		if err != nil || answer.Result == nil || answer.Result.IsError {
			t.Fatalf("%v: %+v", err, answer)
		}
	}
	harness.Eventually(t, "the first network", func() error {
		from("192.0.2.1") // the first call may come before the gateway knows that alerts about networks are wanted
		from("192.0.2.99")
		from("198.51.100.1")
		if len(hook.messages()) == 0 {
			return fmt.Errorf("no message")
		}
		return nil
	})
	got := hook.await(t, 1)[0]
	if got.Type != "alert.network" || got.Data.Key != key.ID {
		t.Errorf("%+v", got)
	}
}

// TestAlertsOfACluster checks that two gateways at one database together raise and send
// each alert once.
func TestAlertsOfACluster(t *testing.T) {
	t.Parallel()
	hook, mail := newAlertHook(t), smtptest.Start(t)
	dsn := postgres.Database(t, func(context.Context, string) error { return nil })
	c := binaries.StartCluster(t, 2, dsn, harness.OnPostgres(priced(binaries.StartWeather(t, "-stateless")), alertOption(hook, mail)))
	client := c.Nodes[0].AdminClient()
	const accounts = 5
	for i := range accounts {
		name := fmt.Sprintf("payer%d", i)
		key := c.NewAgent(t, name, amount(t, "0.05"))
		harness.Ask(t, client, http.MethodPatch, "accounts/"+name+"/alerts", map[string]any{"balance": "0.05"}, nil)
		pays(t, c.Nodes[i%2], key.Secret, cheapest, "0.01")
		pays(t, c.Nodes[(i+1)%2], key.Secret, cheapest, "0.01")
	}
	names := make(map[string]int)
	for _, m := range hook.await(t, accounts) {
		names[m.Data.AccountName]++
	}
	if len(names) != accounts {
		t.Errorf("%v", names)
	}
	harness.Eventually(t, "e-mails", func() error {
		if n := len(mail.Messages()); n < accounts {
			return fmt.Errorf("%d e-mails", n)
		}
		return nil
	})
	if n := len(mail.Messages()); n != accounts {
		t.Errorf("%d e-mails", n)
	}
	c.Nodes[0].VerifyLedger(t)
}
