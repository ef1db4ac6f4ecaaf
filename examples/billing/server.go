package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type invoiceInput struct {
	ID string `json:"id" jsonschema:"number of an invoice, as list_invoices gives it"`
}

type newInvoiceInput struct {
	Customer string `json:"customer" jsonschema:"who is to pay"`
	Cents    int64  `json:"cents" jsonschema:"the amount in cents"`
	Due      string `json:"due" jsonschema:"the day by which it is to be paid, as in 2026-12-31"`
}

type invoicesOutput struct {
	Invoices []invoice `json:"invoices"`
}

type statisticsOutput struct {
	Invoices     int   `json:"invoices"`
	PaidCents    int64 `json:"paid_cents"`
	OpenCents    int64 `json:"open_cents"`
	OverdueCents int64 `json:"overdue_cents"`
}

// The URI template of invoices, and the name of the prompt.
const (
	invoiceTemplate = "invoice://{id}"
	reminderPrompt  = "payment_reminder"
)

// newServer returns the MCP server for a book. It has three tools that read the
// book, two that change it, a resource for each invoice, and a prompt.
func newServer(b *book) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "billing", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{
		Name: "invoice_statistics", Description: "How much was invoiced, paid, and is open or overdue.",
	}, b.statisticsTool)
	mcp.AddTool(server, &mcp.Tool{
		Name: "list_invoices", Description: "All invoices.",
	}, b.listTool(func(*invoice) bool { return true }))
	mcp.AddTool(server, &mcp.Tool{
		Name: "overdue_invoices", Description: "The invoices that should have been paid by " + today + ".",
	}, b.listTool((*invoice).overdue))
	mcp.AddTool(server, &mcp.Tool{
		Name: "create_invoice", Description: "Make an invoice.",
	}, func(_ context.Context, _ *mcp.CallToolRequest, in newInvoiceInput) (*mcp.CallToolResult, invoice, error) {
		i, err := b.create(in.Customer, in.Cents, in.Due)
		if err != nil {
			return nil, invoice{}, err
		}
		b.addResource(server, i)
		return text("Made " + line(i)), i, nil
	})
	mcp.AddTool(server, &mcp.Tool{
		Name: "send_reminder", Description: "Send the customer of an overdue invoice a reminder. Here none is sent; it is only counted.",
	}, b.remindTool)
	for _, i := range b.list(func(*invoice) bool { return true }) {
		b.addResource(server, i)
	}
	server.AddResourceTemplate(&mcp.ResourceTemplate{
		Name: "invoice", URITemplate: invoiceTemplate, MIMEType: "application/json", Description: "An invoice by its number.",
	}, b.read)
	server.AddPrompt(&mcp.Prompt{
		Name: reminderPrompt, Description: "Has a reminder of an invoice written, and sent.",
		Arguments: []*mcp.PromptArgument{{Name: "id", Description: "number of the invoice", Required: true}},
	}, b.remindPrompt)
	return server
}

func (b *book) addResource(server *mcp.Server, i invoice) {
	server.AddResource(&mcp.Resource{Name: "invoice " + i.ID, URI: i.uri(), MIMEType: "application/json"}, b.read)
}

func (b *book) statisticsTool(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, statisticsOutput, error) {
	var s statisticsOutput
	for _, i := range b.list(func(*invoice) bool { return true }) {
		s.Invoices++
		if i.Paid {
			s.PaidCents += i.Cents
			continue
		}
		s.OpenCents += i.Cents
		if i.overdue() {
			s.OverdueCents += i.Cents
		}
	}
	return text(fmt.Sprintf("%d invoices: %s paid, %s open, of which %s overdue",
		s.Invoices, money(s.PaidCents), money(s.OpenCents), money(s.OverdueCents))), s, nil
}

func (b *book) listTool(keep func(*invoice) bool) mcp.ToolHandlerFor[struct{}, invoicesOutput] {
	return func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, invoicesOutput, error) {
		found := b.list(keep)
		lines := make([]string, len(found))
		for i, invoice := range found {
			lines[i] = line(invoice)
		}
		return text(strings.Join(lines, "\n")), invoicesOutput{found}, nil
	}
}

func (b *book) remindTool(_ context.Context, _ *mcp.CallToolRequest, in invoiceInput) (*mcp.CallToolResult, invoice, error) {
	i, err := b.remind(in.ID)
	if err != nil {
		return nil, invoice{}, err
	}
	return text(fmt.Sprintf("%s was reminded of invoice %s, for the %d. time", i.Customer, i.ID, i.Reminded)), i, nil
}

// read serves an invoice as a resource.
func (b *book) read(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	i, err := b.find(strings.TrimPrefix(req.Params.URI, "invoice://"))
	if err != nil {
		return nil, mcp.ResourceNotFoundError(req.Params.URI)
	}
	value, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: i.uri(), MIMEType: "application/json", Text: string(value)}}}, nil
}

func (b *book) remindPrompt(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	i, err := b.find(req.Params.Arguments["id"])
	if err != nil {
		return nil, err
	}
	ask := fmt.Sprintf("Write a short and friendly reminder to %s: invoice %s of %s was due on %s. Then send it with send_reminder.",
		i.Customer, i.ID, money(i.Cents), i.Due)
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: ask}}}}, nil
}

// line returns a description of an invoice in one line.
func line(i invoice) string {
	state := "open"
	switch {
	case i.Paid:
		state = "paid"
	case i.overdue():
		state = "overdue"
	}
	return fmt.Sprintf("invoice %s: %s, %s, due %s, %s", i.ID, i.Customer, money(i.Cents), i.Due, state)
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}
