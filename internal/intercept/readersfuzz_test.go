package intercept

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

func base64Of(text []byte) string { return base64.StdEncoding.EncodeToString(text) }

// answerSeeds returns responses, and texts that could be mistaken for a response, in
// every form that the parsers of readers() judge differently.
func answerSeeds() []string {
	seeds := []string{
		result, toolError, rpcError, asking, progress, foreign, "[" + result + "]", result + result, ")]}'\n" + result, "\ufeff" + result, "\ufeff\ufeff" + result,
		"", "hello", "[DONE]", `"hello"`, "{", result[:30],
	}
	member := func(m string) string { return strings.Replace(result, `"result":{`, `"result":{`+m+`,`, 1) }
	id := func(m string) string { return strings.Replace(result, `"id":7`, m, 1) }
	for _, m := range []string{
		`"isError":true,"isError":false`, `"isError":false,"isError":true`, `"iserror":true`, `"isError ":true`, "\"isError\xff\":true", `"isError\ud800":true`, `"isError":"true"`, `"isError":null`,
		`"resultType":"input_required","resultType":"complete"`, `"ResultType":"task"`, `"resultType":"comp\ud800lete"`, `"task":{},"task":1`, `"_meta":7`, `"_meta":{},"_meta":{}`, `"_META":{}`,
		"\"a\":\"\xff\\ud800\\udc00\\ud800\"", "\"a\":\"\xe2\x82\"", `"a":` + strings.Repeat("[", 700) + strings.Repeat("]", 700),
	} {
		seeds = append(seeds, member(m))
	}
	for _, m := range []string{
		`"id":8,"id":7`, `"id":7,"id":8`, `"ID":7`, `"id":8,"Id":7`, `"id":"7"`, `"id":7.0`, `"id":7e0`, `"id":70e-1`, `"id":[7]`, `"id":null`, "\"id\":8,\"i\xffd\":7", `"\u0069d":7`, `"id":8,"\u0069d\u200b":7`,
		`"id":7,"method":"x"`, `"id":7,"result":{"isError":true}`, `"id":7,"Result":{}`, `"id":7,"error":null`, `"id":7,"error":{"code":1}`, `"x":1,`, "\"x\":\"\t\",\"id\":7",
	} {
		seeds = append(seeds, id(m))
	}
	return append(seeds,
		`{"jsonrpc":"2.0","method":"x","params":{,},"id":7,"result":{}}`, `{"jsonrpc":"2.0","method":1,"id":7}`, `{"method":"x","\u0072esult":{},"id":7}`,
		`{"jsonrpc":"2.0","id":7,"result":{}}//`, `{"id":7,"result":{}}`, `{"jsonrpc":"2.0","id":7}`)
}

// dataOf returns the data of the events in a stream, for each of four ways in which
// clients split the stream. The first way follows the standard and takes only events of
// the type message. The second follows the standard, but takes events of all types. The
// third splits at LF alone and takes events of all types (mcp-go). The fourth splits at
// every line break in Unicode and takes only events of the type message.
func dataOf(stream []byte) (all [][]byte) {
	text := strings.TrimPrefix(string(stream), "\ufeff")
	standard := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	unicode := strings.NewReplacer("\v", "\n", "\f", "\n", "\x1c", "\n", "\x1d", "\n", "\x1e", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(standard)
	for _, way := range []struct {
		text  string
		types bool
	}{{standard, true}, {standard, false}, {text, false}, {unicode, true}} {
		kind, data, has := "", "", false
		for line := range strings.SplitSeq(way.text+"\n\n", "\n") {
			line = strings.TrimRight(line, "\r")
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case line == "":
				if has && (!way.types || kind == "" || kind == "message") {
					all = append(all, []byte(data))
				}
				kind, data, has = "", "", false
			case name == "event":
				kind = value
			case name == "data" && has:
				data += "\n" + value
			case name == "data":
				data, has = value, true
			}
		}
	}
	return all
}

// checkUnpaid checks promise 1 of docs/promises.md: if a call was not charged, no
// client's parser finds the call's result in a text that the client was sent.
func checkUnpaid(t *testing.T, all []reader, r *rig, sent [][]byte, came []byte) {
	t.Helper()
	if r.books.captured {
		return
	}
	for _, text := range sent {
		for _, read := range all {
			if read.takes(text) {
				t.Fatalf("%q was not charged, and %s takes %q for its result", came, read.name, text)
			}
		}
	}
}

// FuzzAnswerAgainstReaders searches for a JSON response in which one of the parsers of
// readers() finds a result although the call was not charged.
func FuzzAnswerAgainstReaders(f *testing.F) {
	all := readers(f)
	for _, seed := range answerSeeds() {
		f.Add([]byte(seed), uint16(len(seed)/2))
	}
	f.Fuzz(func(t *testing.T, body []byte, at uint16) {
		r := newRig(t, nil)
		split := min(int(at), len(body))
		r.upstream(200, asJSON, string(body[:split]), string(body[split:]))
		checkUnpaid(t, all, r, [][]byte{r.wire.Body.Bytes()}, body)
	})
}

// FuzzEventsAgainstReaders does the same as FuzzAnswerAgainstReaders for an event
// stream. It splits the stream into events in every way known from clients.
func FuzzEventsAgainstReaders(f *testing.F) {
	all := readers(f)
	for i, seed := range answerSeeds() {
		end := []string{"\n", "\r\n", "\r"}[i%3]
		data := strings.ReplaceAll(seed, "\n", end+"data: ")
		f.Add([]byte("data: "+data+end+end), uint16(i))
		f.Add([]byte("event: other"+end+"data: "+data+end+end+event(result)), uint16(i))
		f.Add([]byte("foo: bar"+end+"data:"+strings.ReplaceAll(seed, ",", ","+end+"data: ")+end+": x\u2028data: "+data+end+end), uint16(i))
		f.Add([]byte(": "+data+end+end+"Data: "+data+end+"data: {\r"+seed+end+end), uint16(i))
	}
	f.Fuzz(func(t *testing.T, stream []byte, at uint16) {
		for _, hold := range []int{1 << 20, 64} {
			r := newRig(t, func(o *Options) { o.Hold = hold })
			split := min(int(at), len(stream))
			complete := r.upstream(200, asEvents, string(stream[:split]), string(stream[split:]))
			sent := r.wire.Body.Bytes()
			if !complete { // clients ignore an event without its blank line
				sent = wholeEvents(sent)
			}
			checkUnpaid(t, all, r, dataOf(sent), stream)
		}
	})
}

// wholeEvents returns the part of a cut-off stream that clients accept as whole
// events.
func wholeEvents(sent []byte) []byte {
	end := 0
	for _, blank := range []string{"\n\n", "\r\n\r\n", "\r\r", "\n\r"} {
		if at := bytes.LastIndex(sent, []byte(blank)); at >= 0 {
			end = max(end, at+len(blank))
		}
	}
	return sent[:end]
}
