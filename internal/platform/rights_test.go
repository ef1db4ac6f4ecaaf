package platform

import (
	"encoding/hex"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	ids "github.com/fareboxhq/farebox/internal/id"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/ops"
	"github.com/fareboxhq/farebox/internal/wire"
)

// tableOf returns the rows of the table in docs/api.md that has the given columns.
func tableOf(t *testing.T, columns ...string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	head := "| " + strings.Join(columns, " | ") + " |\n"
	_, table, found := strings.Cut(string(text), head)
	if !found {
		t.Fatalf("docs/api.md has no table with %s", head)
	}
	for i, line := range strings.Split(table, "\n") {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		if len(cells) != len(columns) {
			t.Fatalf("a row of %d cells: %s", len(cells), line)
		}
		if i > 0 {
			rows = append(rows, cells)
		}
	}
	return rows
}

// TestKindsAreAsDocumented checks that the table of kinds in docs/api.md matches the
// platform and lists all of its operations.
func TestKindsAreAsDocumented(t *testing.T) {
	s := newSite(t)
	documented := map[string]string{}
	columns := []string{"gateway", "provider", "admin"}
	for _, row := range tableOf(t, "operations", "gateway", "provider", "admin", "agent, personal, access token") {
		var kinds []string
		for i, kind := range columns {
			if row[1+i] == "yes" {
				kinds = append(kinds, kind)
			}
		}
		if row[4] == "yes" {
			kinds = append(kinds, "agent personal access")
		}
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[0], -1) {
			documented[name[1]] = strings.Join(kinds, " ")
		}
	}
	for _, e := range s.endpoints() { // TestWhoMayDoWhat checks that the kinds of each endpoint are right
		name := e.method + " " + e.path
		if documented[name] != e.kinds {
			t.Errorf("%s is for %q, documented is %q", name, e.kinds, documented[name])
		}
		delete(documented, name)
	}
	if len(documented) > 0 {
		t.Errorf("there is no %v", documented)
	}
}

// askers are the names of the keys that make the requests, in the order of the
// columns of the table of rights in docs/api.md.
var askers = []string{"gateway", "test gateway", "provider", "test provider"}

// walk tries the operations in one cell of the table of rights. asker is the name of
// the key that performs them. about is the text in the row's second column, such as
// "its server".
type walk struct {
	*site
	asker string
	about string
}

// TestRightsAreAsDocumented checks that the rights match the table in docs/api.md,
// which lists them by operation, kind of key, ownership and environment. It tries every
// cell.
func TestRightsAreAsDocumented(t *testing.T) {
	s := newSite(t)
	s.newKey("test gateway", admin.NewKey{Account: "operator", Kind: "gateway", Servers: []string{"weather"}, Test: true})
	s.newKey("other gateway", admin.NewKey{Account: "operator", Kind: "gateway", Servers: []string{"weather"}})
	s.newKey("other provider", admin.NewKey{Account: "acme", Kind: "provider"})
	cells := 0
	for _, row := range tableOf(t, "operations", "about", "gateway", "gateway, test", "provider", "provider, test") {
		for i, asker := range askers {
			for _, operation := range strings.Split(row[0], ", ") {
				want := row[2+i]
				if want == "" {
					continue
				}
				cells++
				w := &walk{site: s, asker: asker, about: row[1]}
				if got := w.try(operation); strconv.Itoa(got) != w.status(operation, want) {
					t.Errorf("%s: %s by %s: %d, want %s", row[1], operation, asker, got, want)
				}
			}
		}
	}
	if cells < 180 {
		t.Errorf("only %d cells were tried", cells)
	}
}

// status returns the status that the given operation must have. A row of the table of
// rights may list several operations. want is the status in the row's cell. It is the
// status of the row's first operation; if it means success, some of the other
// operations have another status.
func (w *walk) status(operation, want string) string {
	switch {
	case want == "201" && operation == "capture with an order", want == "204" && operation == "show a binding":
		return "200"
	case want == "200" && (operation == "renew" || operation == "release"):
		return "204"
	}
	return want
}

