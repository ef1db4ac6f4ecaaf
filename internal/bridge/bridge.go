// Package bridge connects an MCP client that speaks on stdin and stdout with a server
// that speaks streamable HTTP, and looks after the client's money on the way.
//
// Messages pass unchanged in both directions, in every protocol version from 2024-11-05
// to 2026-07-28. Each request that may be charged has an idempotency key of its own. If
// its response is lost, the bridge sends it again with the same key, so it is charged at
// most once.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/fareboxhq/farebox/internal/bridge/mirror"
	"github.com/fareboxhq/farebox/internal/bridge/purse"
	"github.com/fareboxhq/farebox/internal/clock"
	"github.com/fareboxhq/farebox/internal/mcp"
	"github.com/fareboxhq/farebox/internal/stdio/lines"
	"github.com/fareboxhq/farebox/internal/weburl"
)

// MaxMessage bounds a message in either direction, in bytes.
const MaxMessage = 64 << 20

// maxCalls bounds the requests of the client that are under way at the same time.
const maxCalls = 1024

// Options configure a Bridge.
type Options struct {
	URL     *url.URL  // the server's MCP endpoint
	Token   string    // sent as a bearer token (RFC 6750); "" sends that of Tokens, if there are any
	Tokens  Tokens    // may be nil; is not asked if there is a Token
	Plain   bool      // allows a token over http:// to hosts other than this one
	Verbose bool      // reports the cost of each paid call
	Notes   io.Writer // gets messages for people; never a token

	Limits purse.Limits // the limits of spending

	patience *patience // nil means the usual waits; tests have shorter ones
}

// CheckURL returns an error that explains why the bridge must not use an address. If
// token is true, a token would be sent there. If plain is true, it may be sent without
// encryption.
func CheckURL(u *url.URL, token, plain bool) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return errors.New("the URL is no address of an MCP server: want https://host/path") // it is not shown, because it could be a token
	case u.User != nil:
		return errors.New("the URL has a user or a password in it: remove them, and put the token into AGENT_TOKEN")
	case token && !plain && u.Scheme == "http" && !weburl.IsLoopback(u.Hostname()):
		return fmt.Errorf("the URL %q would send the token without encryption: use https://, or allow it with --insecure", shown(u))
	}
	return nil
}

// shown returns a URL for messages, without its query, which may have a secret.
func shown(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }

// Bridge is one bridge between a client and a server. Its Run is called once.
type Bridge struct {
	o        Options
	patience patience
	tokens   Tokens
	http     *http.Client
	notes    notes
	purse    *purse.Purse
	params   mirror.Params
	session  session
	calls    calls

	out     *lines.Writer
	queue   chan func() // notifications and responses of the client, in their order
	barrier <-chan struct{}

	ctx    context.Context // ends when the bridge has stopped
	cancel context.CancelFunc
	tasks  sync.WaitGroup // all goroutines but the reader
	broken chan struct{}  // closed if the client no longer reads
	once   sync.Once
	expiry sync.Once // reports that the token ends soon
}

// New returns a Bridge. The error is that of [CheckURL].
func New(o Options) (*Bridge, error) {
	if err := CheckURL(o.URL, o.Token != "" || o.Tokens != nil, o.Plain); err != nil {
		return nil, err
	}
	b := &Bridge{
		o: o, patience: usualPatience, http: newHTTPClient(), notes: notes{w: o.Notes}, purse: purse.New(o.Limits),
		queue: make(chan func(), maxCalls), broken: make(chan struct{}), barrier: passed(),
	}
	b.tokens = o.Tokens
	if o.Token != "" || o.Tokens == nil {
		b.tokens = fixed(o.Token)
	}
	if o.patience != nil {
		b.patience = *o.patience
	}
	return b, nil
}

// passed returns a channel that is closed.
func passed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Run carries messages until the client closes in, stops reading out, or ctx ends. Then
// it waits a few seconds for the calls that are under way, and ends the session. It
// returns an error only if in cannot be read.
func (b *Bridge) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b.out = lines.NewWriter(out)
	defer b.http.CloseIdleConnections()
	read := make(chan error, 1)
	go func() { read <- b.read(in) }() // ends with the process if in stays open
	b.tasks.Go(b.workQueue)
	var err error
	select {
	case err = <-read:
	case <-ctx.Done():
	case <-b.broken:
	}
	b.finish()
	return err
}

