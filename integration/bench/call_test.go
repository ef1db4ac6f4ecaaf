package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

const jsonType, streamType = "application/json; charset=utf-8", "text/event-stream"

// answerTo returns the upstream's answer as a gateway passes it on. meta has the
// members that the gateway adds in _meta, such as the charge and the receipt. If meta
// is "", the gateway adds no members.
func answerTo(id int64, c call, meta string) string {
	body := string(appendAnswer(nil, []byte(strconv.FormatInt(id, 10)), c.stateless))
	if meta != "" {
		body = strings.TrimSuffix(body, "}}") + `,"_meta":{` + meta + `}}}`
	}
	if c.stream {
		body = "event: message\ndata: " + body + "\n\n"
	}
	return body
}

const paidMeta = `"dev.farebox/charge":{"id":"chg_1","amount":"0.0001","currency":"USD"},"dev.farebox/receipt":"eyJ.e30.c2ln"`

// TestUpstreamAnswers checks the length of the answers, and that requests are JSON.
func TestUpstreamAnswers(t *testing.T) {
	for _, stateless := range []bool{false, true} {
		answer := appendAnswer(nil, []byte(strconv.Itoa(firstID)), stateless)
		if len(answer) != answerLength || !json.Valid(answer) {
			t.Errorf("stateless %t: %d bytes; want %d of JSON: %s", stateless, len(answer), answerLength, answer)
		}
		request := call{tool: paidTool, stateless: stateless}.appendBody(nil, firstID)
		if !json.Valid(request) || string(answeredID(request)) != strconv.Itoa(firstID) {
			t.Errorf("stateless %t: request %s", stateless, request)
		}
	}
}

// TestCheck checks that the methods check and checkWhole accept the right answers and
// refuse every other answer.
func TestCheck(t *testing.T) {
	const id = firstID + 7
	free, paid := call{tool: freeTool}, call{tool: paidTool, charge: price}
	stream := call{tool: streamTool, stream: true, charge: price}
	stateless := call{tool: paidTool, stateless: true, charge: price}
	for _, c := range []struct {
		name        string
		call        call
		status      int
		contentType string
		body        string
		right       bool
	}{
		{"free", free, 200, jsonType, answerTo(id, free, ""), true},
		{"paid", paid, 200, jsonType, answerTo(id, paid, paidMeta), true},
		{"stream", stream, 200, streamType, answerTo(id, stream, paidMeta), true},
		{"stateless", stateless, 200, jsonType, answerTo(id, stateless, paidMeta), true},
		{"other status", free, 202, jsonType, answerTo(id, free, ""), false},
		{"other type", free, 200, streamType, answerTo(id, free, ""), false},
		{"JSON instead of a stream", stream, 200, jsonType, answerTo(id, paid, paidMeta), false},
		{"other id", free, 200, jsonType, answerTo(id+1, free, ""), false},
		{"longer id", free, 200, jsonType, strings.Replace(answerTo(id, free, ""), strconv.Itoa(id), strconv.Itoa(id)+"0", 1), false},
		{"other text", free, 200, jsonType, strings.Replace(answerTo(id, free, ""), "rain", "snow", 1), false},
		{"cut off", free, 200, jsonType, answerTo(id, free, "")[:100], false},
		{"empty", free, 200, jsonType, "", false},
		{"not charged", paid, 200, jsonType, answerTo(id, paid, ""), false},
		{"charged without a receipt", paid, 200, jsonType, answerTo(id, paid, strings.Split(paidMeta, ",\"dev.farebox/receipt")[0]), false},
		{"free tool charged", free, 200, jsonType, answerTo(id, free, paidMeta), false},
	} {
		for kind, check := range map[string]func(int64, int, string, []byte) error{"check": c.call.check, "checkWhole": c.call.checkWhole} {
			if err := check(id, c.status, c.contentType, []byte(c.body)); (err == nil) != c.right {
				t.Errorf("%s, %s: got %v; want right %t", c.name, kind, err, c.right)
			}
		}
	}
	other := strings.Replace(answerTo(id, paid, paidMeta), "0.0001", "0.0002", 1)
	if err := paid.checkWhole(id, 200, jsonType, []byte(other)); err == nil {
		t.Error("another amount was accepted")
	}
}