func (s *site) newKey(name string, k admin.NewKey) {
	s.t.Helper()
	k.Name = name
	key, secret, err := s.service.CreateKey(s.t.Context(), admin.Actor{}, k)
	if err != nil {
		s.t.Fatal(err)
	}
	s.secrets[name], s.ids[name] = secret, key.ID
}

// try performs the operation and returns its status.
func (w *walk) try(operation string) int {
	w.t.Helper()
	switch operation {
	case "lookup":
		return w.lookup()
	case "bind", "show a binding":
		return w.binding(operation)
	case "charge":
		return w.chargeNow()
	case "reserve", "capture with an order":
		return w.order(operation)
	case "renew", "capture", "release":
		id := w.made(strings.TrimPrefix(w.about, "made by "))
		switch operation {
		case "renew":
			return w.send(w.asker, "POST", "/reservations/"+id+"/renew", nil).status
		case "release":
			return w.send(w.asker, "DELETE", "/reservations/"+id, nil).status
		}
		return w.send(w.asker, "POST", "/reservations/"+id+"/capture", wire.Capture{}).status
	case "refund":
		return w.refund()
	}
	w.t.Fatalf("the test does not know %q", operation)
	return 0
}

func (w *walk) lookup() int {
	key := map[string]string{
		"an agent key, live": "agent", "an agent key, test": "test agent", "a personal key": "personal",
		"a key that lists another server": "bound agent", "an admin key": "admin", "a provider key": "provider", "a gateway key": "mail gateway",
	}[w.about]
	digest := keys.DigestOf(w.secret(key))
	return w.send(w.asker, "POST", "/keys/lookup", wire.Lookup{Digest: hex.EncodeToString(digest[:])}).status
}

// secret returns the secret of a key, which must exist.
func (w *walk) secret(key string) string {
	w.t.Helper()
	if w.secrets[key] == "" {
		w.t.Fatalf("the test does not know what %q is", w.about)
	}
	return w.secrets[key]
}

