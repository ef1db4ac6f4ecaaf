package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

func (h *Handler) viewKey(k keys.Key) KeyView { return viewKey(k, "", h.service.now()) }

func (h *Handler) listKeys(r *http.Request) (int, any, error) {
	p, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	f := ledger.KeyFilter{Page: p, Account: r.URL.Query().Get("account"), Kind: r.URL.Query().Get("kind")}
	if f.Kind != "" {
		if _, err := keys.ParseKind(f.Kind); err != nil {
			return 0, nil, refuse(Invalid, "%v", err)
		}
	}
	if in := r.URL.Query().Get("expiring"); in != "" {
		d, err := time.ParseDuration(in)
		if err != nil || d <= 0 {
			return 0, nil, refuse(Invalid, "expiring %q is not a time from now, such as 336h", in)
		}
		f.ExpiresBy = h.service.now().Add(d)
	}
	rows, next, err := h.service.Keys(r.Context(), f)
	return http.StatusOK, viewList(rows, next, h.viewKey), err
}

func (h *Handler) showKey(r *http.Request) (int, any, error) {
	k, err := h.service.Key(r.Context(), r.PathValue("id"))
	return http.StatusOK, h.viewKey(k), err
}

func (h *Handler) createKey(r *http.Request) (int, any, error) {
	var n NewKey
	if err := decode(r, &n); err != nil {
		return 0, nil, err
	}
	key, secret, err := h.service.CreateKey(r.Context(), h.by(r), n)
	return http.StatusCreated, viewKey(key, secret, h.service.now()), err
}

func (h *Handler) updateKey(r *http.Request) (int, any, error) {
	var c KeyChange
	if err := decode(r, &c); err != nil {
		return 0, nil, err
	}
	k, err := h.service.UpdateKey(r.Context(), h.by(r), r.PathValue("id"), c)
	return http.StatusOK, h.viewKey(k), err
}

// act serves an operation that needs no more than the key's id.
func (h *Handler) act(operation func(context.Context, Actor, string) (keys.Key, error)) func(*http.Request) (int, any, error) {
	return func(r *http.Request) (int, any, error) {
		k, err := operation(r.Context(), h.by(r), r.PathValue("id"))
		return http.StatusOK, h.viewKey(k), err
	}
}

func (h *Handler) rotateKey(r *http.Request) (int, any, error) {
	var rotation Rotation
	if err := decode(r, &rotation); err != nil {
		return 0, nil, err
	}
	k, secret, err := h.service.RotateKey(r.Context(), h.by(r), r.PathValue("id"), rotation)
	return http.StatusCreated, viewKey(k, secret, h.service.now()), err
}

func (h *Handler) listAudit(r *http.Request) (int, any, error) {
	p, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	rows, next, err := h.service.AuditLog(r.Context(), p)
	return http.StatusOK, viewList(rows, next, viewAudit), err
}
