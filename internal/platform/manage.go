package platform

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/wire"
)

// registerManagement adds what admin keys may do: what the commands do, by the
// same operations.
func (p *Platform) registerManagement() {
	p.registerKeys()
	p.registerAccounts()
	register(p, operation{
		method: "GET", path: "/charges", id: "list-charges", tag: "charges", kinds: managers,
		summary: "List charges, newest first", refusals: []wire.Code{wire.NotFound},
	}, p.listCharges)
	register(p, operation{
		method: "GET", path: "/charges/sum", id: "sum-charges", tag: "charges", kinds: managers,
		summary: "Sum charges up", refusals: []wire.Code{wire.NotFound},
		description: "Of a long list it is the sum of a part, with the next of the part after it: the sums of all parts are to be added.",
	}, p.sumCharges)
	register(p, operation{
		method: "GET", path: "/charges/{id}", id: "show-charge", tag: "charges", kinds: managers,
		summary: "Show a charge", refusals: []wire.Code{wire.NotFound},
	}, p.showCharge)
	register(p, operation{
		method: "GET", path: "/journal", id: "list-journal", tag: "ledger", kinds: managers,
		summary: "List all movements of credits, oldest first",
	}, p.listJournal)
	register(p, operation{
		method: "POST", path: "/ledger/verify", id: "verify-ledger", tag: "ledger", kinds: managers,
		summary: "Replay the books and compare", description: "It takes as long as reading all transactions does.",
	}, p.verify)
	register(p, operation{
		method: "GET", path: "/audit", id: "list-audit", tag: "ledger", kinds: managers,
		summary: "List who did what, newest first",
	}, p.listAudit)
}

func (p *Platform) registerKeys() {
	found := []wire.Code{wire.NotFound}
	register(p, operation{
		method: "GET", path: "/keys", id: "list-keys", tag: "keys", kinds: managers,
		summary: "List keys", refusals: found,
	}, p.listKeys)
	register(p, operation{
		method: "POST", path: "/keys", id: "create-key", tag: "keys", kinds: managers, maxBody: smallBody, status: http.StatusCreated,
		summary: "Make a key", description: "The secret is in this answer and nowhere else.", refusals: []wire.Code{wire.NotFound, wire.Conflict},
	}, p.createKey)
	register(p, operation{
		method: "GET", path: "/keys/{id}", id: "show-key", tag: "keys", kinds: managers,
		summary: "Show a key", refusals: found,
	}, p.showKey)
	register(p, operation{
		method: "PATCH", path: "/keys/{id}", id: "update-key", tag: "keys", kinds: managers, maxBody: smallBody,
		summary: "Change a key", description: "What is absent stays. When it is answered, no lookup that begins afterwards accepts more than the key may then.", refusals: found,
	}, p.updateKey)
	for _, act := range []struct {
		method, path, id, summary string
		do                        func(context.Context, admin.Actor, string) (keys.Key, error)
	}{
		{"DELETE", "/keys/{id}", "delete-key", "End a key for ever", p.Admin.DeleteKey},
		{"POST", "/keys/{id}/disable", "disable-key", "Refuse a key until it is enabled", p.Admin.DisableKey},
		{"POST", "/keys/{id}/enable", "enable-key", "Accept a disabled key again", p.Admin.EnableKey},
	} {
		register(p, operation{
			method: act.method, path: act.path, id: act.id, tag: "keys", kinds: managers,
			summary: act.summary, refusals: found,
		}, func(ctx context.Context, in *keyPath) (*content[admin.KeyView], error) {
			k, err := act.do(ctx, actor(ctx), in.ID)
			return p.viewKey(ctx, k, "", err)
		})
	}
	register(p, operation{
		method: "POST", path: "/keys/{id}/rotate", id: "rotate-key", tag: "keys", kinds: managers, maxBody: smallBody, status: http.StatusCreated,
		summary: "Replace a key by a successor with the same rights", description: "The successor's secret is in this answer and nowhere else.",
		refusals: []wire.Code{wire.NotFound, wire.Conflict},
	}, p.rotateKey)
}

