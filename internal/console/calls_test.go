package console

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/callrecord"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// refuse records a refused call of a key, and counts it.
func (w *world) refuse(k *keys.Key, tool string) {
	w.Helper()
	acme, err := w.admin.Account(w.Context(), "acme")
	if err == nil {
		err = w.calls.Append(w.Context(), []callrecord.Record{{
			At: w.now(), Account: k.Account, Key: k.ID, Server: "weather", Method: "tools/call", Tool: tool,
			Outcome: callrecord.Refused, Code: "INSUFFICIENT_BALANCE", Price: new(ledger.Amount(10_000)), Status: 200, Duration: time.Millisecond,
		}})
	}
	if err == nil {
		err = w.calls.Count(w.Context(), []ledger.CallCount{{
			At: w.now(), Account: k.Account, Provider: acme.ID, Lineage: k.Lineage, Server: "weather", Tool: tool, Refused: 1,
		}})
	}
	if err != nil {
		w.Fatal(err)
	}
}

// TestCallsPage checks the pages that show refused calls: the list of calls, its CSV,
// the list of keys, and the pages of one key and one account. These pages show the
// calls to the operator and to members of the account. No filter shows a member the
// calls of other accounts.
func TestCallsPage(t *testing.T) {
	w, visitors := newWalk(t)
	alice, err := w.admin.Key(t.Context(), w.aliceThings[aKey])
	if err != nil {
		t.Fatal(err)
	}
	bob, err := w.admin.Key(t.Context(), w.bobsOwn[aKey])
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.refuse(&alice, "refused-to-alice")
	}
	w.refuse(&bob, "refused-to-bob")
	of := "/accounts/" + w.alice.ID
	for who, paths := range map[string][]string{
		"operator": {"/calls?outcome=refused", "/calls?code=INSUFFICIENT_BALANCE&since=1h", "/calls.csv", of + "/calls", "/keys/" + alice.ID},
		"viewer":   {of + "/calls", of + "/calls.csv", of + "/calls?account=" + w.bob.ID, of + "/calls?key=" + bob.ID, "/keys/" + alice.ID, of},
	} {
		for _, path := range paths {
			resp, body := visitors[who].get(path)
			sees := !strings.Contains(path, bob.ID)
			if resp.StatusCode != http.StatusOK || strings.Contains(body, "refused-to-alice") != sees {
				t.Errorf("%s at %s: %s, shows the calls: %t", who, path, resp.Status, !sees)
			}
			if who == "viewer" && strings.Contains(body, "refused-to-bob") {
				t.Errorf("a member of alice sees calls of bob at %s", path)
			}
		}
	}
	_, body := visitors["operator"].get("/keys?range=7d")
	if want := fmt.Sprintf(`/accounts/%s/calls?key=%s&amp;outcome=refused">3</a>`, w.alice.ID, alice.ID); !strings.Contains(body, want) || !strings.Contains(body, "<option selected>7d</option>") {
		t.Errorf("the list of keys lacks %s", want)
	}
	if _, body := visitors["viewer"].get(of); !strings.Contains(body, "and 3 refused, 0 failed") {
		t.Error("the page of the account lacks the number of refused calls")
	}
	if resp, body := visitors["operator"].get("/calls?code=NONE"); resp.StatusCode != http.StatusOK || !strings.Contains(body, "No refused or failed call matches") {
		t.Errorf("a filter that nothing matches: %s", resp.Status)
	}
	if resp, _ := visitors["operator"].get("/calls?outcome=charged"); resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("an unknown outcome: %s", resp.Status)
	}
}
