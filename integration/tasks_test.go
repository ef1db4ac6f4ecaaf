package integration

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/integration/harness"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// taskClient is a client that calls tools as tasks, in a protocol version with sessions
// or in a stateless version.
type taskClient struct {
	*testing.T
	gateway   *harness.Gateway
	secret    string
	stateless bool
}

// request returns a request with these params, written as members of a JSON
// object.
func (c taskClient) request(method, params string) *http.Request {
	c.Helper()
	if c.stateless {
		if params != "" {
			params += ","
		}
		params += `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}`
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":{%s}}`, method, params)
	r := c.message(body)
	if c.stateless {
		r.Header.Set("Mcp-Protocol-Version", "2026-07-28")
		r.Header.Set("Mcp-Method", method)
		for _, name := range []string{`"name":"`, `"uri":"`, `"taskId":"`} {
			if _, rest, ok := strings.Cut(params, name); ok && method != "subscriptions/listen" {
				value, _, _ := strings.Cut(rest, `"`)
				r.Header.Set("Mcp-Name", "=?base64?"+base64.StdEncoding.EncodeToString([]byte(value))+"?=")
			}
		}
	}
	return r
}

func (c taskClient) message(body string) *http.Request {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), http.MethodPost, c.gateway.Endpoint(), strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	return r
}

// notify sends a message that has no answer.
func (c taskClient) notify(r *http.Request) {
	c.Helper()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := harness.Bearer{Secret: c.secret}.RoundTrip(r)
	if err != nil {
		c.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		c.Fatalf("a notification is answered with %s", resp.Status)
	}
}

func (c taskClient) send(method, params string) *harness.Answer {
	c.Helper()
	answer, err := c.gateway.Send(http.DefaultClient, c.secret, c.request(method, params))
	if err != nil {
		c.Fatal(err)
	}
	return answer
}

// refused checks that a request is refused with these codes of Farebox and of
// JSON-RPC, and returns the answer.
func (c taskClient) refused(method, params, code string, rpc int) *harness.Answer {
	c.Helper()
	answer := c.send(method, params)
	if answer.Error == nil || answer.Error.Code != rpc || answer.Code() != code {
		c.Fatalf("%s %s: want %s, %d: %s", method, params, code, rpc, answer.Body)
	}
	return answer
}

// accept calls the tool as a task and returns the id of the task.
func (c taskClient) accept(tool string) string {
	c.Helper()
	params := fmt.Sprintf(`"name":%q,"arguments":{}`, tool)
	if !c.stateless {
		params += `,"task":{"ttl":60000}`
	}
	answer := c.send("tools/call", params)
	_, rest, ok := strings.Cut(answer.Body, `"taskId":"`)
	if !ok || answer.Result == nil {
		c.Fatalf("no task: %s", answer.Body)
	}
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

func about(task string) string { return fmt.Sprintf(`"taskId":%q`, task) }

// result asks for the result of a task by the method that the protocol version has
// for it.
func (c taskClient) result(task string) *harness.Answer {
	c.Helper()
	if c.stateless {
		return c.send("tasks/get", about(task))
	}
	return c.send("tasks/result", about(task))
}

// paidResult asks for a result that must come with a receipt, and returns the
// charge's id.
func (c taskClient) paidResult(task string) string {
	c.Helper()
	answer := c.result(task)
	if !strings.Contains(answer.Body, "the result of") {
		c.Fatalf("no result: %s", answer.Body)
	}
	_, rest, _ := strings.Cut(answer.Body, `"dev.farebox/charge":{"id":"`)
	id, _, ok := strings.Cut(rest, `"`)
	if !ok || !strings.Contains(answer.Body, `"dev.farebox/receipt":"`) {
		c.Fatalf("no receipt: %s", answer.Body)
	}
	return id
}

func (c taskClient) balance(account string, want, reserved string) {
	c.Helper()
	a := c.gateway.Account(c.T, account)
	w, err := ledger.ParseAmount(want)
	r, err2 := ledger.ParseAmount(reserved)
	if err != nil || err2 != nil {
		c.Fatal(err, err2)
	}
	if a.Balance != w || a.Reserved != r {
		c.Errorf("%s has %s, %s reserved; want %s, %s", account, a.Balance, a.Reserved, want, reserved)
	}
}

const taskPrices = "price report 0.01\n\t\t\tprice ask_paid 0.01\n\t\t\tprice eager 0.01 charge_on started\n\t\t\tfree *"

// eachEra runs a test with clients of two accounts, in a protocol version with sessions
// and in a stateless version.
func eachEra(t *testing.T, run func(t *testing.T, s *taskServer, alice, bob taskClient)) {
	for name, stateless := range map[string]bool{"2025-11-25": false, "2026-07-28": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startTaskServer(t)
			g := binaries.StartGateway(t, harness.Site(s.url, "server tasks", "provider acme", taskPrices))
			_, alice := g.NewAgent(t, "alice", "1.00")
			_, bob := g.NewAgent(t, "bob", "1.00")
			run(t, s, taskClient{t, g, alice.Secret, stateless}, taskClient{t, g, bob.Secret, stateless})
			g.VerifyLedger(t)
		})
	}
}

