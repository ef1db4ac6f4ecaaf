package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/alert"
	"github.com/fareboxhq/farebox/internal/smtptest"
)

// TestEmail checks that each operator and each owner gets a separate message that
// describes the event and does not contain another recipient's address. Each attempt to
// send a message has the same message id.
func TestEmail(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	owners := []Recipient{{"psn_1", "owner@example.com"}, {"psn_2", "ops@example.com"}}
	channel, err := NewEmail(EmailOptions{
		SMTP: server.Addr, From: "Farebox <alerts@example.com>", To: []string{"ops@example.com"},
		Owners: func(_ context.Context, account string) ([]Recipient, error) {
			if account != "acct_1" {
				t.Errorf("the owners of %q were asked for", account)
			}
			return owners, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	targets, err := channel.Targets(t.Context(), "acct_1")
	if err != nil || fmt.Sprint(targets) != "[to:ops@example.com psn_1]" {
		t.Fatalf("targets %v, %v", targets, err)
	}
	for i, to := range []string{"ops@example.com", "owner@example.com"} {
		if err := channel.Send(t.Context(), targets[i], message); err != nil {
			t.Fatal(err)
		}
		got := server.Messages()[i]
		m, err := mail.ReadMessage(strings.NewReader(got.Text))
		if err != nil {
			t.Fatal(err)
		}
		h := m.Header
		title := message.Title
		if i == 1 {
			title = message.WithoutKeyName().Title // an owner's e-mail must not contain the key's name
		}
		if got.To != to || h.Get("To") != "<"+to+">" || h.Get("Subject") != title || h.Get("Message-Id") != "<alr_1@example.com>" || h.Get("Auto-Submitted") != "auto-generated" || h.Get("From") != `"Farebox" <alerts@example.com>` {
			t.Errorf("to %s: %v", got.To, h)
		}
		if !strings.Contains(got.Text, message.Detail) || !strings.Contains(got.Text, "Account: acme") {
			t.Errorf("the text is %s", got.Text)
		}
	}
	owners = owners[1:]
	if err := channel.Send(t.Context(), "psn_1", message); !errors.Is(err, alert.ErrNoTarget) {
		t.Errorf("to a person who is no owner any more: %v", err)
	}
	if err := channel.Send(t.Context(), "to:other@example.com", message); !errors.Is(err, alert.ErrNotConfigured) {
		t.Errorf("to an address that is not configured any more: %v", err)
	}
	if targets, err := channel.Targets(t.Context(), ""); err != nil || len(targets) != 1 {
		t.Errorf("a test goes to %v, %v", targets, err)
	}
}

// TestEmailToOwnersHasNoKeyName checks that an e-mail to an owner calls the key by its
// hint only, and that an e-mail to an operator also has the key's name.
func TestEmailToOwnersHasNoKeyName(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	channel, err := NewEmail(EmailOptions{
		SMTP: server.Addr, From: "alerts@example.com", To: []string{"ops@example.com"},
		Owners: func(context.Context, string) ([]Recipient, error) {
			return []Recipient{{"psn_1", "owner@example.com"}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := alert.Alert{ID: "alr_1", Kind: alert.Network, Account: "acct_1", Key: "key_1", Data: alert.Data{KeyName: "buy at spam.example", KeyHint: "sk_live_3f9a", Network: "192.0.2.0/24"}}
	texts := alert.Texts{Account: "acme", Currency: "USD"}
	m := &alert.Message{Alert: a, AccountName: "acme", Currency: "USD", Title: texts.Title(&a), Detail: texts.Detail(&a)}
	for i, target := range []string{"psn_1", "to:ops@example.com"} {
		if err := channel.Send(t.Context(), target, m); err != nil {
			t.Fatal(err)
		}
		got := server.Messages()[i].Text
		if named := strings.Contains(got, "spam.example"); named != (i == 1) || !strings.Contains(got, "sk_live_3f9a") || !strings.Contains(got, "192.0.2.0/24") {
			t.Errorf("to %s: %s", target, got)
		}
	}
}

// TestEmailFails checks that Send returns an error if the mail server refuses the
// recipient or cannot be reached. The error must not contain an owner's address.
func TestEmailFails(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	owners := func(context.Context, string) ([]Recipient, error) {
		return []Recipient{{"psn_1", "refused@example.com"}}, nil
	}
	for _, address := range []string{server.Addr, "127.0.0.1:1"} {
		channel, err := NewEmail(EmailOptions{SMTP: address, From: "alerts@example.com", Owners: owners})
		if err != nil {
			t.Fatal(err)
		}
		if err := channel.Send(t.Context(), "psn_1", message); err == nil || strings.Contains(err.Error(), "refused@example.com") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestEmailNeedsTLS checks that no message is sent to a mail server that offers no TLS
// and is not at a loopback address.
func TestEmailNeedsTLS(t *testing.T) {
	t.Parallel()
	server := smtptest.Start(t)
	_, port, _ := net.SplitHostPort(server.Addr)
	// The address reaches this host, although it is not a loopback address.
	channel, err := NewEmail(EmailOptions{SMTP: "0.0.0.0:" + port, From: "alerts@example.com", To: []string{"ops@example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := channel.Send(t.Context(), "to:ops@example.com", message); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("the message was sent: %v", err)
	}
	if n := len(server.Messages()); n > 0 {
		t.Errorf("%d messages were received", n)
	}
}

// TestEmailIsChecked checks that invalid options get an error that names the mistake.
func TestEmailIsChecked(t *testing.T) {
	t.Parallel()
	good := EmailOptions{SMTP: "mail.example.com:587", User: "farebox", Password: "secret", From: "alerts@example.com", To: []string{"ops@example.com"}}
	if _, err := NewEmail(good); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*EmailOptions){
		"host and a port": func(o *EmailOptions) { o.SMTP = "mail.example.com" },
		"from":            func(o *EmailOptions) { o.From = "nobody" },
		"to":              func(o *EmailOptions) { o.To = []string{"Ops <ops@example.com>"} },
		"together":        func(o *EmailOptions) { o.Password = "" },
	} {
		o := good
		change(&o)
		if _, err := NewEmail(o); err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
