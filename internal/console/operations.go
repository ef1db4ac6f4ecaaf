package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/ops"
)

// perform performs an operation with the given rights. The audit log names the visitor
// as its author. path is the operation's path below ops.AdminBase.
func perform[T any](v *visit, rights identity.Right, method, path string, query url.Values, body any) (*T, error) {
	by := identity.Principal{Subject: v.who.Person.ID, Rights: rights, Client: clientOf(v.r).Address}
	if by.Subject == "" {
		by.Subject = "console"
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	client := ops.Client{HTTP: v.c.client, Host: "console"}
	raw, err := client.Do(identity.With(v.ctx, by), method, path, body)
	if err != nil {
		return nil, err
	}
	out := new(T)
	if err := json.Unmarshal(raw, out); err != nil {
		return nil, fmt.Errorf("reading the answer of %s %s: %w", method, path, err)
	}
	return out, nil
}

// get performs an operation that reads, with the visitor's rights.
func get[T any](v *visit, path string, query url.Values) (*T, error) {
	return change[T](v, http.MethodGet, path, query, nil)
}

// post performs an operation by POST, with the visitor's rights.
func post[T any](v *visit, path string, body any) (*T, error) {
	return change[T](v, http.MethodPost, path, nil, body)
}

// errNarrow means that a page of a member called an operation on more than the member's
// account. That is a bug in the page. The operation is not performed.
var errNarrow = errors.New("a page asked for more than the account that the visitor was admitted to")

func change[T any](v *visit, method, path string, query url.Values, body any) (*T, error) {
	if !v.operator() && !v.narrow(path, query, body) {
		return nil, fmt.Errorf("%w: %s %s", errNarrow, method, path)
	}
	return perform[T](v, v.rights(), method, path, query, body)
}

// narrow reports whether an operation of a member concerns only the route's account.
// narrow is a second barrier behind admit: if a page forgets a filter, the page fails
// instead of showing data of other accounts.
func (v *visit) narrow(path string, query url.Values, body any) bool {
	noun, rest, _ := strings.Cut(path, "/")
	id, _, _ := strings.Cut(rest, "/")
	switch {
	case v.account == "":
		return false
	case v.role(v.account) == "": // the page of a charge, for a member of the account that earned it
		return v.charge != nil && (noun == "charges" && id == v.charge.ID || noun == "audit" && v.ownHistory(query))
	case noun == "accounts" && id != "":
		return id == v.account
	case noun == "keys" && id != "":
		return v.key != nil && id == v.key.ID
	case noun == "charges" && id != "" && id != "sum":
		return v.charge != nil && id == v.charge.ID
	case noun == "grants" && id != "":
		return v.grant != nil && id == v.grant.ID
	case noun == "audit":
		return v.ownHistory(query)
	case noun == "keys" && body != nil:
		n, ok := body.(admin.NewKey)
		return ok && n.Account == v.account
	case noun == "calls" || noun == "keys" || path == "alerts" || path == "grants":
		return query.Get("account") == v.account
	case noun == "charges" || noun == "usage":
		return query.Get("account") == v.account || query.Get("provider") == v.account
	}
	return false
}

// ownHistory reports whether a query of the audit log is about the object of the page
// only. On the page of a charge or a key, the object is not the account: a member of
// the provider sees the charge, and nothing about the account that paid.
func (v *visit) ownHistory(query url.Values) bool {
	switch {
	case v.charge != nil:
		return query.Get("target") == v.charge.ID
	case v.key != nil:
		return query.Get("key") == v.key.ID
	case v.grant != nil:
		return query.Get("target") == v.grant.ID
	}
	return query.Get("target") == v.account
}