// TestTaskIsPaidOnce checks promises 1, 2 and 4 of docs/promises.md for tasks. Credits
// are reserved when a task is accepted, and paid before the client gets the result for
// the first time. From then on, the result is free.
func TestTaskIsPaidOnce(t *testing.T) {
	t.Parallel()
	eachEra(t, func(t *testing.T, s *taskServer, alice, _ taskClient) {
		alice.T = t
		task := alice.accept("report")
		alice.balance("alice", "1.00", "0.01")
		if answer := alice.send("tasks/get", about(task)); answer.Result == nil || !strings.Contains(answer.Body, `"working"`) {
			t.Errorf("a running task: %s", answer.Body)
		}
		if !alice.stateless {
			if answer := alice.result(task); answer.Error == nil || answer.Error.Message != "not yet" {
				t.Errorf("the server's own error: %s", answer.Body)
			}
		}
		alice.balance("alice", "1.00", "0.01")
		s.end(task, "completed")
		charge := alice.paidResult(task)
		alice.balance("alice", "0.99", "0.00")
		for range 3 {
			if again := alice.paidResult(task); again != charge {
				t.Errorf("charge %s, then %s", charge, again)
			}
		}
		alice.balance("alice", "0.99", "0.00")
		if charges := alice.gateway.Charges(t, "alice"); len(charges) != 1 || charges[0].Tool != "report" {
			t.Errorf("charges %+v", charges)
		}
	})
}

// TestTaskThatFails checks promise 2 of docs/promises.md. A task that is cancelled, or
// that ends with an error of its tool, costs nothing and releases its reservation.
func TestTaskThatFails(t *testing.T) {
	t.Parallel()
	eachEra(t, func(t *testing.T, s *taskServer, alice, _ taskClient) {
		failing := alice.accept("report")
		s.end(failing, "failed")
		if answer := alice.result(failing); answer.Result == nil || !strings.Contains(answer.Body, `"isError":true`) || strings.Contains(answer.Body, "dev.farebox") {
			t.Errorf("the tool's error: %s", answer.Body)
		}
		alice.balance("alice", "1.00", "0.00")
		cancelled := alice.accept("report")
		alice.balance("alice", "1.00", "0.01")
		if answer := alice.send("tasks/cancel", about(cancelled)); answer.Result == nil {
			t.Errorf("a cancellation: %s", answer.Body)
		}
		if answer := alice.send("tasks/get", about(cancelled)); answer.Result == nil || !strings.Contains(answer.Body, `"cancelled"`) {
			t.Errorf("a cancelled task: %s", answer.Body)
		}
		alice.balance("alice", "1.00", "0.00")
	})
}

