package mcp

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestReadHandles checks the handles that are read from tasks and from requests for
// input, in the forms of both protocol eras.
func TestReadHandles(t *testing.T) {
	for name, c := range map[string]struct {
		result string
		want   Handles
	}{
		"accepted, 2025-11-25": {`{"task":{"taskId":"t-1","status":"working","ttl":60000,"pollInterval":1},"_meta":{"taskId":7}}`,
			Handles{TaskID: "t-1", Status: "working", Life: time.Minute}},
		"accepted, SEP-2663": {`{"resultType":"task","taskId":"t\u002d1","status":"working","ttlMs":1500}`,
			Handles{TaskID: "t-1", Status: "working", Life: 1500 * time.Millisecond}},
		"kept for ever":  {`{"taskId":"t","ttl":null}`, Handles{TaskID: "t"}},
		"kept too long":  {`{"taskId":"t","ttlMs":1e300}`, Handles{TaskID: "t", Life: maxLife}},
		"a strange life": {`{"taskId":"t","ttlMs":"long"}`, Handles{TaskID: "t"}},
		"completed":      {`{"taskId":"t","status":"completed","result":{"content":[]}}`, Handles{TaskID: "t", Status: "completed", Embedded: OutcomeResult}},
		"completed with an error of the tool": {`{"result":{"content":[],"isError":true},"taskId":"t","status":"completed"}`,
			Handles{TaskID: "t", Status: "completed", Embedded: OutcomeToolError}},
		"completed without an error": {`{"result":{"isError":false}}`, Handles{Embedded: OutcomeResult}},
		"no result":                  {`{"taskId":"t","status":"working","result":null}`, Handles{TaskID: "t", Status: "working"}},
		"failed":                     {`{"taskId":"t","status":"failed","error":{"code":1,"message":"m"}}`, Handles{TaskID: "t", Status: "failed"}},
		"asks":                       {`{"resultType":"input_required","requestState":"s \"1\"","inputRequests":{}}`, Handles{HasState: true, RequestState: `s "1"`}},
		"asks without a state":       {`{"resultType":"input_required","inputRequests":{}}`, Handles{}},
		"null for a state":           {`{"requestState":null}`, Handles{}},
		"an empty state":             {`{"requestState":""}`, Handles{HasState: true}},
		"a task that is no object":   {`{"task":7}`, Handles{}},
		"a result beside it":         {`{"task":{"taskId":"t"},"content":[]}`, Handles{TaskID: "t", Mixed: true}},
		"a result in it":             {`{"task":{"taskId":"t","structuredContent":{}}}`, Handles{TaskID: "t", Mixed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadHandles(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":7,"params":{"taskId":"x"},"result":%s}`, c.result))
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v", got, err)
			}
			got, err = ReadTaskNotification(fmt.Appendf(nil, ` {"method":"notifications/tasks","params":%s} `, c.result))
			if err != nil || got != c.want {
				t.Errorf("of a notification: got %+v, %v", got, err)
			}
		})
	}
	if got, err := ReadHandles([]byte(rpcError)); err != nil || got != (Handles{}) {
		t.Errorf("of an error: got %+v, %v", got, err)
	}
}

const rpcError = `{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no","data":{"taskId":"t"}}}`

// TestReadHandlesRefuses checks that ReadHandles refuses a message that two parsers
// could read differently.
func TestReadHandlesRefuses(t *testing.T) {
	for _, result := range []string{
		`{"taskId":"a","taskId":"b"}`, `{"taskId":"a","TaskId":"b"}`, `{"taskId":"a","task":{"taskId":"b"}}`,
		`{"taskId":7}`, `{"status":{}}`, `{"requestState":7}`, `{"requestState":"a","requeststate":"b"}`,
		`{"result":{},"Result":{}}`, `{"Result":{}}`, `{"result":[]}`, `{"result":"text"}`, `{"result":{"isError":"no"}}`,
		`{"result":{"isError":true,"isError":false}}`, `{"result":{"iserror":true}}`, `{"task\u200b":{"taskId":"a"}}`,
		`7`, `{`, `{}}`, ``,
	} {
		if got, err := ReadHandles(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":7,"result":%s}`, result)); !errors.Is(err, ErrTask) {
			t.Errorf("%s: got %+v, %v", result, got, err)
		}
	}
	for _, message := range []string{"", "[]", `{"result":{}} x`} {
		if got, err := ReadHandles([]byte(message)); !errors.Is(err, ErrTask) {
			t.Errorf("%s: got %+v, %v", message, got, err)
		}
	}
}

