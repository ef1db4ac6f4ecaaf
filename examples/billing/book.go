package main

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// invoice is the server's record of an invoice. Amounts are in cents.
type invoice struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
	Due      string `json:"due"` // the day by which to pay, as in 2026-11-30
	Paid     bool   `json:"paid"`
	Reminded int    `json:"reminded"` // number of reminders that were sent
}

// uri returns the URI of the invoice as a resource.
func (i *invoice) uri() string { return "invoice://" + i.ID }

// today is the fixed date of the demonstration, so that every run is the same.
const today = "2026-11-20"

// overdue reports whether the invoice is unpaid although its due day is before
// today.
func (i *invoice) overdue() bool { return !i.Paid && i.Due < today }

// maxInvoices bounds the number of invoices that the server keeps.
const maxInvoices = 1000

// book keeps invoices in memory. It is safe for concurrent use.
type book struct {
	mu       sync.Mutex
	invoices []invoice // ordered by number
}

const firstID = 1001

// newBook returns a book with five invoices, two of them overdue.
func newBook() *book {
	b := new(book)
	for _, i := range []invoice{
		{Customer: "Aurora Bakery", Cents: 12_500, Due: "2026-10-31", Paid: true},
		{Customer: "Borealis Cycles", Cents: 48_000, Due: "2026-11-05"},
		{Customer: "Cirrus Design", Cents: 7_990, Due: "2026-11-15"},
		{Customer: "Aurora Bakery", Cents: 12_500, Due: "2026-11-30"},
		{Customer: "Dune Travel", Cents: 230_000, Due: "2026-12-24"},
	} {
		i.ID = strconv.Itoa(firstID + len(b.invoices))
		b.invoices = append(b.invoices, i)
	}
	return b
}

// list returns a copy of each invoice i for which keep(i) is true.
func (b *book) list(keep func(*invoice) bool) []invoice {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := []invoice{}
	for i := range b.invoices {
		if keep(&b.invoices[i]) {
			found = append(found, b.invoices[i])
		}
	}
	return found
}

// find returns a copy of the invoice with this id. The text of its error is meant
// for the model that asked, and suggests another request.
func (b *book) find(id string) (invoice, error) {
	found := b.list(func(i *invoice) bool { return i.ID == id })
	if len(found) == 0 {
		return invoice{}, fmt.Errorf("no invoice %q: list_invoices lists all invoices", id)
	}
	return found[0], nil
}

// create adds an unpaid invoice.
func (b *book) create(customer string, cents int64, due string) (invoice, error) {
	switch _, err := time.Parse(time.DateOnly, due); {
	case customer == "" || len(customer) > 100:
		return invoice{}, fmt.Errorf("the customer's name has %d bytes: want 1 to 100", len(customer))
	case cents <= 0:
		return invoice{}, fmt.Errorf("the amount is %d cents: want more than 0", cents)
	case err != nil:
		return invoice{}, fmt.Errorf("due is %q: want a day, as in 2026-12-31", due)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.invoices) == maxInvoices {
		return invoice{}, fmt.Errorf("there are %d invoices already: this demonstration keeps no more", maxInvoices)
	}
	i := invoice{ID: strconv.Itoa(firstID + len(b.invoices)), Customer: customer, Cents: cents, Due: due}
	b.invoices = append(b.invoices, i)
	return i, nil
}

// remind records that a reminder of an overdue invoice was sent.
func (b *book) remind(id string) (invoice, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := slices.IndexFunc(b.invoices, func(i invoice) bool { return i.ID == id })
	switch {
	case at < 0:
		return invoice{}, fmt.Errorf("no invoice %q: overdue_invoices lists the overdue ones", id)
	case !b.invoices[at].overdue():
		return invoice{}, fmt.Errorf("invoice %s is not overdue: no reminder was sent", id)
	}
	b.invoices[at].Reminded++
	return b.invoices[at], nil
}

// money formats cents as dollars.
func money(cents int64) string { return fmt.Sprintf("%d.%02d USD", cents/100, cents%100) }