// TestTaskCharging checks that a tool with the setting "charge_on started" is charged
// when its task is accepted. A free tool is never charged, whatever the requests for
// its task.
func TestTaskCharging(t *testing.T) {
	t.Parallel()
	eachEra(t, func(t *testing.T, s *taskServer, alice, bob taskClient) {
		eager := alice.accept("eager")
		alice.balance("alice", "0.99", "0.00")
		s.end(eager, "completed")
		alice.paidResult(eager)
		alice.balance("alice", "0.99", "0.00")

		free := alice.accept("note")
		s.end(free, "completed")
		if answer := alice.result(free); answer.Result == nil || !strings.Contains(answer.Body, "the result of note") || strings.Contains(answer.Body, "dev.farebox") {
			t.Errorf("a free task: %s", answer.Body)
		}
		bob.refused("tasks/get", about(free), "TASK_UNKNOWN", -32602)
		alice.balance("alice", "0.99", "0.00")
	})
}

// TestForeignTasks checks that a request for a task of another account is refused like
// a request for an unknown task, and never reaches the server.
func TestForeignTasks(t *testing.T) {
	t.Parallel()
	eachEra(t, func(t *testing.T, s *taskServer, alice, bob taskClient) {
		// Until a server has had a task, the gateway treats it as a server without
		// task support.
		if answer := bob.refused("tasks/get", about("task-1"), "METHOD_UNKNOWN", -32601); answer.Error.Message != "method not found: tasks/get" {
			t.Errorf("before any task: %s", answer.Body)
		}
		task := alice.accept("report")
		methods := []string{"tasks/get", "tasks/cancel", "tasks/result"}
		if bob.stateless {
			methods[2] = "tasks/update"
		}
		for _, method := range methods {
			foreign := bob.refused(method, about(task), "TASK_UNKNOWN", -32602)
			unknown := bob.refused(method, about("task-9"), "TASK_UNKNOWN", -32602)
			if foreign.Body != unknown.Body || foreign.Status != unknown.Status {
				t.Errorf("%s: %s\ntold from %s", method, foreign.Body, unknown.Body)
			}
			if !bob.stateless {
				bob.refused(method, "", "TASK_UNKNOWN", -32602)
			}
			if n := s.requests(method); n > 0 {
				t.Errorf("the server was asked %s", method)
			}
		}
		if bob.stateless {
			bob.refused("subscriptions/listen", fmt.Sprintf(`"notifications":{"taskIds":[%q]}`, task), "TASK_UNKNOWN", -32602)
			alice.refused("tasks/list", "", "METHOD_UNKNOWN", -32601)
			return
		}
		theirs := bob.accept("note")
		for client, want := range map[taskClient][2]string{alice: {task, theirs}, bob: {theirs, task}} {
			answer := client.send("tasks/list", `"cursor":"c-1"`)
			if answer.Result == nil || !strings.Contains(answer.Body, want[0]) || strings.Contains(answer.Body, want[1]) ||
				!strings.Contains(answer.Body, `"nextCursor":"c-2","kept":true`) {
				t.Errorf("list: %s", answer.Body)
			}
		}
	})
}

// TestTaskSurvives checks that, after a kill and a restart, the gateway still knows the
// account and the price of a task, and charges the task once.
func TestTaskSurvives(t *testing.T) {
	t.Parallel()
	eachEra(t, func(t *testing.T, s *taskServer, alice, bob taskClient) {
		task := alice.accept("report")
		s.end(task, "completed")
		alice.gateway.Kill()
		alice.gateway.Start(t)
		bob.refused("tasks/get", about(task), "TASK_UNKNOWN", -32602)
		charge := alice.paidResult(task)
		alice.gateway.Kill()
		alice.gateway.Start(t)
		if again := alice.paidResult(task); again != charge {
			t.Errorf("charge %s, then %s", charge, again)
		}
		alice.balance("alice", "0.99", "0.00")
	})
}

