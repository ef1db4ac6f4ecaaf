package console

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
)

// event is a row of the audit log on the page of the object that was changed.
type event struct {
	At     time.Time
	By     string // as the visitor may know the author
	Action string
	Detail json.RawMessage // nil for members: reasons are notes of operators
}

// historyRows is the number of changes on the page of an object.
const historyRows = "20"

// history returns the latest changes of an object, newest first. A parameter of the
// audit log, such as "key", selects the object by its id; see narrow.
func (v *visit) history(by, id string) ([]event, error) {
	filters := url.Values{by: {id}, "limit": {historyRows}}
	found, err := get[admin.List[admin.AuditView]](v, "audit", filters)
	if err != nil {
		return nil, err
	}
	names := v.authors(found.Items)
	events := make([]event, len(found.Items))
	for i, row := range found.Items {
		events[i] = event{At: row.At, By: names[row.Actor], Action: row.Action}
		if v.operator() {
			events[i].Detail = row.Detail
		}
	}
	return events, nil
}

// authors returns a name for each actor of the rows.
func (v *visit) authors(rows []admin.AuditView) map[string]string {
	names := make(map[string]string)
	for _, row := range rows {
		if _, known := names[row.Actor]; known {
			continue
		}
		names[row.Actor] = v.nameOf(row.Actor)
	}
	return names
}

// nameOf returns the name of an actor as the visitor may know it.
func (v *visit) nameOf(actor string) string {
	if v.operator() {
		return v.author(actor)
	}
	return v.authorForMember(actor)
}

// author returns the e-mail address of an actor that is a person. It returns other
// actors unchanged.
func (v *visit) author(actor string) string {
	if strings.HasPrefix(actor, personPrefix) {
		if p, err := v.people.Person(v.ctx, actor); err == nil {
			return p.Email
		}
	}
	return actor
}

// The prefixes of the ids of persons and keys. The audit log uses these ids as actors.
const (
	personPrefix = "psn_"
	keyPrefix    = "key_"
)

// The names of authors that members see in place of their e-mail addresses.
const (
	anOperator    = "an operator"
	formerMember  = "a former member"
	removedPerson = "a removed person"
)

// authorForMember names the author of a change for a visitor that is not an operator.
// Only a member of the account that admit has found learns the e-mail addresses of the
// account's other members and the account's own keys. All operators have the same name.
func (v *visit) authorForMember(actor string) string {
	ours := v.role(v.account) != ""
	switch {
	case strings.HasPrefix(actor, personPrefix):
		p, err := v.people.Person(v.ctx, actor)
		switch {
		case err != nil:
			return removedPerson
		case p.Operator:
			return anOperator
		case ours && p.Role(v.account) != "":
			return p.Email
		}
		return formerMember
	case actor == "gateway" || actor == "config":
		return "the " + actor
	case actor == "oauth": // the authorization server, which ends the grants of keys that have ended
		return "the gateway"
	case v.grant != nil && actor == "oauth client "+v.grant.Client: // as in the package internal/oauth/server
		return "the app"
	case ours && strings.HasPrefix(actor, keyPrefix):
		k, err := perform[admin.KeyView](v, identity.View, http.MethodGet, "keys/"+pathSegment(actor), nil, nil)
		if err == nil && k.Account == v.account {
			return "the key " + k.Hint
		}
	}
	return anOperator
}
