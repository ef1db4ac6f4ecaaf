package harness

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFindings checks that Findings reports a secret anywhere in a text without
// repeating it in full, reports a data race, and reports nothing for other texts.
func TestFindings(t *testing.T) {
	secret := "sk_live_0123456789abcdef"
	texts := map[string][]byte{"log": []byte("x" + secret + "y"), "clean": []byte("sk_live_0123...")}
	got := Findings(texts, []string{secret})
	if len(got) != 1 || !strings.Contains(got[0], "log has a secret in it: sk_live_0123...") || strings.Contains(got[0], secret) {
		t.Errorf("got %q", got)
	}
	token := "fbs_" + strings.Repeat("aB-_", 10) + "xyz"
	people := map[string][]byte{"log": []byte(`cookie="` + token + `"`), commandAnswers: []byte("fbi_" + token[4:]), "clean": []byte(token[:40])}
	if got := Findings(people, nil); len(got) != 1 || !strings.Contains(got[0], "log has a secret of people in it: fbs_aB-_aB-_...") {
		t.Errorf("got %q", got)
	}
	race := map[string][]byte{"log": []byte("==\nWARNING: DATA RACE\nWrite at 0x1 by goroutine 7")}
	if got := Findings(race, nil); len(got) != 1 || !strings.Contains(got[0], "goroutine 7") {
		t.Errorf("got %q", got)
	}
}

// TestRelayEvents checks that notifications pass one by one while answers are held
// back. An answer waits for its release. No byte of the stream changes.
func TestRelayEvents(t *testing.T) {
	const (
		note   = ": hello\n\nevent: message\r\ndata: {\"method\":\"notifications/progress\"}\r\n\r\n"
		answer = "data: {\"id\":1,\"result\":{}}\n\n"
	)
	hold, gone := make(chan struct{}), make(chan struct{})
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(relayEvents(pw, bufio.NewReader(strings.NewReader(note+answer+"data: tail")), hold, gone))
	}()
	first := make([]byte, len(note))
	if _, err := io.ReadFull(pr, first); err != nil || string(first) != note {
		t.Fatalf("got %q, %v; want the notification", first, err)
	}
	close(hold)
	rest, err := io.ReadAll(pr)
	if err != nil || string(rest) != answer+"data: tail" {
		t.Errorf("got %q, %v; want the answer and the rest", rest, err)
	}

	close(gone)
	err = relayEvents(io.Discard, bufio.NewReader(strings.NewReader(answer)), make(chan struct{}), gone)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("client gone: got %v", err)
	}
}

// TestRecorder checks that the recorder records requests and passes them on
// unchanged.
func TestRecorder(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(append([]byte(r.Host+" "+r.URL.Path+" "), body...))
	}))
	defer server.Close()
	recorder := Record(t, server.URL)
	body := ToolCall(1, "echo", `{"a":1}`)
	resp, err := http.Post(recorder.URL+"/mcp", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	want := strings.TrimPrefix(server.URL, "http://") + " /mcp " + body
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if n := recorder.Calls("echo"); n != 1 || recorder.Calls("other") != 0 || recorder.Requests()[0].Method != "tools/call" {
		t.Errorf("recorded %+v", recorder.Requests())
	}
}

// TestAnswersAreRead checks that the method Code finds the code of a refusal in an
// error and in a result. The last message of an event stream is taken as the answer.
func TestAnswersAreRead(t *testing.T) {
	for _, body := range []string{
		`{"id":1,"error":{"code":401,"message":"no","data":{"_meta":{"dev.farebox/error":{"code":"TOKEN_INVALID"}}}}}`,
		`{"id":1,"result":{"isError":true,"_meta":{"dev.farebox/error":{"code":"TOKEN_INVALID","price":"1.00"}}}}`,
	} {
		var m Message
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			t.Fatal(err)
		}
		if m.Code() != "TOKEN_INVALID" {
			t.Errorf("%s: got code %q", body, m.Code())
		}
	}
	if got := lastData([]byte("id: 1\ndata: \n\ndata: {\"a\":1}\n\ndata: {\"b\":2}\n\n")); string(got) != `{"b":2}` {
		t.Errorf("got %q", got)
	}
	if new(Message).Code() != "" {
		t.Error("an answer without an error has a code")
	}
}

// TestDifferences checks that a check is reported as different if its outcome or
// message differs, or if only one of the runs has it. The order of checks and the
// address of the server do not matter. The method Better accepts a difference only
// if a failure became a success.
func TestDifferences(t *testing.T) {
	run := func(checks ...Check) Conformance { return Conformance{Checks: checks} }
	good, bad := Check{"s", "c", "SUCCESS", ""}, Check{"s", "c", "FAILURE", "no answer from localhost:1234"}
	for _, c := range []struct {
		name            string
		direct, through Conformance
		different       bool
		better          bool
	}{
		{"the same", run(good), run(good), false, false},
		{"another order", run(good, bad), run(bad, good), false, false},
		{"another address", run(bad), run(Check{"s", "c", "FAILURE", "no answer from 127.0.0.1:99"}), false, false},
		{"another message", run(bad), run(Check{"s", "c", "FAILURE", "refused"}), true, false},
		{"worse", run(good), run(bad), true, false},
		{"better", run(bad), run(good), true, true},
		{"better in part", run(bad, bad), run(good, bad), true, false},
		{"missing", run(bad), run(), true, false},
		{"new", run(), run(good), true, false},
		{"fewer", run(good, good), run(good), true, false},
		{"another scenario", run(good), run(Check{"other", "c", "SUCCESS", ""}), true, false},
	} {
		found := c.direct.Differences(c.through)
		if (len(found) > 0) != c.different || c.different && found[0].Better() != c.better {
			t.Errorf("%s: got %v", c.name, found)
		}
	}
}

// TestReadChecks checks that the suite's results are read with the names of their
// scenarios, and that a run without results is an error.
func TestReadChecks(t *testing.T) {
	dir := t.TempDir()
	if got, err := readChecks(dir); err == nil {
		t.Errorf("got %v of an empty directory; want an error", got)
	}
	for _, name := range []string{"server-ping-2026-11-22T04-32-18-273Z", "auth/basic-cimd-2026-11-22T04-32-18-274Z"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "checks.json"), []byte(`[{"id":"c","status":"WARNING","errorMessage":"slow"}]`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readChecks(dir)
	want := []Check{{"auth/basic-cimd", "c", "WARNING", "slow"}, {"ping", "c", "WARNING", "slow"}}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v; want %v", got, err, want)
	}
	run := Conformance{Checks: got}
	if run.Scenarios() != 2 || run.Count("WARNING") != 2 || run.Without("auth/").Scenarios() != 1 {
		t.Errorf("got %d scenarios, %d warnings, %v", run.Scenarios(), run.Count("WARNING"), run.Without("auth/"))
	}
}