// TestTaskCannotBePaid checks promise 3 of docs/promises.md. A result that the account
// can no longer pay is withheld with the reason, and available after a top-up.
func TestTaskCannotBePaid(t *testing.T) {
	t.Parallel()
	eachEra(t, func(t *testing.T, s *taskServer, alice, _ taskClient) {
		task := alice.accept("report")
		s.end(task, "completed")
		alice.gateway.Kill() // a crash releases the reservation
		alice.gateway.Start(t)
		alice.gateway.CLI(t, nil, "adjust", "alice", "--by=-0.995", "--reason", "spent elsewhere")
		for range 2 {
			answer := alice.result(task)
			if answer.Code() != "INSUFFICIENT_BALANCE" || answer.Error == nil || answer.Error.Code != 402 ||
				strings.Contains(answer.Body, "the result of") || !strings.Contains(answer.Error.Message, "ask for it again") {
				t.Errorf("a result that the account cannot pay: %s", answer.Body)
			}
		}
		alice.balance("alice", "0.005", "0.00")
		alice.gateway.CLI(t, nil, "credit", "alice", "1.00", "--reason", "topped up")
		alice.paidResult(task)
		alice.balance("alice", "0.995", "0.00")
	})
}

// TestRequestState checks that the state of a request for input is valid only for the
// account that received it, whatever the method and the price. If a call takes several
// requests, the call is charged once.
func TestRequestState(t *testing.T) {
	t.Parallel()
	s := startTaskServer(t)
	g := binaries.StartGateway(t, harness.Site(s.url, "server tasks", "provider acme", taskPrices))
	_, alice := g.NewAgent(t, "alice", "1.00")
	_, bob := g.NewAgent(t, "bob", "1.00")
	for _, c := range []struct{ method, params, name string }{
		{"tools/call", `"name":"ask_paid","arguments":{}`, "ask_paid"},
		{"tools/call", `"name":"ask_free"`, "ask_free"},
		{"prompts/get", `"name":"ask_prompt"`, "ask_prompt"},
		{"resources/read", `"uri":"ask:resource"`, "ask:resource"},
	} {
		alice, bob := taskClient{t, g, alice.Secret, true}, taskClient{t, g, bob.Secret, true}
		follow := c.params + fmt.Sprintf(`,"inputResponses":{},"requestState":%q`, `state of "`+c.name+`"`)
		before := s.requests(c.method)
		alice.refused(c.method, follow, "REQUEST_STATE_UNKNOWN", -32602)
		if n := s.requests(c.method) - before; n != 0 {
			t.Errorf("%s: the server received a state that it never issued", c.name)
		}
		if answer := alice.send(c.method, c.params); !strings.Contains(answer.Body, "input_required") {
			t.Fatalf("%s: %s", c.name, answer.Body)
		}
		bob.refused(c.method, follow, "REQUEST_STATE_UNKNOWN", -32602)
		alice.refused(c.method, strings.Replace(follow, "state of", "State of", 1), "REQUEST_STATE_UNKNOWN", -32602)
		if n := s.requests(c.method) - before; n != 1 {
			t.Errorf("%s: the server has seen %d requests, want 1", c.name, n)
		}
		if answer := alice.send(c.method, follow); !strings.Contains(answer.Body, "answered state of") {
			t.Errorf("%s: %s", c.name, answer.Body)
		}
		if answer := bob.send(c.method, c.params+`,"inputResponses":{}`); answer.Result == nil { // a request without a state passes to the server
			t.Errorf("%s: %s", c.name, answer.Body)
		}
	}
	taskClient{t, g, "", true}.balance("alice", "0.99", "0.00")
	taskClient{t, g, "", true}.balance("bob", "1.00", "0.00")
	g.VerifyLedger(t)
}

