package integration

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"

	"github.com/fareboxhq/farebox/internal/clock"
)

const cent = ledger.Unit / 100

// TestResumedCallIsChargedOnce checks that, if the server closes the stream of a paid
// call before the answer, the call is not charged until the client has resumed the
// stream. Then the call is charged once, however often the client resumes. The client
// sends an event id that the gateway made. The test checks that the gateway replaces
// this id by the event id that the server made.
func TestResumedCallIsChargedOnce(t *testing.T) {
	t.Parallel()
	p, g, v := alice(t)
	event, stream := v.call("polled")
	if event == "" || event == "polled/0" || strings.Contains(stream, "error") {
		t.Fatalf("the stream delivered %q", stream)
	}
	v.owns("alice", 100*cent, cent)
	first := v.comeBack(event)
	if first.Result == nil || first.Result.Meta.Charge == nil || first.Result.Meta.Receipt == "" || !strings.Contains(first.Body, "the secret of polled") {
		t.Fatalf("the rest of the stream is %q", first.Body)
	}
	v.owns("alice", 99*cent, 0)
	again := v.comeBack(lastID(stream))
	if again.Result == nil || again.Result.Meta.Charge == nil || again.Result.Meta.Charge.ID != first.Result.Meta.Charge.ID {
		t.Errorf("a second time, it is %q", again.Body)
	}
	v.owns("alice", 99*cent, 0)
	if n := len(g.Charges(t, "alice")); n != 1 || p.ran("polled") != 1 {
		t.Errorf("%d charges for %d runs", n, p.ran("polled"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if seen := strings.Join(p.seen, " "); !strings.Contains(seen, "up.1 polled/0") || strings.Contains(seen, event) || strings.Contains(seen, v.session) {
		t.Errorf("the server received %q", p.seen)
	}
	g.VerifyLedger(t)
}

// TestBrokenCallIsResumed checks that a client can resume a paid call after the
// client's connection broke, and get the answer. A server sends an answer on one stream
// only. So when the client's connection breaks, the gateway closes the server's stream,
// and the server can send the answer on the stream that the client resumes.
func TestBrokenCallIsResumed(t *testing.T) {
	t.Parallel()
	p, g, v := alice(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	resp := v.sendWith(ctx, http.MethodPost, harness.ToolCall(1, "held", `{}`), "")
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil || lastID(line) == "" {
		t.Fatalf("the stream begins with %q: %v", line, err)
	}
	leave()
	<-p.broken
	if answer := v.comeBack(lastID(line)); answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Fatalf("the rest of the stream is %q", answer.Body)
	}
	v.owns("alice", 99*cent, 0)
	g.VerifyLedger(t)
}

// TestCrashedCallIsResumed checks promises 1 and 4 of docs/promises.md across a crash.
// The crash makes the gateway forget the call, but the event id has the data of the call.
// The answer is charged under the first charge id if the account can still pay, and
// withheld otherwise.
func TestCrashedCallIsResumed(t *testing.T) {
	t.Parallel()
	p := startPolling(t)
	g := p.gateway(t)
	_, key := g.NewAgent(t, "alice", "0.01")
	v := visit(t, g, key.Secret)
	event, _ := v.call("polled")
	g.Kill()
	g.Start(t)
	v.owns("alice", cent, 0) // a crash releases the reservation
	if answer := post(t, g, key.Secret, harness.ToolCall(9, "direct", `{}`)); answer.Result == nil || answer.Result.IsError {
		t.Fatalf("the money was not spent elsewhere: %s", answer.Body)
	}
	poor := v.comeBack(event)
	if poor.Code() != "CHARGE_FAILED" || strings.Contains(poor.Body, "the secret") {
		t.Fatalf("without credits, the rest of the stream is %q", poor.Body)
	}
	g.CLI(t, nil, "credit", "alice", "0.05", "--reason", "for the answer")
	first := v.comeBack(event)
	if first.Result == nil || first.Result.Meta.Charge == nil {
		t.Fatalf("the rest of the stream is %q", first.Body)
	}
	if again := v.comeBack(event); again.Result == nil || again.Result.Meta.Charge.ID != first.Result.Meta.Charge.ID {
		t.Errorf("a second time, it is %q", again.Body)
	}
	v.owns("alice", 4*cent, 0)
	if p.ran("polled") != 1 || len(g.Charges(t, "alice")) != 2 {
		t.Errorf("%d runs, %d charges in all", p.ran("polled"), len(g.Charges(t, "alice")))
	}
	g.VerifyLedger(t)
}

// TestResumedErrorCostsNothing checks promise 2 of docs/promises.md. An error on a
// resumed stream releases the call's reservation.
func TestResumedErrorCostsNothing(t *testing.T) {
	t.Parallel()
	_, g, v := alice(t)
	event, _ := v.call("failing")
	if answer := v.comeBack(event); answer.Error == nil || answer.Error.Message != "no luck" {
		t.Errorf("the rest of the stream is %q", answer.Body)
	}
	v.owns("alice", 100*cent, 0)
	g.VerifyLedger(t)
}

// TestFreeStreamsAreResumed checks that the stream of a free call is resumed without a
// charge, and that a list on a resumed stream is filtered like any other.
func TestFreeStreamsAreResumed(t *testing.T) {
	t.Parallel()
	_, g, v := alice(t)
	event, _ := v.call("free")
	if answer := v.comeBack(event); answer.Result == nil || answer.Result.Meta.Charge != nil || !strings.Contains(answer.Body, "the secret of free") {
		t.Errorf("the rest of the stream is %q", answer.Body)
	}
	event, _ = v.read(v.send(http.MethodPost, `{"jsonrpc":"2.0","id":"l","method":"tools/list"}`, ""))
	list := v.comeBack(event)
	if strings.Contains(list.Body, "hidden") || !strings.Contains(list.Body, `"dev.farebox/price":{"amount":"0.01","currency":"USD"}`) || strings.Count(list.Body, `"name"`) != 2 {
		t.Errorf("the list is %q", list.Body)
	}
	v.owns("alice", 100*cent, 0)
	if n := len(g.Charges(t, "alice")); n != 0 {
		t.Errorf("%d charges", n)
	}
}

// TestSessionsBelongToTheirAccount checks that the gateway accepts a session only from
// the account that began it, and lets only this account resume the streams of its calls
// (CVE-2026-33946, CVE-2025-6515). The server itself cannot distinguish the callers.
// Requests of other accounts do not reach the server.
func TestSessionsBelongToTheirAccount(t *testing.T) {
	t.Parallel()
	p := startPolling(t)
	g := p.gateway(t)
	_, alice := g.NewAgent(t, "alice", "1.00")
	_, mallory := g.NewAgent(t, "mallory", "1.00")
	v := visit(t, g, alice.Secret)
	event, _ := v.call("polled")
	p.mu.Lock()
	heard := len(p.seen)
	p.mu.Unlock()
	foreign := *v
	foreign.secret = mallory.Secret
	for method, body := range map[string]string{http.MethodPost: harness.ToolCall(1, "direct", `{}`), http.MethodGet: "", http.MethodDelete: ""} {
		if resp := foreign.send(method, body, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s with a foreign session: %d, want 404", method, resp.StatusCode)
		}
	}
	own := visit(t, g, mallory.Secret)
	heard += 2
	for name, e := range map[string]string{
		"a foreign event": event, "the server's own": "polled/0", "a changed one": event[:len(event)-1] + "A", "none": "A", "a session": own.session,
	} {
		if resp := own.send(http.MethodGet, "", e); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", name, resp.StatusCode)
		}
	}
	for name, s := range map[string]string{"the server's own": "up.1", "a changed one": own.session + "A", "an event": event} {
		forged := *own
		forged.session = s
		if resp := forged.send(http.MethodPost, harness.ToolCall(1, "direct", `{}`), ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("session id %s: %d, want 404", name, resp.StatusCode)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen) != heard {
		t.Errorf("it reached the server: %q", p.seen[heard:])
	}
	if n := len(g.Charges(t, "mallory")); n != 0 {
		t.Errorf("%d charges", n)
	}
}

// TestRequestIDsOfResumableStreams checks that, where streams can be resumed, the
// gateway accepts a request id only once in a session. Some servers find the stream of
// an answer by the request id for as long as the session lives. If such a server got
// one id twice, the stream of a free call could deliver a paid result.
func TestRequestIDsOfResumableStreams(t *testing.T) {
	t.Parallel()
	p, g, v := alice(t)
	v.call("polled")
	for _, tool := range []string{"free", "direct"} {
		v.id = 0 // the next call gets the id of the first call again
		if _, stream := v.call(tool); !strings.Contains(stream, "each needs an id of its own") {
			t.Errorf("%s with an id that was used: %q", tool, stream)
		}
	}
	if p.ran("free")+p.ran("direct") != 0 {
		t.Error("the server was asked")
	}
	p.setSession("up.2")
	other := visit(t, g, v.secret) // ids that were used in one session are valid in another
	if _, stream := other.call("direct"); !strings.Contains(stream, "the secret of direct") {
		t.Errorf("in another session: %q", stream)
	}
	g.VerifyLedger(t)
}

// TestTicketsBelongToTheirSession checks where an event id of the gateway is valid. A
// ticket is the description of a call in such an event id. The server's event ids are
// unique only within a session: in another session, the same id may name another
// event. An event id is therefore valid only in the session that it came from. It is
// also valid only for the lineage of the key that made the call.
func TestTicketsBelongToTheirSession(t *testing.T) {
	t.Parallel()
	p := startPolling(t)
	g := p.gateway(t)
	_, key := g.NewAgent(t, "alice", "1.00")
	sibling := g.NewKey(t, "alice")
	first := visit(t, g, key.Secret)
	event, _ := first.call("free")
	p.setSession("up.2")
	second := visit(t, g, key.Secret)
	cousin := *first // the first session, with another key of the account
	cousin.secret = sibling.Secret
	for name, v := range map[string]*visitor{"another session": second, "another key": &cousin} {
		if resp := v.send(http.MethodGet, "", event); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("in %s: %d, want 400", name, resp.StatusCode)
		}
	}
	if answer := first.comeBack(event); answer.Result == nil {
		t.Errorf("in its own: %q", answer.Body)
	}
}

// TestAnErrorOfTheStreamCostsNoCall checks that, if the server temporarily refuses to
// resume a stream, the client gets the refusal and the credits of the call stay
// reserved. The client can resume the stream later.
func TestAnErrorOfTheStreamCostsNoCall(t *testing.T) {
	t.Parallel()
	p, g, v := alice(t)
	event, _ := v.call("polled")
	p.refuse(1)
	if resp := v.send(http.MethodGet, "", event); resp.StatusCode != http.StatusConflict {
		t.Fatalf("the server's error is %d", resp.StatusCode)
	}
	v.owns("alice", 100*cent, cent)
	if answer := v.comeBack(event); answer.Result == nil || answer.Result.Meta.Charge == nil {
		t.Errorf("the rest of the stream is %q", answer.Body)
	}
	v.owns("alice", 99*cent, 0)
	g.VerifyLedger(t)
}

// TestResumedStreamEndsWithItsKey checks promise 6 of docs/promises.md. The open
// stream of a deleted key ends within a second after the command has returned, even if
// the stream resumes a call.
func TestResumedStreamEndsWithItsKey(t *testing.T) {
	t.Parallel()
	p, g, v := alice(t)
	event, _ := v.call("polled")
	p.hang()
	resp := v.send(http.MethodGet, "", event)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("no stream: %s", resp.Status)
	}
	type end struct {
		at   time.Time
		text string
	}
	ended := make(chan end, 1)
	go func() {
		text, _ := io.ReadAll(resp.Body)
		ended <- end{clock.Now(), string(text)}
	}()
	began := clock.Now()
	g.CLI(t, nil, "key", "delete", v.key)
	returned := clock.Now()
	select {
	case e := <-ended:
		if e.at.Before(began) || e.at.Sub(returned) > time.Second || strings.Contains(e.text, "the secret") {
			t.Errorf("the stream ended %v after the command and delivered %q", e.at.Sub(returned), e.text)
		}
	case <-time.After(5 * time.Second):
		t.Error("the stream lives on")
	}
}

// TestLeftCallsAreCounted checks that a call with a resumable stream counts as
// abandoned until its client has resumed the stream.
func TestLeftCallsAreCounted(t *testing.T) {
	t.Parallel()
	_, _, v := alice(t)
	for range 15 { // a client that resumes each time can make any number of calls
		event, stream := v.call("polled")
		if answer := v.comeBack(event); answer.Result == nil {
			t.Fatalf("%q, then %q", stream, answer.Body)
		}
	}
	for range 10 {
		v.call("polled")
	}
	if _, stream := v.call("polled"); !strings.Contains(stream, "RATE_LIMITED") {
		t.Errorf("after ten abandoned calls: %q", stream)
	}
	v.owns("alice", 85*cent, 10*cent)
}
