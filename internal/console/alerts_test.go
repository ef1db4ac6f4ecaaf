package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// TestAlerts checks that an owner chooses the alerts of the account by a form, and sees
// the account's alerts but no others. An operator sees all alerts, and the overview
// counts them.
func TestAlerts(t *testing.T) {
	w, visitors := newWalk(t)
	owner, viewer, operator := visitors["owner"], visitors["viewer"], visitors["operator"]
	page := "/accounts/" + w.alice.ID + "/alerts"
	if _, body := owner.get(page); !strings.Contains(body, "No alert in the last 90 days") || !strings.Contains(body, `name="caps" checked`) || strings.Contains(body, `name="tools" checked`) {
		t.Errorf("the empty page is %s", body)
	}
	if _, body := operator.get("/"); strings.Contains(body, "in the last 24 hours") {
		t.Error("the overview counts alerts before there is one")
	}
	resp, body := owner.post(page, url.Values{"balance": {"1000000"}, "spend": {"7"}, "tools": {"on"}})
	if resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s\n%s", resp.Status, body)
	}
	_, set, err := w.alerts.SettingsOf(t.Context(), w.alice.ID)
	if want := (alert.Settings{Balance: 1_000_000 * ledger.Unit, Spend: 7, Tools: true}); err != nil || set != want {
		t.Errorf("%+v, %v; want %+v", set, err, want)
	}
	if _, err := w.alerts.Evaluate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*browser{"owner": owner, "viewer": viewer, "operator": operator} {
		if _, body := b.get(page); !strings.Contains(body, "The balance of alice is below 1000000.00 USD") {
			t.Errorf("%s sees %s", name, body)
		}
	}
	if _, body := viewer.get(page); strings.Contains(body, `name="balance"`) || !strings.Contains(body, "above 7 times the usual day") {
		t.Errorf("a viewer sees %s", body)
	}
	if _, body := visitors["stranger"].get("/accounts/" + w.bob.ID + "/alerts?account=" + w.alice.ID); strings.Contains(body, "The balance of alice") {
		t.Error("a member of another account sees the alert")
	}
	if _, body := operator.get("/alerts"); !strings.Contains(body, "The balance of alice") {
		t.Errorf("the operator sees %s", body)
	}
	if _, body := operator.get("/alerts?kind=cap"); !strings.Contains(body, "No alert matches") {
		t.Errorf("the filter shows %s", body)
	}
	if _, body := operator.get("/"); !strings.Contains(body, "1 alert in the last 24 hours: The balance of alice") {
		t.Errorf("the overview is %s", body)
	}
	if resp, body := operator.post("/alerts/test", nil); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "No channel is configured") {
		t.Errorf("a test without a channel: %s %s", resp.Status, body)
	}
	for _, bad := range []url.Values{{"balance": {"-1"}}, {"balance": {"x"}}, {"spend": {"1"}}, {"spend": {"often"}}} {
		if resp, _ := owner.post(page, bad); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%v: %s", bad, resp.Status)
		}
	}
	// A cleared form ends all alerts.
	owner.post(page, nil)
	if _, set, err = w.alerts.SettingsOf(t.Context(), w.alice.ID); err != nil || set != (alert.Settings{}) {
		t.Errorf("%+v, %v", set, err)
	}
}
