package intercept

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A reader models one way in which a client may parse the text it was sent. takes(text)
// reports whether such a client accepts the text as a result of the request with the id
// 7. A tool error, a task or a request for input is not such a result.
type reader struct {
	name  string
	takes func(text []byte) bool
}

// readers returns clients' parsers that differ in everything that JSON leaves to a
// parser: which of two equal members counts, whether case matters, which text may
// surround a document, and which texts count as a number.
func readers(t testing.TB) []reader {
	all := []reader{{"encoding/json", goTakes}, {"jsontext", strictTakes}, {"bytes", bytesTake}}
	if js := startNode(t); js != nil {
		all = append(all, reader{"JSON.parse", js.takes})
	}
	return all
}

// goTakes reports whether a parser like that of mcp-go takes the text as a result: the
// last of several equal members counts, and case is ignored.
func goTakes(text []byte) bool {
	var m struct {
		ID     any
		Result *struct {
			IsError    bool
			ResultType *string
			Task       json.RawMessage
		}
	}
	if json.Unmarshal(text, &m) != nil || m.Result == nil || m.ID != float64(7) {
		return false
	}
	return !m.Result.IsError && (m.Result.ResultType == nil || *m.Result.ResultType == "complete") && !bytes.HasPrefix(m.Result.Task, []byte("{"))
}

// strictTakes reports whether a strict parser takes the text as a result. It reads one
// document and ignores the text after it. The first of several equal members counts.
func strictTakes(text []byte) bool {
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	top := firstMembers(d)
	if id, has := top["id"]; !has || string(id) != "7" {
		return false
	}
	result := firstMembers(jsontext.NewDecoder(bytes.NewReader(top["result"]), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)))
	if result == nil || string(result["isError"]) == "true" || bytes.HasPrefix(result["task"], []byte("{")) {
		return false
	}
	kind, has := result["resultType"]
	return !has || string(kind) == `"complete"`
}

// firstMembers reads an object and keeps the first of several equal members. It
// returns nil for any other value.
func firstMembers(d *jsontext.Decoder) map[string]jsontext.Value {
	if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
		return nil
	}
	members := map[string]jsontext.Value{}
	for {
		key, err := d.ReadToken()
		if err != nil || key.Kind() == '}' {
			if err != nil {
				return nil
			}
			return members
		}
		name := key.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil
		}
		if _, twice := members[name]; !twice {
			members[name] = value.Clone()
		}
	}
}

// bytesTake reports whether some handwritten parser could take the text as a result of
// the request with the id 7. It is as lax as such parsers may be. It ignores a byte
// order mark and white space before the object, any text after the object, and
// superfluous commas. Strings may contain any bytes. In keys, it ignores case and
// invisible characters. An id matches if it is a number that equals 7, or a string with
// such a number. If the object has several ids or results, one id that matches and one
// successful result are enough.
func bytesTake(text []byte) bool {
	at := bytes.IndexByte(text, '{')
	if at < 0 || len(bytes.Trim(text[:at], " \t\r\n\ufeff")) > 0 {
		return false
	}
	p := lax{text: text, at: at}
	ours, taken := false, false
	if !p.object(func(key string, from int) {
		value := strings.Trim(string(p.text[from:p.at]), " \t\r\n")
		switch key {
		case "id":
			ours = ours || seven(strings.Trim(value, `"`))
		case "result":
			taken = taken || laxResult(value)
		}
	}) {
		return false
	}
	return ours && taken
}

func seven(text string) bool {
	var f float64
	return json.Unmarshal([]byte(text), &f) == nil && f == 7
}

// laxResult reports whether a lax parser could read a value as a successful result. It
// is true for an object in which none of the members isError, resultType and task
// exists, and for an object in which at least one of them says that the result is
// successful.
func laxResult(value string) bool {
	if !strings.HasPrefix(value, "{") {
		return false
	}
	p := lax{text: []byte(value)}
	good, said := false, false
	ok := p.object(func(key string, from int) {
		v := strings.Trim(string(p.text[from:p.at]), " \t\r\n")
		switch key {
		case "iserror":
			said, good = true, good || v != "true"
		case "resulttype":
			said, good = true, good || v == `"complete"`
		case "task":
			if strings.HasPrefix(v, "{") {
				said = true
			}
		}
	})
	return ok && (good || !said)
}

