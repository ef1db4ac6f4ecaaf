package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/console/connect"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ops"
)

// keysData is the data of keys.html.
type keysData struct {
	listing[admin.KeyView]
	Kinds  []string
	Range  string // the time range over which calls are summed up
	Ranges []string
}

func (v *visit) keys() error {
	filters := v.filters("kind", "expiring", "sort")
	if v.account != "" {
		filters.Set("account", v.account)
	} else if ref := v.filters("account"); len(ref) > 0 {
		filters.Set("account", ref.Get("account"))
	}
	filters.Set("usage_since", v.timeRange())
	rows, err := list[admin.KeyView](v, "keys", filters)
	if err != nil {
		return err
	}
	return v.show("keys", "keys", "Keys", keysData{rows, keys.Kinds(), v.timeRange(), ranges})
}

// newKeyData is the data of newkey.html.
type newKeyData struct {
	Account string
	Kinds   []string
	Servers []ops.ServerView
}

// memberKinds are the kinds of keys that an owner may create and change. Keys of the
// other kinds act for the operator or for a server.
var memberKinds = []string{keys.Agent.String(), keys.Personal.String()}

func (v *visit) newKeyPage() error {
	kinds := memberKinds
	if v.operator() {
		kinds = keys.CreatedKinds()
	}
	return v.show("newkey", "keys", "Create a key", newKeyData{v.account, kinds, v.serverList()})
}

// serverList returns the servers in the running config, or nil if they are not known.
// Every visitor may see the names and addresses, because the holder of a key needs
// them.
func (v *visit) serverList() []ops.ServerView {
	found, err := perform[admin.List[ops.ServerView]](v, identity.Operate, http.MethodGet, "servers", nil, nil)
	if err != nil {
		return nil
	}
	return found.Items
}

// maxMemberKeys is the highest number of usable keys that an account can reach through
// keys that owners create.
const maxMemberKeys = 100

func (v *visit) createKey() error {
	form := v.r.PostForm
	caps, err := v.caps()
	if err != nil {
		return err
	}
	n := admin.NewKey{
		Account: v.account, Kind: form.Get("kind"), Name: form.Get("name"), Servers: form["server"],
		Test: form.Get("test") != "", Caps: caps, ExpiresIn: strings.TrimSpace(form.Get("expires_in")),
	}
	if rate := strings.TrimSpace(form.Get("rate")); rate != "" {
		n.Rate = &rate
	}
	if v.operator() {
		n.Scopes = strings.Fields(form.Get("scopes"))
	} else if err := v.checkMemberKey(&n); err != nil {
		return err
	}
	k, err := post[admin.KeyView](v, "keys", n)
	if err != nil {
		return err
	}
	return v.showSecret("The key is ready", k)
}

// checkMemberKey refuses keys that only the operator may create. A key that an owner
// creates gets the scopes that the config gives by default. Other scopes give access to
// tools, so the operator decides about them.
func (v *visit) checkMemberKey(n *admin.NewKey) error {
	if !slices.Contains(memberKinds, n.Kind) {
		return &inField{&failure{http.StatusForbidden, "You cannot create a key of this kind", "Owners create keys of the kinds " + strings.Join(memberKinds, " and ") + ". Ask the operator for others."}, "kind"}
	}
	usable := 0
	err := each(v, "keys", url.Values{"account": {v.account}}, func(k admin.KeyView) bool {
		if k.State == "active" { // the list contains deleted keys, too
			usable++
		}
		return usable < maxMemberKeys
	})
	if err != nil {
		return err
	}
	if usable >= maxMemberKeys {
		return &failure{http.StatusConflict, "The account has too many keys", "Delete keys that you no longer use, or ask the operator for more."}
	}
	return nil
}

// secretData is the data of secret.html.
type secretData struct {
	Key     admin.KeyView
	Connect []connect.Connection
}

// showSecret shows the secret of a new key. The secret is in no other response, and the
// headers of this response forbid caches to keep it.
func (v *visit) showSecret(title string, k *admin.KeyView) error {
	data := secretData{Key: *k}
	if kind, err := keys.ParseKind(k.Kind); err == nil && kind.Rules().Pays {
		for _, s := range v.serverList() {
			if s.URL != "" && (len(k.Servers) == 0 || slices.Contains(k.Servers, s.Name)) {
				data.Connect = append(data.Connect, connect.To(s.Name, s.URL, k.Secret))
			}
		}
	}
	return v.show("secret", "keys", title, data)
}

// keyData is the data of key.html.
type keyData struct {
	Key     admin.KeyView
	Charges []admin.ChargeView
	Calls   []admin.CallView
	Recent  recentUsage
	History []event
}

