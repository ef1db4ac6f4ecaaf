package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/fareboxhq/farebox/internal/ledger"
)

// Path is what every path of a Handler begins with.
const Path = "/farebox/"

// maxBody bounds the body of a request in bytes.
const maxBody = 64 << 10

// Handler serves a service. Who may call it is for the caller to decide before.
type Handler struct {
	service *Service
	actor   string
	logger  *slog.Logger
	mux     *http.ServeMux
}

// NewHandler returns a handler that carries requests out in the actor's name.
func NewHandler(s *Service, actor string, logger *slog.Logger) *Handler {
	h := &Handler{service: s, actor: actor, logger: logger, mux: http.NewServeMux()}
	for pattern, serve := range map[string]func(*http.Request) (int, any, error){
		"GET " + Path + "accounts":                    h.listAccounts,
		"POST " + Path + "accounts":                   h.createAccount,
		"GET " + Path + "accounts/{ref}":              h.showAccount,
		"PATCH " + Path + "accounts/{ref}":            h.updateAccount,
		"POST " + Path + "accounts/{ref}/credits":     h.fund(h.service.Credit),
		"POST " + Path + "accounts/{ref}/adjustments": h.fund(h.service.Adjust),
		"GET " + Path + "keys":                        h.listKeys,
		"POST " + Path + "keys":                       h.createKey,
		"GET " + Path + "keys/{id}":                   h.showKey,
		"PATCH " + Path + "keys/{id}":                 h.updateKey,
		"DELETE " + Path + "keys/{id}":                h.act(h.service.DeleteKey),
		"POST " + Path + "keys/{id}/disable":          h.act(h.service.DisableKey),
		"POST " + Path + "keys/{id}/enable":           h.act(h.service.EnableKey),
		"POST " + Path + "keys/{id}/rotate":           h.rotateKey,
		"GET " + Path + "audit":                       h.listAudit,
		"GET " + Path + "charges":                     h.listCharges,
		"GET " + Path + "charges/sum":                 h.sumCharges,
		"GET " + Path + "charges/{id}":                h.showCharge,
		"POST " + Path + "charges/{id}/refunds":       h.refund,
		"GET " + Path + "ledger":                      h.listJournal,
		"GET " + Path + "ledger/archive":              h.showArchived,
		"POST " + Path + "ledger/archive":             h.archive,
		"GET " + Path + "receipt-keys":                h.listReceiptKeys,
	} {
		h.mux.HandleFunc(pattern, h.answer(serve))
	}
	h.mux.HandleFunc("POST "+Path+"ledger/verify", h.lasting(h.verify))
	h.mux.HandleFunc("GET "+Path+"backup", h.backup)
	h.mux.HandleFunc("POST "+Path+"ledger/archive/part", h.archivePart)
	h.mux.HandleFunc("/", h.answer(func(r *http.Request) (int, any, error) {
		return 0, nil, refuse(NotFound, "there is no %s %s here: is the command of the same version as the server?", r.Method, r.URL.Path)
	}))
	return h
}

// ServeHTTP serves one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// Answer serves an operation that needs no store in the form of a Handler's.
func Answer(logger *slog.Logger, serve func(*http.Request) (status int, body any, err error)) http.HandlerFunc {
	return (&Handler{logger: logger}).answer(serve)
}

func (h *Handler) answer(serve func(*http.Request) (int, any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, body, err := serve(r)
		if err != nil {
			status, body = h.problem(r, err)
		}
		writeJSON(w, status, body)
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has left: there is nobody to tell
}

var statusOf = map[Code]int{
	Invalid:     http.StatusBadRequest,
	NotFound:    http.StatusNotFound,
	Exists:      http.StatusConflict,
	Conflict:    http.StatusConflict,
	Unavailable: http.StatusServiceUnavailable,
	Forbidden:   http.StatusForbidden,
}

// problem says what a client is told. What is not meant for it is logged.
func (h *Handler) problem(r *http.Request, err error) (int, Problem) {
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return statusOf[refused.Code], Problem{refused.Code, refused.Message}
	case errors.Is(err, ledger.ErrInvalid):
		return http.StatusBadRequest, Problem{Invalid, err.Error()}
	case errors.Is(err, ledger.ErrUnavailable):
		h.logger.Error("an operation found the store unavailable", "path", r.URL.Path, "error", err)
		return http.StatusServiceUnavailable, Problem{Unavailable, "the store is unavailable, see the server's log: try again later"}
	default:
		h.logger.Error("an operation failed", "path", r.URL.Path, "error", err)
		return http.StatusInternalServerError, Problem{Unavailable, "the operation failed, see the server's log"}
	}
}

