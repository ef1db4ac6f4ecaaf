package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/oauth"
	"github.com/fareboxhq/farebox/internal/people"
)

// TestGrants checks that members see the apps that spend the credits of their account,
// in words, and that only an owner or an operator can disconnect one, with a
// confirmation. The tokens of a disconnected app are refused.
func TestGrants(t *testing.T) {
	w, visitors := newWalk(t)
	owner, viewer, operator := visitors["owner"], visitors["viewer"], visitors["operator"]
	declared, err := keys.NewCatalogue([]keys.Scope{{Name: "mail.read", Description: "read your mail"}, {Name: "mail.send"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.scopes = declared
	day := int64(2_500_000)
	g, err := w.grants.Approve(t.Context(), admin.Actor{Name: owner.person.ID}, oauth.Consent{
		Client: "https://claude.example/client.json", ClientName: "Claude <b>", Host: "callback.example", Server: "weather", Scopes: []string{"mail.read", "mail.send"},
		Person: owner.person.ID, Account: w.alice.ID, Environment: keys.Live, Limits: &keys.Limits{Day: day}, ExpiresAt: w.now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	list, page := "/accounts/"+w.alice.ID+"/grants", "/grants/"+g.ID
	for name, b := range map[string]*browser{"owner": owner, "viewer": viewer, "operator": operator} {
		_, body := b.get(list)
		for _, want := range []string{"Claude &lt;b&gt;", "claude.example", "weather", "read your mail", ">mail.send<", "app-of-alice", "never", `aria-current="page">Apps`} {
			if !strings.Contains(body, want) {
				t.Errorf("the list of the %s has no %q: %s", name, want, body)
			}
		}
		if strings.Contains(body, "app-of-bob") {
			t.Errorf("the list of the %s has an app of another account", name)
		}
		_, body = b.get(page)
		for _, want := range []string{"nobody has verified it", "claude.example", "callback.example", "read your mail", "per day", "2.50", "owner@example.com"} {
			if !strings.Contains(body, want) {
				t.Errorf("the page of the %s has no %q: %s", name, want, body)
			}
		}
		if may := name != "viewer"; strings.Contains(body, "Disconnect the app") != may {
			t.Errorf("%s: the button to disconnect: want %t", name, may)
		}
	}
	if _, body := operator.get("/grants"); !strings.Contains(body, "app-of-bob") || !strings.Contains(body, "app-of-alice") {
		t.Errorf("the operator's list is %s", body)
	}
	if _, body := operator.get("/grants?account=bob&server=weather"); !strings.Contains(body, "app-of-bob") || strings.Contains(body, "app-of-alice") {
		t.Errorf("the filtered list is %s", body)
	}
	live := func() bool {
		g, err := w.grants.Grant(t.Context(), g.ID)
		if err != nil {
			t.Fatal(err)
		}
		return g.Live(w.now())
	}
	if resp, _ := viewer.post(page+"/revoke", url.Values{"confirm": {"yes"}}); resp.StatusCode != http.StatusForbidden || !live() {
		t.Errorf("a viewer: %s", resp.Status)
	}
	if resp, body := owner.post(page+"/revoke", nil); resp.StatusCode != http.StatusBadRequest || !live() || !strings.Contains(body, "still connected") {
		t.Errorf("without a confirmation: %s %s", resp.Status, body)
	}
	resp, _ := owner.post(page+"/revoke", url.Values{"confirm": {"yes"}})
	if resp.StatusCode != http.StatusSeeOther || live() {
		t.Errorf("the owner: %s", resp.Status)
	}
	_, body := owner.get(page)
	if !strings.Contains(body, ">revoked<") || strings.Contains(body, "Disconnect the app") || strings.Contains(body, owner.person.ID) || !strings.Contains(body, "grant.revoke") {
		t.Errorf("the page of a disconnected app is %s", body)
	}
	if _, body := owner.get(list); strings.Contains(body, "Claude") {
		t.Errorf("the list has a disconnected app: %s", body)
	}
	if _, body := owner.get(list + "?all=true"); !strings.Contains(body, "Claude") {
		t.Errorf("the list of all apps is %s", body)
	}
	log, _, err := w.admin.AuditLog(t.Context(), admin.AuditQuery{Action: "grant.revoke", Actor: owner.person.ID, Target: g.ID})
	if err != nil || len(log) != 1 || log[0].From != "192.0.2.7" {
		t.Errorf("the audit log has %+v, %v", log, err)
	}
}

// TestNoGrants checks that the list of an account without apps says how one gets
// connected.
func TestNoGrants(t *testing.T) {
	w := newWorld(t)
	a, _, _ := w.account("carol")
	b := w.person("carol@example.com", people.NewInvitation{Account: a.ID, Role: people.Owner})
	if _, body := b.get("/accounts/" + a.ID + "/grants"); !strings.Contains(body, "No app is connected") || !strings.Contains(body, "add the address of a server") {
		t.Errorf("the page is %s", body)
	}
}
