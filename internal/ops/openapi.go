package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/fareboxhq/farebox/internal/identity"
	"github.com/fareboxhq/farebox/internal/wire"
)

// bearer is the name of the only security scheme of the OpenAPI document.
const bearer = "key"

// newAPI returns an API on the mux, without operations.
func (m *Mount) newAPI() huma.API {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	// Document the library's errors as problems, because transform replaces them by
	// problems.
	schemas.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[wire.Problem]())
	format := huma.Format{Marshal: marshal, Unmarshal: decode}
	return humago.NewWithPrefix(m.mux, m.o.Base, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: m.o.Title, Version: m.o.Version, Description: m.o.Description},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					bearer: {Type: "http", Scheme: "bearer", Description: "A key of a kind that the operation names"},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{m.transform},

		RejectUnknownQueryParameters: true,
	})
}

// marshal encodes v into memory first, so that no partial JSON is sent if v cannot be
// encoded.
func marshal(w io.Writer, v any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, _ = w.Write(b.Bytes()) // fails only if the client has disconnected
	return nil
}

// schemaName gives different names to types with the same name in different packages.
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
	case reflect.TypeFor[wire.Balance]():
		return "LedgerBalance"
	}
	return strings.TrimSuffix(name, "View")
}

// content is an input or output with a JSON body.
type content[T any] struct{ Body T }

// rawContent is an output that the operation writes itself.
type rawContent struct{ Body func(huma.Context) }

func rawBody(serve http.HandlerFunc) func(huma.Context) {
	return func(c huma.Context) {
		r, w := humago.Unwrap(c)
		serve(w, r)
	}
}

// handle adds an operation to the mux and to the OpenAPI document.
func handle[I, O any](m *Mount, o *Operation, do func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID: o.ID, Method: o.Method, Path: o.Path, Summary: o.Summary, Tags: []string{o.Tag},
		Description:   strings.TrimSpace(o.Description + "\n\n" + o.audience()),
		Security:      []map[string][]string{{bearer: {}}},
		DefaultStatus: o.Status,
		MaxBodyBytes:  o.MaxBody + 1, BodyReadTimeout: -1, // readBody has already read the body and applied its limits
		Responses: map[string]*huma.Response{},
	}
	schemas := m.api.OpenAPI().Components.Schemas
	if o.Content != "" {
		op.Responses["200"] = o.stream(schemas)
	}
	codes := append([]wire.Code{wire.TokenInvalid, wire.TokenExpired, wire.KindWrong, wire.Invalid, wire.TooMany, wire.Unavailable}, o.Problems...)
	if o.MaxBody > 0 {
		codes = append(codes, wire.TooLarge)
	}
	describeProblems(schemas, &op, codes, o.MaxBody > 0)
	m.rules[o.Method+" "+m.o.Base+o.Path] = o
	huma.Register(m.api, op, do)
}

// audience returns a sentence that names the kinds of keys that may perform the
// operation.
func (o *Operation) audience() string {
	if names := kindNames(o.Needs); names != "" {
		return "For keys of kind " + names + "."
	}
	return "For the operator of the server."
}

// stream describes a response of the media type o.Content.
func (o *Operation) stream(schemas huma.Registry) *huma.Response {
	r := &huma.Response{
		Description: "A stream",
		Content:     map[string]*huma.MediaType{o.Content: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	if o.Content == StreamType {
		r.Description = "The result, or a stream of lines of JSON: progress, then the result"
		r.Content["application/json"] = &huma.MediaType{Schema: schemas.Schema(o.Out, true, "")}
	}
	return r
}

// describeProblems adds the problems of an operation to its documented responses,
// grouped by status.
func describeProblems(schemas huma.Registry, op *huma.Operation, codes []wire.Code, body bool) {
	schema := schemas.Schema(reflect.TypeFor[wire.Problem](), true, "")
	texts := make(map[int][]string)
	add := func(status int, code wire.Code) {
		if !slices.Contains(texts[status], string(code)) {
			texts[status] = append(texts[status], string(code))
		}
	}
	for _, code := range codes {
		add(code.Status(), code)
	}
	if body {
		for _, status := range []int{http.StatusBadRequest, http.StatusRequestTimeout, http.StatusUnsupportedMediaType} {
			add(status, wire.Invalid)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(texts)) {
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: strings.Join(texts[status], ", "),
			Content:     map[string]*huma.MediaType{problemType: {Schema: schema}},
		}
	}
}

// Document returns the OpenAPI document of the operations as JSON.
func (m *Mount) Document() ([]byte, error) { return json.MarshalIndent(m.api.OpenAPI(), "", "  ") }

// Needs returns the right that each of the mount's operations needs, by method and
// path.
func (m *Mount) Needs() map[string]identity.Right {
	needs := make(map[string]identity.Right)
	for pattern, op := range m.rules {
		if op != nil {
			needs[strings.Replace(pattern, m.o.Base, "", 1)] = op.Needs
		}
	}
	return needs
}