func (h *Handler) by(r *http.Request) Actor {
	from := r.RemoteAddr
	if from == "@" { // a client on a unix socket has no address
		from = ""
	}
	return Actor{Name: h.actor, From: from}
}

func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return refuse(Invalid, "the request's body cannot be read: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(Invalid, "the request's body has more than one JSON value")
	}
	return nil
}

func page(r *http.Request) (ledger.Page, error) {
	p := ledger.Page{After: r.URL.Query().Get("after")}
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > ledger.MaxPage {
			return p, refuse(Invalid, "limit %q is not a number from 1 to %d", text, ledger.MaxPage)
		}
		p.Limit = n
	}
	return p, nil
}

func (h *Handler) listAccounts(r *http.Request) (int, any, error) {
	p, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	rows, next, err := h.service.Accounts(r.Context(), p)
	return http.StatusOK, viewList(rows, next, viewAccount), err
}

func (h *Handler) createAccount(r *http.Request) (int, any, error) {
	var n NewAccount
	if err := decode(r, &n); err != nil {
		return 0, nil, err
	}
	a, err := h.service.CreateAccount(r.Context(), h.by(r), n)
	return http.StatusCreated, viewAccount(a), err
}

func (h *Handler) updateAccount(r *http.Request) (int, any, error) {
	var c AccountChange
	if err := decode(r, &c); err != nil {
		return 0, nil, err
	}
	a, err := h.service.UpdateAccount(r.Context(), h.by(r), r.PathValue("ref"), c)
	return http.StatusOK, viewAccount(a), err
}

func (h *Handler) showAccount(r *http.Request) (int, any, error) {
	a, err := h.service.Account(r.Context(), r.PathValue("ref"))
	return http.StatusOK, viewAccount(a), err
}

// fund serves an operation that moves credits between an account and Funding.
func (h *Handler) fund(operation func(context.Context, Actor, Credit) (ledger.Account, error)) func(*http.Request) (int, any, error) {
	return func(r *http.Request) (int, any, error) {
		var c Credit
		if err := decode(r, &c); err != nil {
			return 0, nil, err
		}
		c.Account = r.PathValue("ref")
		a, err := operation(r.Context(), h.by(r), c)
		return http.StatusOK, viewAccount(a), err
	}
}

func (h *Handler) showCharge(r *http.Request) (int, any, error) {
	c, err := h.service.Charge(r.Context(), r.PathValue("id"))
	return http.StatusOK, h.service.ViewCharge(r.Context(), c), err
}

func (h *Handler) refund(r *http.Request) (int, any, error) {
	var refund Refund
	if err := decode(r, &refund); err != nil {
		return 0, nil, err
	}
	refund.Charge = r.PathValue("id")
	c, err := h.service.Refund(r.Context(), h.by(r), refund)
	return http.StatusOK, h.service.ViewCharge(r.Context(), c), err
}

// listJournal also tells, on the first page, how many transactions there are.
func (h *Handler) listJournal(r *http.Request) (int, any, error) {
	p, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	var total int64
	if p.After == "" {
		if total, err = h.service.JournalLength(r.Context()); err != nil {
			return 0, nil, err
		}
	}
	rows, next, err := h.service.Journal(r.Context(), p)
	view := JournalView{viewList(rows, next, viewTransaction), total}
	if p.After == "" && err == nil {
		view.Archived, _, err = h.service.ArchivedCounts(r.Context())
	}
	return http.StatusOK, view, err
}

func (h *Handler) listCharges(r *http.Request) (int, any, error) {
	p, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	list, err := h.service.Charges(r.Context(), chargeQuery(r, p))
	return http.StatusOK, list, err
}

func (h *Handler) sumCharges(r *http.Request) (int, any, error) {
	sums, err := h.service.SumCharges(r.Context(), chargeQuery(r, ledger.Page{After: r.URL.Query().Get("after")}))
	return http.StatusOK, sums, err
}

func chargeQuery(r *http.Request, p ledger.Page) ChargeQuery {
	q := r.URL.Query()
	return ChargeQuery{
		Page: p, Account: q.Get("account"), Provider: q.Get("provider"), Key: q.Get("key"), Server: q.Get("server"), Tool: q.Get("tool"),
		Since: q.Get("since"), Until: q.Get("until"),
	}
}

func (h *Handler) verify(r *http.Request, progress func(done, total int64)) (any, error) {
	v, err := h.service.Verify(r.Context(), progress)
	return ViewVerification(v), err
}
