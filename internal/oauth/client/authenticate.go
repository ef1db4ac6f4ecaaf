package client

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/netip"
	"net/url"
	"strings"
)

// Request is the part of a request to the token endpoint that authenticates its client.
type Request struct {
	Source        netip.Addr // address of the client
	Authorization []string   // values of the header Authorization
	Form          url.Values // parameters of the body
	// Audiences are the values of aud that an assertion may have: the issuer and the URL of
	// the token endpoint.
	Audiences []string
}

// credentials are the parameters of a request with which a client authenticates.
type credentials struct {
	id, secret               string
	assertionType, assertion string
	basic                    *basic // nil without the header
}

// basic are the credentials of the header Authorization, as they were sent.
type basic struct{ id, secret string }

// Authenticate returns the client of a request to the token endpoint, and the method by
// which it authenticated. A grant should remember the method: a client that can use
// several could otherwise be imitated by the weakest. Errors are *Error.
func (r *Registry) Authenticate(ctx context.Context, req *Request) (*Client, AuthMethod, error) {
	form, err := read(req)
	if err != nil {
		return nil, "", err
	}
	methods := 0
	for _, used := range []bool{form.basic != nil, form.secret != "", form.assertion != "" || form.assertionType != ""} {
		if used {
			methods++
		}
	}
	switch {
	case methods > 1:
		return nil, "", refuse(InvalidRequest, "the client authenticates in more than one way (RFC 6749, 2.3)")
	case form.basic != nil:
		c, err := r.byBasic(ctx, req.Source, form)
		return c, SecretBasic, err
	case form.secret != "":
		c, err := r.bySecret(ctx, req.Source, form.id, SecretPost, form.secret)
		return c, SecretPost, err
	case methods > 0:
		c, err := r.byAssertion(ctx, req, form)
		if err != nil {
			return nil, PrivateKeyJWT, err
		}
		return c, PrivateKeyJWT, nil
	}
	c, err := r.public(ctx, req.Source, form.id)
	return c, None, err
}

// read returns the credentials of a request. A parameter must not be there twice (RFC
// 6749, 3.2).
func read(req *Request) (*credentials, error) {
	c := new(credentials)
	for name, into := range map[string]*string{
		"client_id": &c.id, "client_secret": &c.secret,
		"client_assertion_type": &c.assertionType, "client_assertion": &c.assertion,
	} {
		if len(req.Form[name]) > 1 {
			return nil, refuse(InvalidRequest, name+" is there twice")
		}
		*into = req.Form.Get(name)
	}
	switch len(req.Authorization) {
	case 0:
		return c, nil
	case 1:
	default:
		return nil, refuse(InvalidRequest, "the header Authorization is there twice")
	}
	scheme, text, _ := strings.Cut(req.Authorization[0], " ")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	id, secret, ok := strings.Cut(string(raw), ":")
	if !strings.EqualFold(scheme, "Basic") || err != nil || !ok || id == "" {
		return nil, refuse(InvalidClient, "the header Authorization: want the scheme Basic with the client_id and its secret")
	}
	c.basic = &basic{id, secret}
	return c, nil
}

// byBasic authenticates a client by the header Authorization. RFC 6749, 2.3.1, has id and
// secret encoded as in a form, which many clients do not do, so the text is tried both
// ways.
func (r *Registry) byBasic(ctx context.Context, source netip.Addr, form *credentials) (*Client, error) {
	id, secret := form.basic.id, form.basic.secret
	if decoded, err := url.QueryUnescape(id); err == nil && (form.id == "" || form.id == decoded) {
		id = decoded
	}
	if form.id != "" && form.id != id {
		return nil, refuse(InvalidClient, "client_id is not the one of the header Authorization")
	}
	if secret == "" {
		return r.public(ctx, source, id)
	}
	forms := []string{secret}
	if decoded, err := url.QueryUnescape(secret); err == nil && decoded != secret {
		forms = append(forms, decoded)
	}
	return r.bySecret(ctx, source, id, SecretBasic, forms...)
}

// bySecret authenticates a client by a secret, which may be any of the texts.
func (r *Registry) bySecret(ctx context.Context, source netip.Addr, id string, method AuthMethod, texts ...string) (*Client, error) {
	c, err := r.Find(ctx, source, id)
	if err != nil {
		return nil, err
	}
	if !c.MayUse(method) {
		return nil, refuse(InvalidClient, "the client does not authenticate by "+string(method))
	}
	right := 0
	for _, text := range texts {
		shown := sha256.Sum256([]byte(text))
		for _, d := range c.secrets {
			right |= subtle.ConstantTimeCompare(shown[:], d[:])
		}
	}
	if right != 1 {
		return nil, refuse(InvalidClient, "the secret is wrong")
	}
	return c, nil
}

// public returns a client that does not authenticate.
func (r *Registry) public(ctx context.Context, source netip.Addr, id string) (*Client, error) {
	if id == "" {
		return nil, refuse(InvalidClient, "client_id is missing")
	}
	c, err := r.Find(ctx, source, id)
	if err != nil {
		return nil, err
	}
	if !c.MayUse(None) {
		return nil, refuse(InvalidClient, "the client must authenticate by "+string(c.AuthMethods[0]))
	}
	return c, nil
}