// finish ends the bridge within a bounded time.
func (b *Bridge) finish() {
	b.calls.stop()
	idle := make(chan struct{})
	go func() { b.calls.wait(); close(idle) }()
	wait, cancel := context.WithTimeout(b.ctx, b.patience.finish)
	select {
	case <-idle:
	case <-b.broken:
	case <-wait.Done():
		b.notes.say("the client has left; calls that were still under way are given up")
	}
	cancel()
	b.cancel()
	done := make(chan struct{})
	go func() { b.tasks.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	b.endSession()
}

// read handles the client's lines until their end.
func (b *Bridge) read(in io.Reader) error {
	r := lines.NewReader(in, MaxMessage)
	for {
		line, err := r.Next()
		var long *lines.TooLongError
		switch {
		case errors.As(err, &long):
			b.write(mcp.AppendError(nil, idIn(long.Start), mcp.InvalidRequest, fmt.Sprintf("%v; the message was not sent", err), nil))
		case errors.Is(err, io.ErrUnexpectedEOF):
			b.write(mcp.AppendError(nil, mcp.ID{}, mcp.ParseError, "the input ends within a message", nil))
			return nil
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the client's messages: %w", err)
		default:
			b.accept([]byte(string(line)))
		}
	}
}

// workQueue sends the client's notifications and responses in their order.
func (b *Bridge) workQueue() {
	for {
		select {
		case job := <-b.queue:
			job()
		case <-b.ctx.Done():
			return
		}
	}
}

// write writes a message to the client. If the client no longer reads, the bridge ends.
func (b *Bridge) write(message []byte) {
	err := b.out.Write(message)
	if err == nil {
		return
	}
	if !strings.Contains(err.Error(), "is not JSON") {
		b.once.Do(func() { close(b.broken) })
	}
}

// notes prints lines for people. It is safe for concurrent use.
type notes struct {
	mu      sync.Mutex
	w       io.Writer
	secrets []string // are left out of all lines
	last    string
}

// say prints a line. A line that equals the one before it is left out.
func (n *notes) say(format string, args ...any) {
	text := n.hide(fmt.Sprintf(format, args...))
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.w == nil || text == n.last {
		return
	}
	n.last = text
	_, _ = fmt.Fprintf(n.w, "farebox connect: %s\n", printable(text)) // a lost note changes nothing
}

// hide replaces the tokens in a text, because a server may answer with the headers of a
// request.
func (n *notes) hide(text string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, secret := range n.secrets {
		text = strings.ReplaceAll(text, secret, "[token]")
	}
	return text
}

// report prints a line even if it equals the one before it.
func (n *notes) report(format string, args ...any) {
	n.mu.Lock()
	n.last = ""
	n.mu.Unlock()
	n.say(format, args...)
}

// printable replaces control characters, which could change a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || 0x7F <= r && r < 0xA0 {
			return ' '
		}
		return r
	}, text)
}

// patience has the durations for which the bridge waits and repeats.
type patience struct {
	finish  time.Duration // for calls under way when the client has left
	unsent  time.Duration // for requests that the server has not received
	doubt   time.Duration // for requests that the server may have received
	running time.Duration // for calls that still run at the gateway
	refused time.Duration // for calls that the gateway cannot decide about
	first   time.Duration // the first wait before a repetition; it doubles each time
	most    time.Duration // the longest such wait
	cancel  time.Duration // for the end of a cancelled request's stream
}

// A reservation of the gateway without a client ends after two minutes, so a repetition
// after that time finds its key free.
var usualPatience = patience{
	finish: 5 * time.Second, unsent: 15 * time.Second, doubt: 3 * time.Minute, running: 15 * time.Minute,
	refused: 30 * time.Second, first: 200 * time.Millisecond, most: 5 * time.Second, cancel: 10 * time.Second,
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error { return clock.Sleep(ctx, d) }
