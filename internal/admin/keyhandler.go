package admin

import (
	"context"
	"net/http"

	"github.com/fareboxhq/farebox/internal/keys"
)

func (h *Handler) viewKey(r *http.Request, k keys.Key) KeyView {
	return h.service.ViewKey(r.Context(), k, "")
}

func (h *Handler) listKeys(r *http.Request) (int, any, error) {
	p, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	q := r.URL.Query()
	list, err := h.service.Keys(r.Context(), KeyQuery{Page: p, Account: q.Get("account"), Kind: q.Get("kind"), Expiring: q.Get("expiring")})
	return http.StatusOK, list, err
}

func (h *Handler) showKey(r *http.Request) (int, any, error) {
	k, err := h.service.Key(r.Context(), r.PathValue("id"))
	return http.StatusOK, h.viewKey(r, k), err
}

func (h *Handler) createKey(r *http.Request) (int, any, error) {
	var n NewKey
	if err := decode(r, &n); err != nil {
		return 0, nil, err
	}
	key, secret, err := h.service.CreateKey(r.Context(), h.by(r), n)
	return http.StatusCreated, h.service.ViewKey(r.Context(), key, secret), err
}

func (h *Handler) updateKey(r *http.Request) (int, any, error) {
	var c KeyChange
	if err := decode(r, &c); err != nil {
		return 0, nil, err
	}
	k, err := h.service.UpdateKey(r.Context(), h.by(r), r.PathValue("id"), c)
	return http.StatusOK, h.viewKey(r, k), err
}

// act serves an operation that needs no more than the key's id.
func (h *Handler) act(operation func(context.Context, Actor, string) (keys.Key, error)) func(*http.Request) (int, any, error) {
	return func(r *http.Request) (int, any, error) {
		k, err := operation(r.Context(), h.by(r), r.PathValue("id"))
		return http.StatusOK, h.viewKey(r, k), err
	}
}

func (h *Handler) rotateKey(r *http.Request) (int, any, error) {
	var rotation Rotation
	if err := decode(r, &rotation); err != nil {
		return 0, nil, err
	}
	k, secret, err := h.service.RotateKey(r.Context(), h.by(r), r.PathValue("id"), rotation)
	return http.StatusCreated, h.service.ViewKey(r.Context(), k, secret), err
}

func (h *Handler) listAudit(r *http.Request) (int, any, error) {
	p, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	rows, next, err := h.service.AuditLog(r.Context(), p)
	return http.StatusOK, viewList(rows, next, viewAudit), err
}