// TestTaskNotifications checks the notifications of a server about the tasks of several
// accounts. Each account gets the notifications of its own tasks, and no notification
// contains a result that must be paid for.
func TestTaskNotifications(t *testing.T) {
	t.Parallel()
	eachEra(t, func(t *testing.T, s *taskServer, alice, bob taskClient) {
		paid, free, theirs := alice.accept("report"), alice.accept("note"), bob.accept("note")
		var r *http.Request
		if alice.stateless {
			r = alice.request("subscriptions/listen", fmt.Sprintf(`"notifications":{"taskIds":[%q,%q]}`, paid, free))
			r.Header.Set("Content-Type", "application/json")
		} else {
			var err error
			if r, err = http.NewRequestWithContext(t.Context(), http.MethodGet, alice.gateway.Endpoint(), nil); err != nil {
				t.Fatal(err)
			}
		}
		r.Header.Set("Accept", "application/json, text/event-stream")
		r.Header.Set("Authorization", "Bearer "+alice.secret)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		next := func() string {
			for lines.Scan() {
				if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
					return data
				}
			}
			t.Fatalf("the stream ended: %v", lines.Err())
			return ""
		}
		timer := time.AfterFunc(20*time.Second, func() { resp.Body.Close() })
		defer timer.Stop()
		next() // the first event shows that the stream is open
		s.end(theirs, "completed")
		s.end(paid, "completed")
		s.end(free, "completed")
		want := []string{paid, free}
		if alice.stateless {
			want = []string{free} // the gateway drops the notification of the paid task, because it would contain the result
		}
		for _, id := range want {
			if got := next(); !strings.Contains(got, id) {
				t.Errorf("got %s, want one of %s", got, id)
			}
		}
		alice.paidResult(paid)
		alice.balance("alice", "0.99", "0.00")
	})
}

// TestTasksOfEverything checks that a tool of the official everything server, which is
// built with the official TypeScript SDK, runs as a task. The task is accepted, polled,
// waited for and listed, and it is paid once.
func TestTasksOfEverything(t *testing.T) {
	t.Parallel()
	g := binaries.StartGateway(t, harness.Site(binaries.StartEverything(t), "server everything", "provider acme", "price simulate-research-query 0.01", "free *"))
	_, key := g.NewAgent(t, "alice", "1.00")
	_, other := g.NewAgent(t, "bob", "1.00")
	session := func(secret string) func(method, params string) *harness.Answer {
		c := taskClient{T: t, gateway: g, secret: secret}
		begin := c.send("initialize", `"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}`)
		inSession := func(r *http.Request) *http.Request {
			r.Header.Set("Mcp-Session-Id", begin.Header.Get("Mcp-Session-Id"))
			r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
			return r
		}
		c.notify(inSession(c.message(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)))
		id := 100 // this server can resume streams, so each request id is valid for one request only
		return func(method, params string) *harness.Answer {
			t.Helper()
			id++
			body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s}}`, id, method, params)
			answer, err := g.Send(http.DefaultClient, secret, inSession(c.message(body)))
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
	}
	alice, bob := session(key.Secret), session(other.Secret)
	accepted := alice("tools/call", `"name":"simulate-research-query","arguments":{"topic":"tasks"},"task":{"ttl":60000}`)
	_, rest, ok := strings.Cut(accepted.Body, `"taskId":"`)
	if !ok || accepted.Result == nil {
		t.Fatalf("no task: %s", accepted.Body)
	}
	id, _, _ := strings.Cut(rest, `"`)
	if answer := bob("tasks/result", about(id)); answer.Code() != "TASK_UNKNOWN" {
		t.Errorf("another account: %s", answer.Body)
	}
	if answer := alice("tasks/get", about(id)); answer.Result == nil || !strings.Contains(answer.Body, id) {
		t.Errorf("the task: %s", answer.Body)
	}
	if answer := alice("tasks/list", ""); answer.Result == nil || !strings.Contains(answer.Body, id) {
		t.Errorf("the list: %s", answer.Body)
	}
	if answer := bob("tasks/list", ""); answer.Result == nil || strings.Contains(answer.Body, id) {
		t.Errorf("another account's list: %s", answer.Body)
	}
	var charge string
	for range 2 { // the first request waits until the task has ended
		answer := alice("tasks/result", about(id))
		if answer.Result == nil || answer.Result.Meta.Charge == nil || !strings.Contains(answer.Body, "Research Report") {
			t.Fatalf("the result: %s", answer.Body)
		}
		if charge != "" && answer.Result.Meta.Charge.ID != charge {
			t.Errorf("charged again, as %s", answer.Result.Meta.Charge.ID)
		}
		charge = answer.Result.Meta.Charge.ID
	}
	taskClient{T: t, gateway: g}.balance("alice", "0.99", "0.00")
	g.VerifyLedger(t)
}
