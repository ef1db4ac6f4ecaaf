package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/oauth/fetch"
)

const (
	agentID    = "https://agent.example/client.json"
	agentPlace = "agent.example/client.json"
)

// documentOf returns a document of the client with agentID, with further members.
func documentOf(members string) string {
	if members != "" {
		members = ", " + members
	}
	return fmt.Sprintf(`{"client_id": %q, "client_name": "Agent", "redirect_uris": ["https://agent.example/cb"]%s}`, agentID, members)
}

// codeOf returns the Code of an error that must be an *Error, or "" for nil.
func codeOf(t *testing.T, err error) Code {
	t.Helper()
	var of *Error
	if err == nil {
		return ""
	}
	if !errors.As(err, &of) {
		t.Fatalf("%v is not an *Error", err)
	}
	return of.Code
}

// TestClientIDs: only an https URL with a public name and a path is fetched.
func TestClientIDs(t *testing.T) {
	w := newWeb(t, "agent.example")
	r, _, _ := newRegistry(t, w, Options{})
	for _, id := range []string{
		"https://agent.example", "https://agent.example/", "https://agent.example/?x", "https://agent.example/a/../client.json",
		"https://agent.example/./client.json", "https://agent.example/%2e%2e/client.json", "https://agent.example/%2E/client.json",
		"https://agent.example/client.json#x", "https://agent.example/client.json#", "https://u@agent.example/client.json", "https://u:p@agent.example/client.json",
		"https://Agent.example/client.json", "https://agent.example./client.json", "https://localhost/client.json", "https://agent/client.json",
		"https://127.0.0.1/client.json", "https://127.1/client.json", "https://0x7f.1/client.json", "https://[::1]/client.json", "https://2130706433/client.json",
		"https://agent.example:0/client.json", "https://agent.example:/client.json", "https://agent.example:x/client.json",
		"https://agent.example/client json", "https://agent.example/\tclient.json", "https://agent.example\\client.json", "https://agent\u3002example/client.json",
		"https:///client.json", "https:agent.example/client.json", "https://agent..example/client.json", "https://-agent.example/client.json",
		"https://agent.example/" + strings.Repeat("x", maxURI),
		"http://agent.example/client.json", "HTTPS://agent.example/client.json", "ftp://agent.example/client.json", "", "agent", "fbclient_1",
	} {
		if _, err := r.Find(t.Context(), somebody, id); codeOf(t, err) != InvalidClient {
			t.Errorf("%.80q: %v", id, err)
		}
	}
	if n := w.requests.Load(); n > 0 {
		t.Errorf("%d requests", n)
	}
}

