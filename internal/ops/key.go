package ops

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/wire"
)

func keyOps() []Op[*admin.Service] {
	return []Op[*admin.Service]{ListKeys, CreateKey, ShowKey, UpdateKey, DeleteKey, DisableKey, EnableKey, RotateKey}
}

// KeyPath identifies a key.
type KeyPath struct {
	ID string `path:"id" maxLength:"64" doc:"The id of the key"`
}

type listKeys struct {
	Sort       string `query:"sort" maxLength:"16" doc:"The order: created (the default), -created, name or -name"`
	Account    string `query:"account" maxLength:"254" doc:"Only keys of the account with this name or id"`
	Kind       string `query:"kind" maxLength:"16" doc:"Only keys of this kind"`
	Expiring   string `query:"expiring" maxLength:"32" doc:"Only usable keys that expire within this time, such as 14d"`
	UsageSince string `query:"usage_since" maxLength:"64" doc:"Also sum up the calls of each key, of those that it replaced, and of its successors, since the beginning of that day: a time before now, such as 30d, a day (UTC), or a time" example:"30d"`
	Page
}

// ListKeys lists keys.
var ListKeys = Define(Operation{
	ID: "key.list", Method: http.MethodGet, Path: "/keys", Needs: identity.View, Tag: "keys",
	Summary: "List keys", Command: "key list", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *listKeys) (admin.List[admin.KeyView], error) {
	return s.Keys(ctx, admin.KeyQuery{Page: in.sorted(in.Sort), Account: in.Account, Kind: in.Kind, Expiring: in.Expiring, UsageSince: in.UsageSince})
})

// CreateKey creates a key.
var CreateKey = Define(Operation{
	ID: "key.create", Method: http.MethodPost, Path: "/keys", Needs: identity.ManageKeys, Tag: "keys",
	Summary: "Create a key", Description: "The secret is in this response and in no other.",
	Command: "key create --account <account>", Audited: true, Status: http.StatusCreated, Problems: []wire.Code{wire.NotFound, wire.Conflict},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *content[admin.NewKey]) (admin.KeyView, error) {
	k, secret, err := s.CreateKey(ctx, actor(by), in.Body)
	return viewKey(ctx, s, k, secret, err)
})

// ShowKey shows a key.
var ShowKey = Define(Operation{
	ID: "key.show", Method: http.MethodGet, Path: "/keys/{id}", Needs: identity.View, Tag: "keys",
	Summary: "Show a key", Command: "key show <key-id>", Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, _ *identity.Principal, in *KeyPath) (admin.KeyView, error) {
	k, err := s.Key(ctx, in.ID)
	return viewKey(ctx, s, k, "", err)
})

type updateKey struct {
	KeyPath
	Body admin.KeyChange
}

// UpdateKey changes a key.
var UpdateKey = Define(Operation{
	ID: "key.update", Method: http.MethodPatch, Path: "/keys/{id}", Needs: identity.ManageKeys, Tag: "keys",
	Summary:     "Change a key",
	Description: "Absent members stay. After the response, no lookup that begins accepts more than the changed key allows.",
	Command:     "key update <key-id>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *updateKey) (admin.KeyView, error) {
	k, err := s.UpdateKey(ctx, actor(by), in.ID, in.Body)
	return viewKey(ctx, s, k, "", err)
})

// DeleteKey deletes a key.
var DeleteKey = Define(Operation{
	ID: "key.delete", Method: http.MethodDelete, Path: "/keys/{id}", Needs: identity.ManageKeys, Tag: "keys",
	Summary: "Delete a key, for good", Command: "key delete <key-id>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *KeyPath) (admin.KeyView, error) {
	k, err := s.DeleteKey(ctx, actor(by), in.ID)
	return viewKey(ctx, s, k, "", err)
})

// DisableKey disables a key.
var DisableKey = Define(Operation{
	ID: "key.disable", Method: http.MethodPost, Path: "/keys/{id}/disable", Needs: identity.ManageKeys, Tag: "keys",
	Summary: "Refuse a key until it is enabled", Command: "key disable <key-id>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *KeyPath) (admin.KeyView, error) {
	k, err := s.DisableKey(ctx, actor(by), in.ID)
	return viewKey(ctx, s, k, "", err)
})

// EnableKey enables a disabled key.
var EnableKey = Define(Operation{
	ID: "key.enable", Method: http.MethodPost, Path: "/keys/{id}/enable", Needs: identity.ManageKeys, Tag: "keys",
	Summary: "Accept a disabled key again", Command: "key enable <key-id>", Audited: true, Problems: []wire.Code{wire.NotFound},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *KeyPath) (admin.KeyView, error) {
	k, err := s.EnableKey(ctx, actor(by), in.ID)
	return viewKey(ctx, s, k, "", err)
})

type rotateKey struct {
	KeyPath
	Body admin.Rotation
}

// RotateKey replaces a key.
var RotateKey = Define(Operation{
	ID: "key.rotate", Method: http.MethodPost, Path: "/keys/{id}/rotate", Needs: identity.ManageKeys, Tag: "keys",
	Summary: "Replace a key by a successor with the same rights", Description: "The successor's secret is in this response and in no other.",
	Command: "key rotate <key-id>", Audited: true, Status: http.StatusCreated, Problems: []wire.Code{wire.NotFound, wire.Conflict},
}, func(ctx context.Context, s *admin.Service, by *identity.Principal, in *rotateKey) (admin.KeyView, error) {
	k, secret, err := s.RotateKey(ctx, actor(by), in.ID, in.Body)
	return viewKey(ctx, s, k, secret, err)
})

func viewKey(ctx context.Context, s *admin.Service, k keys.Key, secret string, err error) (admin.KeyView, error) {
	if err != nil {
		return admin.KeyView{}, err
	}
	return s.ViewKey(ctx, k, secret), nil
}