// lax is a parser that knows only strings, brackets, commas and colons.
type lax struct {
	text []byte
	at   int
}

// object reads the current object and calls member(key, from) for each of its members.
// During the call, the value of the member lies between index from and index p.at.
// object reports whether the object has an end.
func (p *lax) object(member func(key string, from int)) bool {
	p.at++
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '}':
			return true
		case c != '"':
			p.at++
			continue
		}
		key := p.str()
		for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
			p.at++
		}
		if p.at == len(p.text) || p.text[p.at] != ':' {
			continue
		}
		p.at++
		from := p.at
		p.value()
		member(laxKey(key), from)
	}
	return false
}

// value reads up to the comma or bracket that ends the value.
func (p *lax) value() {
	for depth := 0; p.at < len(p.text); p.at++ {
		switch p.text[p.at] {
		case '"':
			p.str()
			p.at--
		case '{', '[':
			depth++
		case ',':
			if depth == 0 {
				return
			}
		case '}', ']':
			if depth == 0 {
				return
			}
			depth--
		}
	}
}

// str reads a string and returns the text between its quotes.
func (p *lax) str() string {
	from := p.at + 1
	for p.at++; p.at < len(p.text); p.at++ {
		switch p.text[p.at] {
		case '\\':
			p.at++
		case '"':
			p.at++
			return string(p.text[from : p.at-1])
		}
	}
	p.at = len(p.text)
	return ""
}

// laxKey returns a key in lower case, without escapes and invisible characters.
func laxKey(key string) string {
	var text string
	if json.Unmarshal([]byte(`"`+key+`"`), &text) != nil {
		text = key
	}
	text = strings.NewReplacer("\u017f", "s", "\u212a", "k", "\u0130", "i", "\u0131", "i").Replace(text)
	return strings.Map(func(r rune) rune {
		switch {
		case r <= ' ' || r == utf8.RuneError || r == '\u200b' || r == '\ufeff' || r == 0x7F || r == '\u2028':
			return -1
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, text)
}

// node is a Node.js process that reads as the TypeScript SDK does, one line at a
// time.
type node struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

// nodeProgram reads one base64 text per line and answers 1 if it takes the text for a
// result, otherwise 0. It ignores inherited members.
const nodeProgram = `
const lines = require("readline").createInterface({ input: process.stdin });
const taken = (text) => {
	try {
		const m = JSON.parse(text);
		const own = (o, k) => (Object.hasOwn(o, k) ? o[k] : undefined);
		if (m === null || typeof m !== "object" || Array.isArray(m)) return false;
		const id = own(m, "id"), result = own(m, "result");
		if (typeof id !== "string" && typeof id !== "number" || Number(id) !== 7) return false;
		if (result === null || typeof result !== "object" || Array.isArray(result)) return false;
		const type = own(result, "resultType"), task = own(result, "task");
		return own(result, "isError") !== true && (type === undefined || type === "complete") && (task === null || typeof task !== "object" || Array.isArray(task));
	} catch {
		return false;
	}
};
const decoder = new TextDecoder();
lines.on("line", (line) => process.stdout.write(taken(decoder.decode(Buffer.from(line, "base64"))) ? "1\n" : "0\n"));
`

// startNode starts Node.js for the duration of the test. It returns nil if Node.js is
// not installed.
func startNode(t testing.TB) *node {
	path, err := exec.LookPath("node")
	if err != nil {
		t.Log("node is not installed: skipping the reader JSON.parse")
		return nil
	}
	cmd := exec.Command(path, "-e", nodeProgram)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	n := &node{in: in, out: bufio.NewReader(out)}
	if !n.takes([]byte("\ufeff"+result)) || n.takes([]byte(toolError)) {
		t.Fatal("node does not read as it should")
	}
	return n
}

func (n *node) takes(text []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := io.WriteString(n.in, base64Of(text)+"\n"); err != nil {
		panic(err)
	}
	line, err := n.out.ReadString('\n')
	if err != nil {
		panic(err)
	}
	return line == "1\n"
}