func (v *visit) keyPage() error {
	charges, err := get[admin.List[admin.ChargeView]](v, "charges", url.Values{"account": {v.account}, "key": {v.key.ID}, "limit": {recentRows}})
	if err != nil {
		return err
	}
	calls, err := v.latestCalls(url.Values{"account": {v.account}, "key": {v.key.ID}})
	if err != nil {
		return err
	}
	recent, err := v.recent(url.Values{"account": {v.account}, "key": {v.key.ID}})
	if err != nil {
		return err
	}
	history, err := v.history("key", v.key.ID)
	if err != nil {
		return err
	}
	title := v.key.Name
	if title == "" {
		title = "Key " + v.key.Hint
	}
	return v.show("key", "keys", title, keyData{*v.key, charges.Items, calls, recent, history})
}

// updateKey changes the name and the limits of a key. Only an operator may change its
// scopes, servers and expiry, because the operator may have given the key a scope for
// one server or for a limited time only.
func (v *visit) updateKey() error {
	form := v.r.PostForm
	caps, err := v.caps()
	if err != nil {
		return err
	}
	name, rate := form.Get("name"), strings.TrimSpace(form.Get("rate"))
	if rate == "" {
		rate = keys.Rate{}.String()
	}
	asked := admin.KeyChange{Name: &name, Caps: caps, Rate: &rate}
	if v.operator() {
		scopes, servers := strings.Fields(form.Get("scopes")), strings.Fields(form.Get("servers"))
		asked.Scopes, asked.Servers = &scopes, &servers
		if end := strings.TrimSpace(form.Get("expires_in")); end != "" {
			asked.ExpiresIn = &end
		}
	}
	if _, err := change[admin.KeyView](v, http.MethodPatch, "keys/"+v.key.ID, nil, asked); err != nil {
		return err
	}
	return v.done("key", "keys", v.key.ID)
}

func (v *visit) rotateKey() error {
	k, err := post[admin.KeyView](v, "keys/"+v.key.ID+"/rotate", admin.Rotation{Grace: v.r.PostForm.Get("grace")})
	if err != nil {
		return err
	}
	return v.showSecret("The key has a successor", k)
}

func (v *visit) disableKey() error { return v.switchKey("disable", "disabled") }

// enableKey enables a disabled key. A member may enable the key only if a member
// disabled it; a key that an operator disabled stays disabled.
func (v *visit) enableKey() error {
	if !v.operator() {
		ours, err := v.disabledByMember()
		if err != nil {
			return err
		}
		if !ours {
			return &failure{http.StatusForbidden, "The key stays disabled", "An operator has disabled it. Ask the operator to enable it."}
		}
	}
	return v.switchKey("enable", "enabled")
}

// sameAct is the largest difference between the time of a change in the key and in its
// audit row. The two times are read from the clock one after the other.
const sameAct = time.Minute

// disabledByMember reports whether, according to the audit log, a member disabled the
// key. A restore disables keys without writing an audit row for each. So the audit row
// must have about the time at which the key was disabled.
func (v *visit) disabledByMember() (bool, error) {
	if v.key.DisabledAt == nil {
		return true, nil
	}
	filters := url.Values{"key": {v.key.ID}, "action": {ops.DisableKey.ID}, "limit": {"1"}}
	found, err := perform[admin.List[admin.AuditView]](v, identity.View, http.MethodGet, "audit", filters, nil)
	if err != nil || len(found.Items) == 0 {
		return false, err
	}
	row := found.Items[0]
	if row.At.Sub(*v.key.DisabledAt).Abs() > sameAct || !strings.HasPrefix(row.Actor, personPrefix) {
		return false, nil
	}
	p, err := v.people.Person(v.ctx, row.Actor)
	var refused *admin.Error
	if errors.As(err, &refused) { // the person was removed, so its rights are not known
		return false, nil
	}
	return err == nil && !p.Operator, err
}

func (v *visit) switchKey(operation, notice string) error {
	if _, err := post[admin.KeyView](v, "keys/"+v.key.ID+"/"+operation, nil); err != nil {
		return err
	}
	return v.done(notice, "keys", v.key.ID)
}

// deleteKey deletes the key if the form repeats the last four characters of the key's
// hint.
func (v *visit) deleteKey() error {
	if want := confirmation(v.key); strings.TrimSpace(v.r.PostForm.Get("confirm")) != want {
		return &inField{&failure{http.StatusBadRequest, "The key was not deleted", "To confirm, type " + want + ", the end of the key."}, "confirm"}
	}
	if _, err := change[admin.KeyView](v, http.MethodDelete, "keys/"+v.key.ID, nil, nil); err != nil {
		return err
	}
	return v.done("deleted", "keys", v.key.ID)
}

// confirmation returns the text that a person must enter to delete a key.
func confirmation(k *admin.KeyView) string {
	return k.Hint[max(0, len(k.Hint)-4):]
}

// Confirmation returns the text that a person must enter to delete the key.
func (d keyData) Confirmation() string { return confirmation(&d.Key) }
