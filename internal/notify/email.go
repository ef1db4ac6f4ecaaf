package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/fareboxhq/farebox/internal/alert"
)

// Recipient is a person that e-mails can be sent to.
type Recipient struct {
	ID    string // "psn_" and a UUIDv7
	Email string
}

// EmailOptions configure NewEmail. SMTP, From, and To or Owners must be set.
type EmailOptions struct {
	SMTP     string   // host:port; on port 465, TLS from the beginning; on other ports, STARTTLS
	User     string   // "" means no authentication
	Password string   //
	From     string   // an address, or a name and an address: Farebox <alerts@example.com>
	To       []string // addresses of the operators; they get the alerts of all accounts
	// If Owners is nil, only the addresses in To get e-mails.
	Owners Owners
}

// Owners is a function that returns those owners of an account that are allowed to sign
// in.
type Owners func(ctx context.Context, account string) ([]Recipient, error)

// Email is an alert.Channel. It sends a separate message to each recipient, so that the
// recipients do not see each other's addresses.
type Email struct {
	o      EmailOptions
	client func() (*mail.Client, error)
	domain string // domain of the sender, used in message ids
}

const (
	smtpTimeout = 15 * time.Second
	// smtpsPort is the port of SMTP over TLS (RFC 8314, section 3.3).
	smtpsPort = 465
	// toTarget begins the target of a message to an operator: "to:" and the e-mail
	// address. The target of a message to an account's owner is the owner's person id.
	toTarget = "to:"
)

// NewEmail returns a channel. The channel uses TLS, except to a mail server at a
// loopback address.
func NewEmail(o EmailOptions) (*Email, error) {
	host, port, err := splitServer(o.SMTP)
	if err != nil {
		return nil, err
	}
	from, err := netmail.ParseAddress(o.From)
	if err != nil {
		return nil, fmt.Errorf("email: from %q: want an address, as in: from alerts@example.com", o.From)
	}
	for _, to := range o.To {
		if a, err := netmail.ParseAddress(to); err != nil || a.Address != to {
			return nil, fmt.Errorf("email: to %q: want an address, as in: to ops@example.com", to)
		}
	}
	if (o.User == "") != (o.Password == "") {
		return nil, errors.New("email: user and password are given together, or not at all")
	}
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(smtpTimeout)}
	local := loopback(host)
	switch {
	case port == smtpsPort:
		options = append(options, mail.WithSSL())
	case local:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	options = append(options, mail.WithTLSConfig(&tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}))
	if o.User != "" {
		auth := mail.SMTPAuthAutoDiscover
		if local && port != smtpsPort {
			auth = mail.SMTPAuthPlainNoEnc
		}
		options = append(options, mail.WithSMTPAuth(auth), mail.WithUsername(o.User), mail.WithPassword(o.Password))
	}
	e := &Email{o: o, client: func() (*mail.Client, error) { return mail.NewClient(host, options...) }}
	_, e.domain, _ = strings.Cut(from.Address, "@")
	if _, err := e.client(); err != nil {
		return nil, fmt.Errorf("email: %w", err)
	}
	return e, nil
}

func splitServer(text string) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(text)
	if err == nil {
		port, err = strconv.Atoi(service)
	}
	if err != nil || host == "" || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("email: smtp %q: want a host and a port, as in: smtp mail.example.com:587", text)
	}
	return host, port, nil
}

// Name returns "email".
func (e *Email) Name() string { return "email" }

// Targets returns a target for each operator's address and each owner of the account.
func (e *Email) Targets(ctx context.Context, account string) (targets []string, err error) {
	for _, to := range e.o.To {
		targets = append(targets, toTarget+to)
	}
	if e.o.Owners == nil || account == "" {
		return targets, nil
	}
	owners, err := e.o.Owners(ctx, account)
	for _, o := range owners {
		if !slices.Contains(e.o.To, o.Email) {
			targets = append(targets, o.ID)
		}
	}
	return targets, err
}

// address returns the e-mail address of a target. If the target no longer exists, for
// example because an owner has left the account, the error is alert.ErrNoTarget.
func (e *Email) address(ctx context.Context, target, account string) (string, error) {
	if to, ok := strings.CutPrefix(target, toTarget); ok {
		if slices.Contains(e.o.To, to) {
			return to, nil
		}
		return "", alert.ErrNotConfigured
	}
	if e.o.Owners == nil {
		return "", alert.ErrNotConfigured
	}
	owners, err := e.o.Owners(ctx, account)
	if err != nil {
		return "", err
	}
	for _, o := range owners {
		if o.ID == target {
			return o.Email, nil
		}
	}
	return "", alert.ErrNoTarget
}

// Send sends a message to a target.
func (e *Email) Send(ctx context.Context, target string, m *alert.Message) error {
	to, err := e.address(ctx, target, m.Account)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(target, toTarget) {
		m = m.WithoutKeyName()
	}
	msg := mail.NewMsg()
	if err := errors.Join(msg.From(e.o.From), msg.To(to)); err != nil {
		return fmt.Errorf("%w: its address cannot be used", alert.ErrNoTarget)
	}
	msg.Subject(m.Title)
	msg.SetDateWithValue(m.At)
	msg.SetMessageIDWithValue(m.ID + "@" + e.domain) // the same for each attempt, so that a second copy can be recognized
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(mail.TypeTextPlain, text(m))
	client, err := e.client()
	if err != nil {
		return err
	}
	if err := sendWithin(ctx, client, msg); err != nil {
		// The error is stored and logged, so it must not contain a person's address.
		return errors.New("the mail server did not take the message: " + strings.ReplaceAll(err.Error(), to, target))
	}
	return nil
}

// sendWithin sends a message, but returns when ctx ends even if the message is not sent
// yet. This is necessary because the library uses ctx only while it connects. The
// library gives up after smtpTimeout.
func sendWithin(ctx context.Context, client *mail.Client, msg *mail.Msg) error {
	sent := make(chan error, 1)
	go func() { sent <- client.DialAndSendWithContext(ctx, msg) }()
	select {
	case err := <-sent:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// text returns the body of an e-mail.
func text(m *alert.Message) string {
	lines := []string{m.Title + ".", "", m.Detail, ""}
	if m.AccountName != "" {
		lines = append(lines, "Account: "+m.AccountName)
	}
	if m.Key != "" {
		lines = append(lines, "Key: "+m.Key)
	}
	lines = append(lines, "Time: "+m.At.UTC().Format("2006-01-02 15:04 UTC"), "Alert: "+m.ID, "",
		"Farebox sends this to operators, and to owners of the account. Owners choose the alerts of their account in the console, and operators with farebox alert set.")
	return strings.Join(lines, "\r\n")
}
