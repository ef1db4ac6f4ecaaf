package caddymodule

import (
	"errors"

	"github.com/fareboxhq/farebox/caddymodule/resource"
)

// compileHelp checks the contact and the URL for buying credits. If the handler lacks
// one of them, compileHelp takes it from the global option.
func (h *Handler) compileHelp(app *App) error {
	if h.Contact == "" {
		h.Contact = app.Contact
	}
	if h.TopUpURL == "" {
		h.TopUpURL = app.TopUpURL
	}
	return errors.Join(resource.CheckContact(h.Contact), resource.CheckTopUp(h.TopUpURL))
}
