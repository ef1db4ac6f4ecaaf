package exchange

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/fareboxhq/farebox/internal/gate"
	"github.com/fareboxhq/farebox/internal/items"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// The texts of refusals are written for models, which pass them on to their users.
// The texts about idempotency are constants, because they contain no figures.
const (
	callInFlightText         = "the first call with this idempotency key is still under way. Wait, then send the same call again to get its result."
	idempotencyKeyReusedText = "this idempotency key stands for another call. Use a new key for each new call."
	resultGoneText           = "a call with this idempotency key was made and charged before, but its result is not kept. To have the call made and charged anew, use a new key."
)

// insufficientBalanceText returns the text for a call that the balance cannot pay. The
// text is shown to the model.
func (x *Exchange) insufficientBalanceText(r *gate.Refusal, f *errorField) string {
	balance := "balance"
	if r.Test {
		balance = "test balance"
	}
	return fmt.Sprintf("%s and nothing was charged: one call costs %s %s, but the %s of %s has only %s %s available. "+
		"%s then call again; until then every retry will be refused.",
		notCalled(r.Tool), r.Price, r.Currency, balance, accountText(f), r.Available, r.Currency, x.site.topUpAdvice(f.TopUpURL))
}

// spendingCapText names the cap and the time when it resets.
func (x *Exchange) spendingCapText(r *gate.Refusal, account string) string {
	c := r.Cap
	holder := map[ledger.Holder]string{
		ledger.HolderKey: "this key of " + account, ledger.HolderAccount: account, ledger.HolderServer: "one account at this server",
	}[c.Holder]
	if c.Period == ledger.PerCall {
		return fmt.Sprintf("%s and nothing was charged: this call costs %s %s, and %s may spend at most %s %s on one call. "+
			"Ask %s to raise the cap; until then every retry will be refused.",
			notCalled(r.Tool), r.Price, r.Currency, holder, c.Amount, r.Currency, x.site.contact())
	}
	return fmt.Sprintf("%s and nothing was charged: this call costs %s %s, and of the %s %s that %s may spend in a %s only %s %s are left. "+
		"The cap begins anew at %s (UTC); until then dearer calls than that will be refused, unless %s raises it.",
		notCalled(r.Tool), r.Price, r.Currency, c.Amount, r.Currency, holder, c.Period, max(c.Left(), 0), r.Currency, c.Resets.Format(time.DateTime), x.site.contact())
}

// scopeInsufficientText names the missing scopes.
func (x *Exchange) scopeInsufficientText(r *gate.Refusal) string {
	needs := "scope " + r.Scopes[0]
	if len(r.Scopes) > 1 {
		needs = "scopes " + strings.Join(r.Scopes, " and ")
	}
	return fmt.Sprintf("%s and nothing was charged: it needs the %s, and this key lacks %s. "+
		"Ask %s for a key that may; until then every retry will be refused.",
		notCalled(r.Tool), needs, strings.Join(r.Lacking, " and "), x.site.contact())
}

// priceAboveMaxText compares the price with the caller's own maximum.
func priceAboveMaxText(r *gate.Refusal) string {
	return fmt.Sprintf("%s and nothing was charged: this call costs %s %s, but the caller's own maximum in _meta[\"dev.farebox/max-price\"] is %s %s. "+
		"Call again with a higher maximum if the price is acceptable; until then every retry will be refused.",
		notCalled(r.Tool), r.Price, r.Currency, r.Maximum, r.Currency)
}

// rateLimitedText gives the reason and the time to wait.
func (x *Exchange) rateLimitedText(r *gate.Refusal) string {
	if r.RateExceeded {
		rate := x.quota.Rate
		return fmt.Sprintf("This request was not served and nothing was charged: this key has asked too often. It may ask %d times in %s; after a pause, %d requests may come at once. "+
			"Wait %d seconds, then ask again.", rate.Requests, rate.Period(), rate.Burst, int64(math.Ceil(r.RetryAfter.Seconds())))
	}
	return fmt.Sprintf("%s and nothing was charged: too many paid calls with this key were abandoned before their answer came. "+
		"Wait %d seconds, then call again, and wait for the answer.",
		notCalled(r.Tool), int64(math.Ceil(r.RetryAfter.Seconds())))
}

// chargedAtStartText replaces the text of a refusal for a call that was charged at
// its start and then failed.
func chargedAtStartText(code gate.Code, text string) string {
	switch code {
	case gate.UpstreamFailed:
		return "The MCP server gave no usable answer; the call was charged when it started"
	case gate.UpstreamTimeout:
		return "The MCP server did not answer in time; the call was charged when it started"
	case gate.StoreUnavailable:
		return "The gateway cannot deliver this answer now; the call was charged when it started"
	}
	return text
}

// accountText renders the caller's account within a sentence.
func accountText(f *errorField) string {
	if f.AccountName == "" {
		return "account " + f.Account
	}
	return fmt.Sprintf("account %s (%s)", f.AccountName, f.Account)
}

// quoteOddName quotes a name that has unusual characters.
func quoteOddName(name string) string {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.Quote(name)
		}
	}
	return name
}

// notCalled renders 'The tool "x" was not called', the beginning of texts for
// models.
func notCalled(name string) string {
	item, err := items.Parse(name)
	if err != nil {
		item = items.Item{Name: name}
	}
	done := "called"
	switch item.Kind {
	case items.Prompt:
		done = "fetched"
	case items.Resource:
		done = "read"
	}
	return fmt.Sprintf("The %s %q was not %s", item.Kind, item.Name, done)
}

// contact returns the person or address to ask for help.
func (s *Site) contact() string {
	if s.Contact == "" {
		return "the operator of this gateway"
	}
	return s.Contact
}

// topUpURL returns the page for buying credits that the caller may see, "" for none.
func (x *Exchange) topUpURL() string {
	if x.site.TopUpURL == nil {
		return ""
	}
	return x.site.TopUpURL(x.r, &x.caller)
}

// topUpAdvice explains how to top an account up. The page may be "".
func (s *Site) topUpAdvice(page string) string {
	switch {
	case page != "" && s.Contact != "":
		return fmt.Sprintf("Top the account up at %s, or ask %s,", page, s.Contact)
	case page != "":
		return fmt.Sprintf("Top the account up at %s,", page)
	default:
		return fmt.Sprintf("Ask %s to top the account up,", s.contact())
	}
}