// TestDocuments: a document that does not speak for its URL, or that lists nothing which is
// possible, is refused with a reason. Unknown members and values never matter.
func TestDocuments(t *testing.T) {
	jwks := `"jwks": ` + newSigner(t, "k").jwks()
	for _, row := range []struct {
		name, body string
		methods    string // with spaces; "" for a refusal
		reason     string
	}{
		{"plain", documentOf(""), "[none]", ""},
		{"unknown members", documentOf(`"logo_uri": 7, "contacts": {"a": [1]}, "software_statement": null`), "[none]", ""},
		{"unknown grants", documentOf(`"grant_types": ["password", "authorization_code", "x"]`), "[none]", ""},
		{"null members", documentOf(`"jwks": null, "jwks_uri": null, "token_endpoint_auth_method": null, "grant_types": null, "client_secret": null`), "[none]", ""},
		{"none", documentOf(`"token_endpoint_auth_method": "none"`), "[none]", ""},
		{"wish", documentOf(`"token_endpoint_auth_method": "client_secret_basic", "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"]`), "[none]", ""},
		{"keys", documentOf(`"token_endpoint_auth_method": "private_key_jwt", ` + jwks), "[private_key_jwt]", ""},
		{"both", documentOf(`"token_endpoint_auth_methods_supported": ["private_key_jwt", "none"], ` + jwks), "[none private_key_jwt]", ""},
		{"both without keys", documentOf(`"token_endpoint_auth_methods_supported": ["private_key_jwt", "none"]`), "[none]", ""},
		{"both with another algorithm", documentOf(`"token_endpoint_auth_methods_supported": ["private_key_jwt", "none"], "token_endpoint_auth_signing_alg": "EdDSA", ` + jwks), "[none]", ""},
		{"one usable URI", documentOf(`"x": 1`), "[none]", ""},

		{"no keys", documentOf(`"token_endpoint_auth_method": "private_key_jwt"`), "", "needs jwks"},
		{"keys at http", documentOf(`"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://agent.example/k"`), "", "needs jwks"},
		{"keys at loopback", documentOf(`"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://127.0.0.1/k"`), "", "needs jwks"},
		{"keys twice", documentOf(`"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://agent.example/k", ` + jwks), "", "exclude"},
		{"empty keys", documentOf(`"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": []}`), "", "no public key"},
		{"symmetric key", documentOf(`"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}`), "", "no public key"},
		{"another algorithm", documentOf(`"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "HS256", ` + jwks), "", "want RS256 or ES256"},
		{"secret method", documentOf(`"token_endpoint_auth_method": "client_secret_post"`), "", "want none or private_key_jwt"},
		{"secret", documentOf(`"client_secret": "x"`), "", "client_secret"},
		{"expiry of a secret", documentOf(`"client_secret_expires_at": 0`), "", "client_secret"},
		{"grants", documentOf(`"grant_types": ["client_credentials", "password"]`), "", "grant type"},
		{"other id", strings.Replace(documentOf(""), "client.json", "other.json", 1), "", "not its URL"},
		{"id with a port", strings.Replace(documentOf(""), "agent.example/client", "agent.example:443/client", 1), "", "not its URL"},
		{"id in another case", strings.Replace(documentOf(""), "client.json", "Client.json", 1), "", "not its URL"},
		{"no id", `{"redirect_uris": ["https://agent.example/cb"]}`, "", "not its URL"},
		{"id twice", `{"client_id": "https://evil.example/c", ` + documentOf("")[1:], "", "twice"},
		{"id twice, escaped", documentOf(`"client\u005fid": "https://evil.example/c"`), "", "twice"},
		{"twice in an unknown member", documentOf(`"x": {"a": 1, "a": 2}`), "", "twice"},
		{"no URIs", `{"client_id": "` + agentID + `"}`, "", "redirect_uris"},
		{"no usable URI", strings.Replace(documentOf(""), "https://agent.example/cb", "http://agent.example/cb", 1), "", "redirect_uris"},
		{"many URIs", `{"client_id": "` + agentID + `", "redirect_uris": [` + strings.Repeat(`"https://agent.example/cb",`, maxURIs) + `"https://agent.example/cb"]}`, "", "more than 32"},
		{"type", documentOf(`"grant_types": "authorization_code"`), "", "another type"},
		{"array", `[]`, "", "type"},
		{"null", `null`, "", "not its URL"},
		{"text", `hello`, "", "not JSON"},
		{"two values", documentOf("") + documentOf(""), "", "not JSON"},
		{"invalid UTF-8", documentOf(`"x": "` + "\xff" + `"`), "", "not JSON"},
		{"empty", ``, "", "not JSON"},
	} {
		w := newWeb(t, "agent.example")
		r, _, _ := newRegistry(t, w, Options{})
		w.json(agentPlace, row.body, "")
		c, err := r.Find(t.Context(), somebody, agentID)
		switch {
		case row.reason == "" && (err != nil || fmt.Sprint(c.AuthMethods) != row.methods):
			t.Errorf("%s: %+v, %v", row.name, c, err)
		case row.reason != "" && (codeOf(t, err) != InvalidClient || !strings.Contains(err.Error(), row.reason)):
			t.Errorf("%s: %v, want %q", row.name, err, row.reason)
		}
	}
}

// TestUnfetchableDocument: a document that cannot be fetched makes the client unavailable,
// and does not say why, because the reason could describe the network.
func TestUnfetchableDocument(t *testing.T) {
	w := newWeb(t, "agent.example")
	r, _, c := newRegistry(t, w, Options{})
	for name, page := range map[string]http.HandlerFunc{
		"404":  http.NotFound,
		"text": func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(documentOf(""))) },
		"large": func(rw http.ResponseWriter, _ *http.Request) {
			writeJSON(rw, documentOf(`"x": "`+strings.Repeat("x", MaxDocument)+`"`))
		},
		"redirect": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "https://agent.example/other.json", http.StatusFound)
		},
	} {
		w.serve(agentPlace, page)
		w.json("agent.example/other.json", documentOf(""), "")
		_, err := r.Find(t.Context(), somebody, agentID)
		if codeOf(t, err) != Unavailable || !strings.HasSuffix(err.Error(), "could not be fetched") {
			t.Errorf("%s: %v", name, err)
		}
		c.advance(retryAfter)
	}
	// A name that leads to this machine: the real dialer refuses it.
	r, _, _ = newRegistry(t, w, Options{Fetch: fetch.New(fetch.Options{RootCAs: w.roots})})
	before := w.requests.Load()
	r.policy.private, r.documents.policy.private = true, true // the check of the name must not refuse it first
	if _, err := r.Find(t.Context(), somebody, w.server.URL+"/client.json"); codeOf(t, err) != Unavailable || w.requests.Load() != before {
		t.Errorf("a private address: %v", err)
	}
}

