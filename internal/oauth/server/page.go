package server

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"slices"
	"strconv"

	"github.com/fareboxhq/farebox/internal/keys"
)

//go:embed templates/page.html templates/page.css
var files embed.FS

// pages are the parsed template and the policy for its style.
type pages struct {
	template *template.Template
	style    template.CSS
	policy   string // value of Content-Security-Policy
}

func parsePages() (*pages, error) {
	style, err := files.ReadFile("templates/page.css")
	if err != nil {
		return nil, err
	}
	t, err := template.ParseFS(files, "templates/page.html")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(style)
	// There is no form-action: browsers apply it to the redirect to the client, too, which
	// may have a scheme of its own.
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; frame-ancestors 'none'"
	return &pages{template: t, style: template.CSS(style), policy: policy}, nil
}

// view is the data of the page.
type view struct {
	Style   template.CSS
	Title   string
	Problem string
	Done    string // the whole content of the page after the end

	Server     string // for people
	Resource   string
	ClientName string // as the client claims
	ClientHost string // host of the client's id; "" if the id is no URL
	Target     string // where the browser goes
	Device     bool
	Request    string // sealed
	Consent    string // URL of the forms
	Console    string // URL of the console's page with the request; "" without a console
	Code       string // user code

	Account  string
	Key      string // hint of the key
	Scopes   []choice
	Capped   bool // the key has limits
	Currency string
	Step     string // "key", "decision" or "code"
}

// choice is a scope on the page.
type choice struct {
	Scope
	Chosen bool
}

// render writes the page. It cannot be shown in a frame, so that nobody can lay it under
// another page (clickjacking). It has no Cross-Origin-Opener-Policy: clients in a browser
// open the page in a window that they keep hold of, and wait for a message from it.
func (x *exchange) render(status int, v *view) error {
	v.Style, v.Server, v.Resource = x.pages.style, x.issuer.Title, x.issuer.Resource
	var out bytes.Buffer
	if err := x.pages.template.Execute(&out, v); err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(out.Len()))
	h.Set("Content-Security-Policy", x.pages.policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // with no-referrer, browsers send "Origin: null" with the forms
	h.Set("Cache-Control", "no-store")
	x.w.WriteHeader(status)
	_, _ = x.w.Write(out.Bytes()) // fails only if the browser has left
	return nil
}

func (x *exchange) problemPage(status int, problem string) error {
	return x.render(status, &view{Title: "Not connected", Problem: problem})
}

func (x *exchange) donePage(text string) error {
	return x.render(http.StatusOK, &view{Title: "Done", Done: text})
}

func (x *exchange) codePage(status int, code, problem string) error {
	return x.render(status, &view{Title: "Connect a device", Step: "code", Code: code, Problem: problem, Consent: x.issuer.at("/device")})
}

// view returns the data of a page about a request.
func (x *exchange) view(r *Request, browser string) *view {
	return &view{
		ClientName: r.ClientName, ClientHost: r.ClientHost, Target: r.Target(), Device: r.UserCode != "",
		Request: x.seal(r, forBrowser, browser), Consent: x.issuer.at("/consent"), Currency: x.o.Currency,
	}
}

// keyPage asks for the agent key that pays.
func (x *exchange) keyPage(r *Request, browser string, status int, problem string) error {
	r.Key = ""
	v := x.view(r, browser)
	v.Title, v.Step, v.Problem = "Connect", "key", problem
	if x.o.Console != "" {
		v.Console = x.o.Console + "?request=" + x.seal(r, forConsole, "") + "&server=" + r.Server
	}
	return x.render(status, v)
}

// decisionPage shows the scopes and the account, and asks for the decision.
func (x *exchange) decisionPage(r *Request, browser string, key *keys.Key, status int, problem string) error {
	v := x.view(r, browser)
	v.Title, v.Step, v.Problem, v.Key, v.Capped = "Allow", "decision", problem, key.Hint, key.Limits != nil
	_, name, err := x.Account(x.r.Context(), key.Account)
	if err != nil {
		return err
	}
	v.Account = name
	for _, s := range x.offered(key) {
		v.Scopes = append(v.Scopes, choice{s, slices.Contains(x.o.Scopes.Expand(r.Scopes), s.Name) || len(r.Scopes) == 0})
	}
	return x.render(status, v)
}