func (w *walk) binding(operation string) int {
	server := map[string]string{"its server": "weather", "another server": "mail"}[w.about]
	mark := strings.Repeat("ef", 16)
	b := ledger.Binding{Server: server, Account: w.accounts["alice"], Until: w.platform.o.Now().Add(time.Hour)}
	for i := range b.HandleHash {
		b.HandleHash[i] = 0xef
	}
	if operation == "bind" {
		return w.send(w.asker, "PUT", "/bindings/"+mark, wire.BindingOf(b)).status
	}
	if err := w.store.Bind(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
	return w.send(w.asker, "GET", "/bindings/"+mark+"?server="+server, nil).status
}

func (w *walk) chargeNow() int {
	c := w.request("agent")
	switch w.about {
	case "its server, an agent's token, test":
		c.Token = w.secrets["test agent"]
	case "another provider's server":
		c.Server = "mail"
	}
	return w.send(w.asker, "POST", "/charge", c).status
}

// order sends a reservation, or a capture without a reservation.
func (w *walk) order(operation string) int {
	o := wire.Order{ID: ids.New("chg_"), Server: "weather", Tool: "get_forecast", Amount: 1000}
	agent := "agent"
	if strings.HasPrefix(w.asker, "test ") || strings.Contains(w.about, ", test,") {
		agent = "test agent"
	}
	gateway := strings.HasSuffix(w.asker, "gateway")
	name := func(key string) {
		if o.Key, o.Token = w.ids[key], ""; !gateway {
			o.Key, o.Token = "", w.secrets[key]
		}
	}
	prove := func(key string) {
		if name(key); gateway {
			o.Proof = w.proof(w.asker, key)
		}
	}
	ended := func(end func(id string) error) {
		w.newKey("ending", admin.NewKey{Account: "alice", Test: agent == "test agent"})
		prove("ending")
		if err := end(w.ids["ending"]); err != nil {
			w.t.Fatal(err)
		}
	}
	switch about := strings.TrimPrefix(w.about, "its server, "); about {
	case "an agent key, live, proved or by its token":
		prove("agent")
	case "an agent key, test, proved or by its token":
		prove("test agent")
	case "an agent key by its id alone":
		o.Key = w.ids[agent]
	case "an agent key that another gateway has proved":
		o.Key, o.Proof = w.ids[agent], w.proof("other gateway", agent)
	case "a key of another account than the proved one":
		o.Key, o.Proof = w.ids["poor agent"], w.proof(w.asker, agent)
	case "a key that was deleted since":
		ended(func(id string) error { _, err := w.service.DeleteKey(w.t.Context(), admin.Actor{}, id); return err })
	case "a key that was disabled since":
		ended(func(id string) error { _, err := w.service.DisableKey(w.t.Context(), admin.Actor{}, id); return err })
	case "a key that now lists another server":
		ended(func(id string) error {
			_, err := w.service.UpdateKey(w.t.Context(), admin.Actor{}, id, admin.KeyChange{Servers: &[]string{"mail"}})
			return err
		})
	case "another server":
		prove(agent)
		o.Server = "mail"
	default:
		w.t.Fatalf("the test does not know what %q is", about)
	}
	if operation == "reserve" {
		return w.send(w.asker, "POST", "/reservations", o).status
	}
	return w.send(w.asker, "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Order: &o}).status
}

// made makes a reservation and returns its id. The caller of the reservation is given
// in the words of the table of rights.
func (w *walk) made(by string) string {
	w.t.Helper()
	id := ids.New("chg_")
	o := wire.Order{ID: id, Server: "weather", Tool: "get_forecast", Amount: 1000}
	reserve := func(by, agent string) string {
		w.t.Helper()
		if strings.HasSuffix(by, "gateway") {
			o.Key, o.Proof = w.ids[agent], w.proof(by, agent)
		} else {
			o.Token = w.secrets[agent]
		}
		do[wire.Reserved](w.site, 201, by, "POST", "/reservations", o)
		return id
	}
	switch by {
	case "the gateway key, live":
		return reserve("gateway", "agent")
	case "the gateway key, of a test agent":
		return reserve("gateway", "test agent")
	case "its predecessor, which was rotated":
		w.secrets["former gateway"] = w.secrets["gateway"]
		reserve("former gateway", "agent")
		k, secret, err := w.service.RotateKey(w.t.Context(), admin.Actor{}, w.ids["gateway"], admin.Rotation{})
		if err != nil {
			w.t.Fatal(err)
		}
		w.ids["gateway"], w.secrets["gateway"] = k.ID, secret
		return id
	case "the test gateway key":
		return reserve("test gateway", "test agent")
	case "another gateway key, for the same server":
		return reserve("other gateway", "agent")
	case "the provider key, live":
		return reserve("provider", "agent")
	case "the test provider key":
		return reserve("test provider", "test agent")
	case "another key of the provider":
		return reserve("other provider", "agent")
	case "the platform's own process":
		server := w.platform.o.Servers["weather"]
		own := server.order(&keys.Key{Account: w.accounts["alice"], ID: w.ids["agent"], Lineage: w.ids["agent"]}, "weather", "t", 1000)
		if _, err := w.store.Reserve(w.t.Context(), id, own, ledger.Terms{}); err != nil {
			w.t.Fatal(err)
		}
		return id
	case "nobody has made it":
		return id
	}
	w.t.Fatalf("the test does not know %q", by)
	return ""
}

func (w *walk) refund() int {
	by, late := strings.CutSuffix(strings.TrimPrefix(w.about, "captured by "), ", two hours ago")
	if by == "the gateway key" || by == "the provider key" {
		by += ", live"
	}
	id := w.made(by)
	if _, _, err := w.store.Capture(w.t.Context(), id, nil); err != nil {
		w.t.Fatal(err)
	}
	if late {
		w.moved.Store(int64(2*time.Hour + time.Second))
		defer w.moved.Store(0)
	}
	return w.send(w.asker, "POST", "/reservations/"+id+"/refund", OwnRefund{Reason: "r"}).status
}

// TestAttacksWithIDsAlone checks that a gateway that knows only ids can neither move
// credits nor see keys. The same holds for a provider that knows the ids of a gateway.
// The table of rights covers all of this; here each attack is a step of its own.
func TestAttacksWithIDsAlone(t *testing.T) {
	s := newSite(t)
	s.newKey("evil gateway", admin.NewKey{Account: "operator", Kind: "gateway", Servers: []string{"weather", "mail"}})
	mine := s.order("agent")
	do[wire.Reserved](s, 201, "gateway", "POST", "/reservations", mine)
	do[any](s, 200, "admin", "DELETE", "/keys/"+s.ids["poor agent"], nil)

	for _, key := range []string{"agent", "poor agent", "bound agent", "capped agent", "personal", "access"} {
		o := wire.Order{ID: ids.New("chg_"), Key: s.ids[key], Server: "weather", Tool: "t", Amount: 1000}
		s.refused(401, wire.TokenInvalid, "evil gateway", "POST", "/reservations/"+o.ID+"/capture", wire.Capture{Order: &o})
		for _, forged := range []string{s.proof("gateway", "agent"), s.ids[key] + ".", s.ids[key] + "." + strings.Repeat("A", 32), "."} {
			o.Proof = forged
			s.refused(401, wire.TokenInvalid, "evil gateway", "POST", "/reservations", o)
		}
	}
	for _, thief := range []string{"evil gateway", "provider"} {
		s.refused(404, wire.NotFound, thief, "POST", "/reservations/"+mine.ID+"/capture", wire.Capture{})
		s.refused(404, wire.NotFound, thief, "DELETE", "/reservations/"+mine.ID, nil)
	}
	if got := s.available("alice", false); got != "9.90" {
		t.Errorf("alice has %s left, want what the one reservation leaves", got)
	}
	do[wire.Captured](s, 200, "gateway", "POST", "/reservations/"+mine.ID+"/capture", wire.Capture{})
	refund := OwnRefund{Reason: "r"}
	s.refused(404, wire.NotFound, "evil gateway", "POST", "/reservations/"+mine.ID+"/refund", refund)
	s.moved.Store(int64(ledger.SettleTime + time.Second))
	s.refused(404, wire.NotFound, "gateway", "POST", "/reservations/"+mine.ID+"/refund", refund)
	s.moved.Store(0)
	do[wire.Refunded](s, 200, "gateway", "POST", "/reservations/"+mine.ID+"/refund", refund)
	// A gateway that tries to make its refund again learns that the refund was made,
	// however late it asks.
	s.moved.Store(int64(ledger.SettleTime + time.Second))
	s.refused(409, wire.Settled, "gateway", "POST", "/reservations/"+mine.ID+"/refund", refund)
	s.refused(404, wire.NotFound, "evil gateway", "POST", "/reservations/"+mine.ID+"/refund", refund)
	s.moved.Store(0)

	// A gateway cannot touch a binding of another server.
	mark := strings.Repeat("ab", 16)
	b := wire.Binding{Server: "weather", HandleHash: mark, Account: s.accounts["alice"], Until: s.platform.o.Now().Add(time.Hour), Payload: []byte("p")}
	do[ops.None](s, 204, "gateway", "PUT", "/bindings/"+mark, b)
	b.Server, b.Account = "mail", s.accounts["poor"]
	do[ops.None](s, 204, "mail gateway", "PUT", "/bindings/"+mark, b)
	if got := do[wire.Binding](s, 200, "gateway", "GET", "/bindings/"+mark+"?server=weather", nil); got.Account != s.accounts["alice"] {
		t.Errorf("the binding is now %+v", got)
	}
	b.Server = "weather"
	s.refused(403, wire.ServerForbidden, "mail gateway", "PUT", "/bindings/"+mark, b)
	s.refused(403, wire.ServerForbidden, "mail gateway", "GET", "/bindings/"+mark+"?server=weather", nil)
}

// TestProofs checks that a proof is valid for wire.ProofLife, and only for the
// lineage of the gateway's key: it survives a rotation, but is never valid for
// another gateway. A proof of one key of an account is good for other keys of the
// account, and a proof of a successor is good for its expired predecessor.
func TestProofs(t *testing.T) {
	s := newSite(t)
	proof := s.proof("gateway", "agent")
	reserve := func(key, proof string) wire.Order {
		return wire.Order{ID: ids.New("chg_"), Key: s.ids[key], Proof: proof, Server: "weather", Tool: "t", Amount: 1000}
	}
	good := func(by, key, proof string) {
		t.Helper()
		do[wire.Reserved](s, 201, by, "POST", "/reservations", reserve(key, proof))
	}
	bad := func(by, key, proof string) {
		t.Helper()
		s.refused(401, wire.TokenInvalid, by, "POST", "/reservations", reserve(key, proof))
	}
	good("gateway", "agent", proof)
	good("gateway", "personal", proof) // this key belongs to the account of the proven key
	bad("gateway", "test agent", proof)
	bad("gateway", "poor agent", proof)
	s.moved.Store(int64(wire.ProofLife - time.Minute))
	good("gateway", "agent", proof)
	s.moved.Store(int64(wire.ProofLife + time.Second))
	bad("gateway", "agent", proof)
	s.moved.Store(0)

	next := do[admin.KeyView](s, 201, "admin", "POST", "/keys/"+s.ids["gateway"]+"/rotate", admin.Rotation{})
	s.secrets["next gateway"] = next.Secret
	good("next gateway", "agent", proof)
	heir := do[admin.KeyView](s, 201, "admin", "POST", "/keys/"+s.ids["agent"]+"/rotate", admin.Rotation{})
	s.secrets["heir"], s.ids["heir"] = heir.Secret, heir.ID
	s.refused(401, wire.TokenExpired, "next gateway", "POST", "/reservations", reserve("agent", proof))
	proof = s.proof("next gateway", "heir")
	good("next gateway", "agent", proof)
	do[any](s, 200, "admin", "DELETE", "/keys/"+s.ids["agent"], nil)
	bad("next gateway", "agent", proof)
	good("next gateway", "heir", proof)

	// Proofs of another installation are invalid.
	s.platform.o.Sealer = others{}
	bad("next gateway", "heir", proof)
}

// others is a sealer of another installation.
type others struct{}

func (others) Tag([]byte, ...string) []byte        { return make([]byte, 16) }
func (others) Opens(_, _ []byte, _ ...string) bool { return false }

// TestChangesShowNoDigest checks that the changes that gateways receive are not
// enough to look the keys up.
func TestChangesShowNoDigest(t *testing.T) {
	s := newSite(t)
	begin := do[wire.Revocations](s, 200, "gateway", "POST", "/keys/revocations/follow", wire.Follow{Node: "n", Seen: -1, LeaseMS: 1000})
	s.newKey("fresh", admin.NewKey{Account: "alice"})
	told := do[wire.Revocations](s, 200, "gateway", "POST", "/keys/revocations/follow", wire.Follow{Node: "n", Seen: begin.Position, LeaseMS: 1000})
	digest := keys.DigestOf(s.secrets["fresh"])
	if want := hex.EncodeToString(digest[:keys.HalfDigest]); !slices.Equal(told.Digests, []string{want}) {
		t.Errorf("told %q, want %q", told.Digests, want)
	}
}