func writeJSON(rw http.ResponseWriter, body string) {
	rw.Header().Set("Content-Type", "application/json")
	_, _ = rw.Write([]byte(body))
}

// TestPrivateDocuments: the option for tests and closed networks admits a document at an
// address of this machine.
func TestPrivateDocuments(t *testing.T) {
	w := newWeb(t, "localhost")
	port := w.server.URL[strings.LastIndexByte(w.server.URL, ':'):]
	id := "https://localhost" + port + "/client.json"
	w.json("localhost"+port+"/client.json", strings.ReplaceAll(documentOf(""), agentID, id), "")
	r, _, _ := newRegistry(t, w, Options{Fetch: fetch.New(fetch.Options{RootCAs: w.roots, Private: true})})
	if c, err := r.Find(t.Context(), somebody, id); err != nil || c.Host() != "localhost"+port {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestDocumentsAreCached: a document is fetched again after the time in its Cache-Control,
// but not before five minutes and no later than a day. Without Cache-Control it is an hour.
func TestDocumentsAreCached(t *testing.T) {
	for caching, want := range map[string]time.Duration{
		"": time.Hour, "max-age=600": 10 * time.Minute, "max-age=1": 5 * time.Minute, "no-store": 5 * time.Minute, "max-age=9999999": 24 * time.Hour,
	} {
		w := newWeb(t, "agent.example")
		r, _, c := newRegistry(t, w, Options{})
		w.json(agentPlace, documentOf(""), caching)
		for _, step := range []struct {
			pass     time.Duration
			requests int64
		}{{0, 1}, {want - time.Microsecond, 1}, {time.Microsecond, 2}, {0, 2}} {
			c.advance(step.pass)
			if _, err := r.Find(t.Context(), somebody, agentID); err != nil || w.requests.Load() != step.requests {
				t.Errorf("%q after %v: %d requests, %v", caching, step.pass, w.requests.Load(), err)
			}
		}
	}
}

// TestChangedDocument: a new redirect URI counts, and a withdrawn one does not, as soon as
// the document was fetched again.
func TestChangedDocument(t *testing.T) {
	w := newWeb(t, "agent.example")
	r, _, c := newRegistry(t, w, Options{})
	w.json(agentPlace, documentOf(""), "max-age=600")
	if _, err := r.Find(t.Context(), somebody, agentID); err != nil {
		t.Fatal(err)
	}
	w.json(agentPlace, strings.Replace(documentOf(""), "/cb", "/new", 1), "max-age=600")
	c.advance(10 * time.Minute)
	client, err := r.Find(t.Context(), somebody, agentID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Redirect("https://agent.example/new"); err != nil {
		t.Error(err)
	}
	if _, err := client.Redirect("https://agent.example/cb"); err == nil {
		t.Error("the withdrawn URI counts")
	}
}

// TestLastGoodDocument: while fetching fails, the last good document of a used client works
// for seven days from the first failure, also after a restart; a failing host is asked at
// most once in 30 seconds. After that, the client is refused until its document is back.
func TestLastGoodDocument(t *testing.T) {
	for _, failure := range []http.HandlerFunc{
		http.NotFound,
		func(rw http.ResponseWriter, _ *http.Request) { writeJSON(rw, `{"client_id": "other"}`) },
	} {
		w := newWeb(t, "agent.example")
		r, store, c := newRegistry(t, w, Options{})
		w.json(agentPlace, documentOf(""), "max-age=600")
		find := func(want Code) {
			t.Helper()
			client, err := r.Find(t.Context(), somebody, agentID)
			if codeOf(t, err) != want {
				t.Errorf("%v, want %q", err, want)
			}
			if err == nil {
				if err := r.Used(t.Context(), client); err != nil {
					t.Error(err)
				}
			}
		}
		restart := func() {
			t.Helper()
			var err error
			if r, err = New(Options{Store: store, Fetch: w.fetcher(), Now: c.now}); err != nil {
				t.Fatal(err)
			}
		}
		find("")
		w.serve(agentPlace, failure)
		c.advance(20 * 24 * time.Hour) // nobody asks as long as a token is valid
		find("")
		before := w.requests.Load()
		find("")
		c.advance(retryAfter - time.Second)
		find("")
		if n := w.requests.Load() - before; n != 0 {
			t.Errorf("%d requests within %v", n, retryAfter)
		}
		c.advance(time.Second)
		find("")
		if n := w.requests.Load() - before; n != 1 {
			t.Errorf("%d requests after %v", n, retryAfter)
		}
		restart()
		c.advance(KeepFailing - time.Hour)
		find("")
		c.advance(time.Hour)
		if _, err := r.Find(t.Context(), somebody, agentID); err == nil {
			t.Error("the document is used after seven days of failures")
		}
		w.json(agentPlace, documentOf(""), "")
		c.advance(retryAfter)
		find("")
		if got := store.documents[agentID]; !got.FailedAt.IsZero() || !got.FetchedAt.Equal(c.now()) {
			t.Errorf("the store has %+v", got)
		}
	}
}

// TestOldDocument: a document that was not fetched for longer than a refresh token lives is
// not used without its host.
func TestOldDocument(t *testing.T) {
	w := newWeb(t, "agent.example")
	r, store, c := newRegistry(t, w, Options{})
	w.json(agentPlace, documentOf(""), "")
	client, err := r.Find(t.Context(), somebody, agentID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Used(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	w.serve(agentPlace, http.NotFound)
	c.advance(KeepDocument)
	if _, err := r.Find(t.Context(), somebody, agentID); codeOf(t, err) != Unavailable {
		t.Errorf("%v", err)
	}
	c.advance(time.Second)
	if n, err := r.Expire(t.Context()); n != 1 || err != nil || len(store.documents) > 0 {
		t.Errorf("%d rows expired, %v", n, err)
	}
}

// TestUnusedDocumentIsNotStored: only a client that got a grant takes a row of the store, so
// that strangers cannot fill the table.
func TestUnusedDocumentIsNotStored(t *testing.T) {
	w := newWeb(t, "agent.example")
	r, store, _ := newRegistry(t, w, Options{})
	w.json(agentPlace, documentOf(""), "")
	client, err := r.Find(t.Context(), somebody, agentID)
	if err != nil || len(store.documents) != 0 {
		t.Fatalf("%d rows, %v", len(store.documents), err)
	}
	if err := r.Used(t.Context(), client); err != nil || len(store.documents) != 1 {
		t.Errorf("%d rows, %v", len(store.documents), err)
	}
}

// TestOneFetchAtATime: all that wait for the same document share one fetch, and one of them
// leaving does not end the fetch.
func TestOneFetchAtATime(t *testing.T) {
	w := newWeb(t, "agent.example")
	r, _, _ := newRegistry(t, w, Options{})
	arrived, release := make(chan struct{}), make(chan struct{})
	w.serve(agentPlace, func(rw http.ResponseWriter, _ *http.Request) {
		close(arrived) // panics at a second request
		<-release
		writeJSON(rw, documentOf(""))
	})
	ctx, leave := newCancel(t)
	first := make(chan error)
	go func() {
		_, err := r.Find(ctx, somebody, agentID)
		first <- err
	}()
	<-arrived
	leave()
	if err := <-first; codeOf(t, err) != Unavailable {
		t.Errorf("the one that left: %v", err)
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if _, err := r.Find(t.Context(), somebody, agentID); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	wait.Wait()
	if n := w.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestStoreDown: without its store, a registry denies and does not guess.
func TestStoreDown(t *testing.T) {
	w := newWeb(t, "agent.example")
	r, store, _ := newRegistry(t, w, Options{})
	w.json(agentPlace, documentOf(""), "")
	store.down = ledger.ErrUnavailable
	for _, id := range []string{agentID, registeredPrefix + "01890a5d-ac96-774b-bcce-b302099a8057"} {
		if _, err := r.Find(t.Context(), somebody, id); codeOf(t, err) != Unavailable || !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := r.Register(t.Context(), somebody, []byte(`{"redirect_uris": ["http://localhost/"]}`)); codeOf(t, err) != Unavailable {
		t.Errorf("%v", err)
	}
}

// TestFullTable: when the store has as many documents as it may, further clients work
// without a row.
func TestFullTable(t *testing.T) {
	w := newWeb(t, "agent.example")
	r, store, _ := newRegistry(t, w, Options{})
	w.json(agentPlace, documentOf(""), "")
	for i := range MaxDocuments {
		store.documents[fmt.Sprint(i)] = Document{}
	}
	client, err := r.Find(t.Context(), somebody, agentID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Used(t.Context(), client); err != nil || len(store.documents) != MaxDocuments {
		t.Errorf("%d rows, %v", len(store.documents), err)
	}
}

// TestStoredDocument: a node that never fetched a document uses the store's, as long as it is
// fresh, even if a clock was wrong. A row that today's rules refuse is fetched again.
func TestStoredDocument(t *testing.T) {
	for name, row := range map[string]struct {
		body     string
		fresh    time.Duration
		pass     time.Duration
		requests int64
	}{
		"fresh":       {documentOf(""), time.Hour, 59 * time.Minute, 0},
		"stale":       {documentOf(""), time.Hour, time.Hour, 1},
		"wrong clock": {documentOf(""), 1000 * time.Hour, maxFresh, 1},
		"refused":     {`{"client_id": "` + agentID + `", "redirect_uris": ["http://agent.example/"]}`, time.Hour, 0, 1},
	} {
		w := newWeb(t, "agent.example")
		r, store, c := newRegistry(t, w, Options{})
		w.json(agentPlace, documentOf(""), "")
		store.documents[agentID] = Document{URL: agentID, Body: []byte(row.body), FetchedAt: c.now(), FreshTo: c.now().Add(row.fresh)}
		if row.pass > 0 {
			if _, err := r.Find(t.Context(), somebody, agentID); err != nil || w.requests.Load() > 0 {
				t.Errorf("%s: %d requests, %v", name, w.requests.Load(), err)
			}
		}
		c.advance(row.pass)
		if _, err := r.Find(t.Context(), somebody, agentID); err != nil || w.requests.Load() != row.requests {
			t.Errorf("%s: %d requests, %v", name, w.requests.Load(), err)
		}
	}
}

// TestErrors: each code has its status, and a reason has only characters that a response may
// have.
func TestErrors(t *testing.T) {
	for code, status := range map[Code]int{
		InvalidClient: 401, InvalidRequest: 400, InvalidRedirectURI: 400, InvalidMetadata: 400, TooMany: 429, Unavailable: 503,
	} {
		if got := refuse(code, "x").Status(); got != status {
			t.Errorf("%s: %d", code, got)
		}
	}
	if got := refuse(InvalidMetadata, "a\"b\\c\nd\x00é").Reason; got != "a'b'c'd'''" {
		t.Errorf("%q", got)
	}
}

// TestRulesOfTheOperator: the operator can refuse clients by id and by host, and all
// documents but those of some hosts.
func TestRulesOfTheOperator(t *testing.T) {
	w := newWeb(t, "agent.example")
	w.json(agentPlace, documentOf(""), "")
	for name, row := range map[string]struct {
		o  Options
		ok bool
	}{
		"nothing":      {Options{}, true},
		"this id":      {Options{Denied: []string{agentID}}, false},
		"this host":    {Options{Denied: []string{"agent.example"}}, false},
		"other host":   {Options{Denied: []string{"example"}}, true},
		"only others":  {Options{DocumentHosts: []string{"claude.ai"}}, false},
		"this one too": {Options{DocumentHosts: []string{"claude.ai", "agent.example"}}, true},
		"no documents": {Options{NoDocuments: true}, false},
		"declared":     {Options{NoDocuments: true, Static: []Declared{{ID: agentID, RedirectURIs: []string{"https://agent.example/cb"}}}}, true},
	} {
		r, _, _ := newRegistry(t, w, row.o)
		if _, err := r.Find(t.Context(), somebody, agentID); (err == nil) != row.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMemoryOfDocumentsIsBounded: however many documents are fetched, those in memory stay
// within the bounds, and the most recent ones remain.
func TestMemoryOfDocumentsIsBounded(t *testing.T) {
	l := newLRU(10, 100_000)
	for i := range 100 {
		l.put(&document{row: Document{URL: fmt.Sprint(i), Body: make([]byte, 100)}})
	}
	if l.order.Len() != 10 || len(l.byURL) != 10 || l.get("99") == nil || l.get("89") != nil {
		t.Errorf("%d documents", l.order.Len())
	}
	for i := range 10 {
		l.put(&document{row: Document{URL: fmt.Sprint("large", i), Body: make([]byte, 20_000)}})
	}
	if l.bytes > 100_000 || l.get("large9") == nil || l.order.Len() != 2 {
		t.Errorf("%d bytes in %d documents", l.bytes, l.order.Len())
	}
	l.put(&document{row: Document{URL: "large9"}})
	total := 0
	for _, e := range l.byURL {
		total += e.Value.(*document).size()
	}
	if total != l.bytes {
		t.Errorf("%d bytes are counted, %d are there", l.bytes, total)
	}
}