// TestAddTaskMeta checks that the receipt is added to the result in the report of a
// task. A forged receipt in that result must be dropped, and the rest of the report
// must stay unchanged.
func TestAddTaskMeta(t *testing.T) {
	fields := []Field{{Name: "dev.farebox/receipt", Value: []byte(`"R"`)}}
	for in, want := range map[string]string{
		`{"result":{"taskId":"t","result":{"content":[]},"_meta":{"a":1}},"id":7}`: `{"result":{"taskId":"t","result":{"_meta":{"dev.farebox/receipt":"R"},"content":[]},"_meta":{"a":1}},"id":7}`,
		`{"result":{"result":{"_meta":{"dev.farebox/receipt":"forged","b":2}}}}`:   `{"result":{"result":{"_meta":{"b":2,"dev.farebox/receipt":"R"}}}}`,
		`{"result":{"result":{"_meta":7}}}`:                                        `{"result":{"result":{"_meta":7}}}`,
		`{"result":{"taskId":"t","status":"working"}}`:                             `{"result":{"taskId":"t","status":"working"}}`,
	} {
		if got, err := AddTaskMeta([]byte(in), fields); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v", in, got, err)
		}
		event, err := AddTaskMetaToEvent([]byte("id: 7\ndata: "+in+"\n\n"), fields)
		if err != nil || string(event) != "id: 7\ndata: "+want+"\n\n" {
			t.Errorf("event of %s: got %q, %v", in, event, err)
		}
	}
	if _, err := AddTaskMeta([]byte(`{}`), []Field{{}}); !errors.Is(err, ErrField) {
		t.Errorf("got %v", err)
	}
	if _, err := AddTaskMetaToEvent([]byte("id: 7\n\n"), fields); !errors.Is(err, ErrNoResult) {
		t.Errorf("got %v", err)
	}
}

// TestGuardedNotifications checks that a Scanner recognises notifications about tasks
// and about changed resources, even if the method is escaped or split.
func TestGuardedNotifications(t *testing.T) {
	for method, want := range map[string]bool{
		"notifications/tasks": true, "notifications/tasks/status": true, `notifications\/t\u0061sks`: true,
		"notifications/resources/updated": true, "notifications/resources/list_changed": false,
		"notifications/progress": false, "notifications/tasks/": false, "": false,
	} {
		message := `{"jsonrpc":"2.0","params":{"method":"notifications/tasks"},"method":"` + method + `"}`
		for step := 1; step < 9; step++ {
			if got := scan(NewScanner(IntID(7)), IntID(7), message, step); got.Class != ClassPassing || got.Guarded != want {
				t.Errorf("%q in steps of %d: %+v", method, step, got)
			}
		}
	}
}

// FuzzReadHandles checks that a lax parser finds the same task, state and result in a
// response as ReadHandles does. The lax parser is encoding/json, which ignores case and
// takes the last of several equal keys.
func FuzzReadHandles(f *testing.F) {
	for _, result := range []string{
		`{"task":{"taskId":"t-1","status":"working","ttl":60000}}`, `{"resultType":"task","taskId":"t","ttlMs":1.5e3}`,
		`{"taskId":"t","status":"completed","result":{"isError":true}}`, `{"requestState":"s","RequestState":"u"}`, `{"taſkId":"t"}`,
	} {
		f.Add(result)
	}
	f.Fuzz(func(t *testing.T, result string) {
		message := []byte(`{"jsonrpc":"2.0","id":7,"result":` + result + `}`)
		got, err := ReadHandles(message)
		if err != nil {
			return
		}
		type told struct {
			TaskID       *string
			Status       *string
			RequestState *string
			Result       *struct{ IsError bool }
		}
		var lax struct {
			Result struct {
				told
				Task json.RawMessage
			}
		}
		if err := json.Unmarshal(message, &lax); err != nil {
			return // the lax parser refuses the message
		}
		same := func(what, got string, read *string) {
			if read != nil && *read != got {
				t.Errorf("%s is %q to a lax reader, and was judged as %q", what, *read, got)
			}
		}
		same("the task", got.TaskID, lax.Result.TaskID)
		same("the status", got.Status, lax.Result.Status)
		same("the state", got.RequestState, lax.Result.RequestState)
		if r := lax.Result.Result; r != nil && (got.Embedded == OutcomeUnknown || r.IsError != (got.Embedded == OutcomeToolError)) {
			t.Errorf("the result is %+v to a lax reader, and was judged as %v", *r, got.Embedded)
		}
	})
}
