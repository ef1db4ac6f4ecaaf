package ops

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// ServeDescription serves a description of the registered operations, as an OpenAPI
// document and as an HTML page. Call it after the last Register.
func (m *Mount) ServeDescription() error {
	document := m.api.OpenAPI()
	asJSON, err := m.Document()
	if err != nil {
		return fmt.Errorf("describing the API: %w", err)
	}
	asYAML, err := document.YAML()
	if err != nil {
		return fmt.Errorf("describing the API: %w", err)
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, m.pageOf(document)); err != nil {
		return fmt.Errorf("describing the API: %w", err)
	}
	// The page loads no resources and runs no scripts. Its only style is inline.
	sum := sha256.Sum256([]byte(pageStyle))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	m.public("/openapi.json", "application/openapi+json", asJSON, nil)
	m.public("/openapi.yaml", "application/openapi+yaml", asYAML, nil)
	m.public("/docs", "text/html; charset=utf-8", page.Bytes(), map[string]string{
		"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
	})
	return nil
}

// public serves a page that needs no credential.
func (m *Mount) public(path, kind string, body []byte, headers map[string]string) {
	pattern := http.MethodGet + " " + m.o.Base + path
	m.rules[pattern] = nil
	m.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body) // fails only if the client has disconnected
	})
}

//go:embed docs.html
var pageText string

//go:embed docs.css
var pageStyle string

var pageTemplate = template.Must(template.New("docs").Parse(pageText))

// page is the data of pageTemplate.
type page struct {
	Title, Version, Description, Base string

	Style    template.CSS
	Sections []section
	Schemas  []schemaView
}

type section struct {
	Tag        string
	Operations []operationView
}

type operationView struct {
	ID, Method, Path, Summary string

	Paragraphs []string
	Parameters []fieldView
	Request    *typeView
	Responses  []responseView
}

type responseView struct {
	Status, Description string

	Type *typeView
}

type schemaView struct {
	Name   string
	Fields []fieldView
}

type fieldView struct {
	Name, In, Doc string

	Required bool
	Type     typeView
}

// typeView is the description of a type in words: Before, Link and After, in this
// order. Link is the name of another type, and leads to the schema of that type.
type typeView struct{ Before, Link, After string }

func (m *Mount) pageOf(d *huma.OpenAPI) page {
	view := page{
		Title: d.Info.Title, Version: d.Info.Version, Description: d.Info.Description, Base: m.o.Base,
		Style: template.CSS(pageStyle), // embedded from a file of this package
	}
	sections := make(map[string]*section)
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, op := range operationsOf(d.Paths[path]) {
			tag := op.Tags[0]
			if sections[tag] == nil {
				sections[tag] = &section{Tag: tag}
			}
			sections[tag].Operations = append(sections[tag].Operations, viewOperation(op))
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(sections)) {
		view.Sections = append(view.Sections, *sections[tag])
	}
	schemas := d.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		view.Schemas = append(view.Schemas, viewSchema(name, schemas[name]))
	}
	return view
}

// operationsOf returns the operations of a path, ordered by method.
func operationsOf(item *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete}
	return slices.DeleteFunc(all, func(op *huma.Operation) bool { return op == nil })
}

func viewOperation(op *huma.Operation) operationView {
	v := operationView{
		ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary,
		Paragraphs: strings.Split(op.Description, "\n\n"),
	}
	for _, p := range op.Parameters {
		v.Parameters = append(v.Parameters, fieldView{Name: p.Name, In: p.In, Doc: p.Description, Required: p.Required, Type: viewType(p.Schema)})
	}
	if op.RequestBody != nil {
		v.Request = typeOfContent(op.RequestBody.Content)
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		r := op.Responses[status]
		v.Responses = append(v.Responses, responseView{Status: status, Description: r.Description, Type: typeOfContent(r.Content)})
	}
	return v
}

func typeOfContent(content map[string]*huma.MediaType) *typeView {
	for _, kind := range slices.Sorted(maps.Keys(content)) {
		t := viewType(content[kind].Schema)
		return &t
	}
	return nil
}

func viewSchema(name string, s *huma.Schema) schemaView {
	v := schemaView{Name: name}
	for _, field := range slices.Sorted(maps.Keys(s.Properties)) {
		f := s.Properties[field]
		v.Fields = append(v.Fields, fieldView{Name: field, Doc: f.Description, Required: slices.Contains(s.Required, field), Type: viewType(f)})
	}
	return v
}

func viewType(s *huma.Schema) typeView {
	switch {
	case s == nil:
		return typeView{Before: "anything"}
	case s.Ref != "":
		return typeView{Link: s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]}
	case s.Type == huma.TypeArray:
		t := viewType(s.Items)
		t.Before = "list of " + t.Before
		return t
	case s.Type == huma.TypeObject:
		if of, ok := s.AdditionalProperties.(*huma.Schema); ok {
			t := viewType(of)
			t.Before = "map of " + t.Before
			return t
		}
	case s.Type == "":
		return typeView{Before: "anything"}
	}
	t := typeView{Before: s.Type}
	if s.Format != "" && s.Format != "int64" {
		t.After = " (" + s.Format + ")"
	}
	if s.ContentEncoding != "" {
		t.After = " (" + s.ContentEncoding + ")"
	}
	return t
}