func (p *Platform) registerAccounts() {
	found := []wire.Code{wire.NotFound}
	register(p, operation{
		method: "GET", path: "/accounts", id: "list-accounts", tag: "accounts", kinds: managers,
		summary: "List accounts",
	}, p.listAccounts)
	register(p, operation{
		method: "POST", path: "/accounts", id: "create-account", tag: "accounts", kinds: managers, maxBody: smallBody, status: http.StatusCreated,
		summary: "Make an account", refusals: []wire.Code{wire.Exists},
	}, p.createAccount)
	register(p, operation{
		method: "GET", path: "/accounts/{ref}", id: "show-account", tag: "accounts", kinds: managers,
		summary: "Show an account", refusals: found,
	}, p.showAccount)
	register(p, operation{
		method: "PATCH", path: "/accounts/{ref}", id: "update-account", tag: "accounts", kinds: managers, maxBody: smallBody,
		summary: "Change the limits of an account", description: "What is absent stays; a cap of zero is taken away.", refusals: found,
	}, p.updateAccount)
	for _, fund := range []struct {
		path, id, summary string
		do                func(context.Context, admin.Actor, admin.Credit) (ledger.Account, error)
	}{
		{"/accounts/{ref}/credit", "credit-account", "Top an account up", p.Admin.Credit},
		{"/accounts/{ref}/adjust", "adjust-account", "Correct a balance, up or down", p.Admin.Adjust},
	} {
		register(p, operation{
			method: "POST", path: fund.path, id: fund.id, tag: "accounts", kinds: managers, maxBody: smallBody,
			summary: fund.summary, description: "The same under the same id changes nothing.", refusals: []wire.Code{wire.NotFound, wire.Conflict},
		}, func(ctx context.Context, in *fundRequest) (*content[admin.AccountView], error) {
			in.Body.Account = in.Ref
			a, err := fund.do(ctx, actor(ctx), in.Body)
			return viewAccount(a, err)
		})
	}
}

// actor is the caller, for the audit.
func actor(ctx context.Context) admin.Actor {
	v := visitOf(ctx)
	return admin.Actor{Name: v.key.ID, From: v.from()}
}

type keyPath struct {
	ID string `path:"id" maxLength:"64" doc:"The id of the key"`
}

type refPath struct {
	Ref string `path:"ref" maxLength:"254" doc:"The name or the id of the account"`
}

type fundRequest struct {
	Ref  string `path:"ref" maxLength:"254" doc:"The name or the id of the account"`
	Body admin.Credit
}

type pageQuery struct {
	After string `query:"after" maxLength:"128" doc:"Where the part before ended: its next"`
	Limit int    `query:"limit" minimum:"1" maximum:"500" doc:"At most so many; 500 if absent"`
}

type keyQuery struct {
	Account  string `query:"account" maxLength:"254" doc:"Only of the account of that name or id"`
	After    string `query:"after" maxLength:"128" doc:"Where the part before ended: its next"`
	Limit    int    `query:"limit" minimum:"1" maximum:"500" doc:"At most so many; 500 if absent"`
	Kind     string `query:"kind" maxLength:"16" doc:"Only of this kind"`
	Expiring string `query:"expiring" maxLength:"32" doc:"Only those that can be used now and expire within this time, such as 336h"`
}

// ChargeChoice says which charges: those that all that is given is true of.
type ChargeChoice struct {
	Account  string `query:"account" maxLength:"254" doc:"Only those that the account of that name or id paid"`
	Provider string `query:"provider" maxLength:"254" doc:"Only those that the account of that name or id earned"`
	Key      string `query:"key" maxLength:"64" doc:"Only those by the key of that id"`
	Server   string `query:"server" maxLength:"64" doc:"Only those of that server"`
	Tool     string `query:"tool" maxLength:"1100" doc:"Only those of what was called so"`
	Since    string `query:"since" maxLength:"64" doc:"Only those of then or later: a time before now, such as 36h or 7d, a day (UTC), or a time" example:"2026-11-30"`
	Until    string `query:"until" maxLength:"64" doc:"Only those of before: as since"`
	After    string `query:"after" maxLength:"128" doc:"Where the part before ended: its next"`
}

func (c *ChargeChoice) query() admin.ChargeQuery {
	return admin.ChargeQuery{
		Page: ledger.Page{After: c.After}, Account: c.Account, Provider: c.Provider, Key: c.Key, Server: c.Server, Tool: c.Tool, Since: c.Since, Until: c.Until,
	}
}

type chargesQuery struct {
	ChargeChoice
	Limit int `query:"limit" minimum:"1" maximum:"500" doc:"At most so many; 500 if absent. A part may have fewer and yet not be the last"`
}

// viewKey returns the answer with a key, or the error.
func (p *Platform) viewKey(ctx context.Context, k keys.Key, secret string, err error) (*content[admin.KeyView], error) {
	if err != nil {
		return nil, err
	}
	return &content[admin.KeyView]{p.Admin.ViewKey(ctx, k, secret)}, nil
}

func viewAccount(a ledger.Account, err error) (*content[admin.AccountView], error) {
	if err != nil {
		return nil, err
	}
	return &content[admin.AccountView]{admin.ViewAccount(a)}, nil
}

// viewPage returns the answer with a page, or the error.
func viewPage[M, V any](rows []M, next string, err error, view func(M) V) (*content[admin.List[V]], error) {
	if err != nil {
		return nil, err
	}
	return &content[admin.List[V]]{admin.ViewList(rows, next, view)}, nil
}

