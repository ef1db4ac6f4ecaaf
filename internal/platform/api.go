package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/wire"
)

// bearer is the name of the only security scheme.
const bearer = "key"

// newAPI returns an API without operations, on the mux.
func (p *Platform) newAPI() huma.API {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	// The library's own errors are told as problems: see transform.
	schemas.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[wire.Problem]())
	format := huma.Format{Marshal: marshal, Unmarshal: decode}
	return humago.NewWithPrefix(p.mux, wire.Base, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Farebox platform", Version: p.Version,
				Description: "Charging, keys and accounts. Amounts are decimals of at most six places in strings, in " + p.Currency + ". Times are RFC 3339, UTC.",
			},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					bearer: {Type: "http", Scheme: "bearer", Description: "A key of the kind that the operation names"},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{transform},

		RejectUnknownQueryParameters: true,
	})
}

// marshal writes JSON whole, so that what cannot be encoded is not half sent.
func marshal(w io.Writer, v any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, _ = w.Write(b.Bytes()) // the client has left: there is nobody to tell
	return nil
}

// schemaName tells types of the same name in different packages apart.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[wire.Caps]():
		return "ServerCaps"
	case reflect.TypeFor[wire.Charge]():
		return "LedgerCharge"
	case reflect.TypeFor[wire.Key]():
		return "StoredKey"
	}
	return strings.TrimSuffix(name, "View")
}

// operation describes one operation. All must be set but maxBody, status and
// charge.
type operation struct {
	method, path string // below wire.Base
	id           string
	summary      string
	description  string
	tag          string
	kinds        []keys.Kind
	status       int // of success; 0 for 200, or 204 without a body
	maxBody      int64
	charge       bool
	refusals     []wire.Code // that are its own, beside those that all have
	stream       bool        // it answers with events
}

// content is an answer with a body.
type content[T any] struct{ Body T }

// none is an answer, or a request, without one.
type none struct{}

// register adds an operation to the mux and to the description.
func register[I, O any](p *Platform, o operation, do func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Tags: []string{o.tag},
		Description:   strings.TrimSpace(o.description + "\n\nFor keys of kind " + kindNames(o.kinds) + "."),
		Security:      []map[string][]string{{bearer: {}}},
		DefaultStatus: o.status,
		MaxBodyBytes:  o.maxBody + 1, BodyReadTimeout: -1, // readBody has read it, within its limits
		Responses: map[string]*huma.Response{},
	}
	if o.stream {
		op.Responses["200"] = &huma.Response{
			Description: "A stream of events",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}
	}
	codes := append([]wire.Code{wire.TokenInvalid, wire.TokenExpired, wire.KindWrong, wire.Invalid, wire.TooMany, wire.Unavailable}, o.refusals...)
	if o.maxBody > 0 {
		codes = append(codes, wire.TooLarge)
	}
	describeProblems(p.api.OpenAPI().Components.Schemas, &op, codes, o.maxBody > 0)
	p.rules[o.method+" "+wire.Base+o.path] = rule{kinds: o.kinds, maxBody: o.maxBody, charge: o.charge}
	huma.Register(p.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err != nil {
			return nil, p.problem(ctx, o.id, err)
		}
		v := visitOf(ctx)
		p.Used(v.key)
		if v.payer != nil {
			p.Used(v.payer)
		}
		return out, nil
	})
}

// describeProblems adds the problems of an operation to its responses, by their
// status.
func describeProblems(schemas huma.Registry, op *huma.Operation, codes []wire.Code, body bool) {
	schema := schemas.Schema(reflect.TypeFor[wire.Problem](), true, "")
	add := func(status int, text string) {
		name := statusName(status)
		if op.Responses[name] == nil {
			op.Responses[name] = &huma.Response{
				Content: map[string]*huma.MediaType{problemType: {Schema: schema}},
			}
		} else if !strings.Contains(op.Responses[name].Description, text) {
			text = op.Responses[name].Description + ", " + text
		} else {
			return
		}
		op.Responses[name].Description = text
	}
	for _, code := range codes {
		add(code.Status(), string(code))
	}
	if body {
		for _, status := range []int{http.StatusBadRequest, http.StatusRequestTimeout, http.StatusUnsupportedMediaType} {
			add(status, string(wire.Invalid))
		}
	}
}
