package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/fareboxhq/farebox/examples/internal/serve"
)

func connect(t *testing.T, stateless bool) *mcp.ClientSession {
	t.Helper()
	ts := httptest.NewServer(serve.Handler(newServer(newBook()), stateless))
	t.Cleanup(ts.Close)
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: ts.URL + "/mcp", DisableStandaloneSSE: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// TestToolsAnswer checks that each tool answers as described, with and without
// sessions. A new invoice can be read back. Invalid arguments give an error that the
// model can read.
func TestToolsAnswer(t *testing.T) {
	for name, stateless := range map[string]bool{"sessions": false, "stateless": true} {
		t.Run(name, func(t *testing.T) {
			session := connect(t, stateless)
			for _, c := range []struct {
				tool    string
				args    any
				want    string
				isError bool
			}{
				{"invoice_statistics", nil, "5 invoices: 125.00 USD paid, 2984.90 USD open, of which 559.90 USD overdue", false},
				{"list_invoices", nil, "invoice 1001: Aurora Bakery, 125.00 USD, due 2026-10-31, paid", false},
				{"overdue_invoices", nil, "invoice 1002: Borealis Cycles, 480.00 USD, due 2026-11-05, overdue\ninvoice 1003: Cirrus Design", false},
				{"create_invoice", newInvoiceInput{"Ember Foods", 100, "2026-12-31"}, "Made invoice 1006: Ember Foods, 1.00 USD", false},
				{"create_invoice", newInvoiceInput{"", 100, "2026-12-31"}, "want 1 to 100", true},
				{"create_invoice", newInvoiceInput{"Ember Foods", 0, "2026-12-31"}, "want more than 0", true},
				{"create_invoice", newInvoiceInput{"Ember Foods", 100, "soon"}, "want a day", true},
				{"list_invoices", nil, "invoice 1006: Ember Foods", false},
				{"send_reminder", invoiceInput{"1002"}, "Borealis Cycles was reminded of invoice 1002, for the 1. time", false},
				{"send_reminder", invoiceInput{"1001"}, "is not overdue", true},
				{"send_reminder", invoiceInput{"7"}, "no invoice", true},
			} {
				got, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: c.tool, Arguments: c.args})
				if err != nil {
					t.Fatalf("%s %v: %v", c.tool, c.args, err)
				}
				text := got.Content[0].(*mcp.TextContent).Text
				if got.IsError != c.isError || !strings.Contains(text, c.want) {
					t.Errorf("%s %v: got error %t, %q; want error %t, %q", c.tool, c.args, got.IsError, text, c.isError, c.want)
				}
			}
		})
	}
}

// TestInvoicesAreResources checks that every invoice, including a new one, is listed
// and can be read, and that the prompt describes an invoice.
func TestInvoicesAreResources(t *testing.T) {
	session := connect(t, false)
	if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "create_invoice", Arguments: newInvoiceInput{"Ember Foods", 100, "2026-12-31"}}); err != nil {
		t.Fatal(err)
	}
	list, err := session.ListResources(t.Context(), nil)
	if err != nil || len(list.Resources) != 6 {
		t.Fatalf("%d resources, %v; want 6", len(list.Resources), err)
	}
	for _, r := range list.Resources {
		if got, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: r.URI}); err != nil || !strings.Contains(got.Contents[0].Text, `"cents"`) {
			t.Errorf("%s: %v, %v", r.URI, got, err)
		}
	}
	if got, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "invoice://7"}); err == nil {
		t.Errorf("an unknown invoice: %v", got)
	}
	prompt, err := session.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: reminderPrompt, Arguments: map[string]string{"id": "1002"}})
	if err != nil || !strings.Contains(prompt.Messages[0].Content.(*mcp.TextContent).Text, "invoice 1002 of 480.00 USD") {
		t.Errorf("%v, %v", prompt, err)
	}
}