func (p *Platform) listKeys(ctx context.Context, in *keyQuery) (*content[admin.List[admin.KeyView]], error) {
	list, err := p.Admin.Keys(ctx, admin.KeyQuery{
		Page: ledger.Page{After: in.After, Limit: in.Limit}, Account: in.Account, Kind: in.Kind, Expiring: in.Expiring,
	})
	if err != nil {
		return nil, err
	}
	return &content[admin.List[admin.KeyView]]{list}, nil
}

func (p *Platform) createKey(ctx context.Context, in *content[admin.NewKey]) (*content[admin.KeyView], error) {
	k, secret, err := p.Admin.CreateKey(ctx, actor(ctx), in.Body)
	return p.viewKey(ctx, k, secret, err)
}

func (p *Platform) showKey(ctx context.Context, in *keyPath) (*content[admin.KeyView], error) {
	k, err := p.Admin.Key(ctx, in.ID)
	return p.viewKey(ctx, k, "", err)
}

type updateKeyRequest struct {
	ID   string `path:"id" maxLength:"64" doc:"The id of the key"`
	Body admin.KeyChange
}

func (p *Platform) updateKey(ctx context.Context, in *updateKeyRequest) (*content[admin.KeyView], error) {
	k, err := p.Admin.UpdateKey(ctx, actor(ctx), in.ID, in.Body)
	return p.viewKey(ctx, k, "", err)
}

type rotateKeyRequest struct {
	ID   string `path:"id" maxLength:"64" doc:"The id of the key"`
	Body admin.Rotation
}

func (p *Platform) rotateKey(ctx context.Context, in *rotateKeyRequest) (*content[admin.KeyView], error) {
	k, secret, err := p.Admin.RotateKey(ctx, actor(ctx), in.ID, in.Body)
	return p.viewKey(ctx, k, secret, err)
}

func (p *Platform) listAccounts(ctx context.Context, in *pageQuery) (*content[admin.List[admin.AccountView]], error) {
	rows, next, err := p.Admin.Accounts(ctx, ledger.Page{After: in.After, Limit: in.Limit})
	return viewPage(rows, next, err, admin.ViewAccount)
}

func (p *Platform) createAccount(ctx context.Context, in *content[admin.NewAccount]) (*content[admin.AccountView], error) {
	return viewAccount(p.Admin.CreateAccount(ctx, actor(ctx), in.Body))
}

func (p *Platform) showAccount(ctx context.Context, in *refPath) (*content[admin.AccountView], error) {
	return viewAccount(p.Admin.Account(ctx, in.Ref))
}

type updateAccountRequest struct {
	Ref  string `path:"ref" maxLength:"254" doc:"The name or the id of the account"`
	Body admin.AccountChange
}

func (p *Platform) updateAccount(ctx context.Context, in *updateAccountRequest) (*content[admin.AccountView], error) {
	return viewAccount(p.Admin.UpdateAccount(ctx, actor(ctx), in.Ref, in.Body))
}

func (p *Platform) listCharges(ctx context.Context, in *chargesQuery) (*content[admin.List[admin.ChargeView]], error) {
	q := in.query()
	q.Limit = in.Limit
	list, err := p.Admin.Charges(ctx, q)
	if err != nil {
		return nil, err
	}
	return &content[admin.List[admin.ChargeView]]{list}, nil
}

func (p *Platform) sumCharges(ctx context.Context, in *ChargeChoice) (*content[admin.ChargeSums], error) {
	sums, err := p.Admin.SumCharges(ctx, in.query())
	if err != nil {
		return nil, err
	}
	return &content[admin.ChargeSums]{sums}, nil
}

func (p *Platform) showCharge(ctx context.Context, in *chargePath) (*content[admin.ChargeView], error) {
	c, err := p.Admin.Charge(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &content[admin.ChargeView]{p.Admin.ViewCharge(ctx, c)}, nil
}

// listJournal also tells, on the first page, how many transactions there are.
func (p *Platform) listJournal(ctx context.Context, in *pageQuery) (*content[admin.JournalView], error) {
	var total int64
	var err error
	if in.After == "" {
		if total, err = p.Admin.JournalLength(ctx); err != nil {
			return nil, err
		}
	}
	rows, next, err := p.Admin.Journal(ctx, ledger.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	view := admin.JournalView{List: admin.ViewList(rows, next, admin.ViewTransaction), Total: total}
	if in.After == "" {
		view.Archived, _, err = p.Admin.ArchivedCounts(ctx)
	}
	return &content[admin.JournalView]{view}, err
}

func (p *Platform) verify(ctx context.Context, _ *none) (*content[admin.VerificationView], error) {
	v, err := p.Admin.Verify(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &content[admin.VerificationView]{admin.ViewVerification(v)}, nil
}

func (p *Platform) listAudit(ctx context.Context, in *pageQuery) (*content[admin.List[admin.AuditView]], error) {
	rows, next, err := p.Admin.AuditLog(ctx, ledger.Page{After: in.After, Limit: in.Limit})
	return viewPage(rows, next, err, admin.ViewAudit)
}
