package integration

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// attack is one row of testdata/attacks; the README there describes the format.
type attack struct {
	where string // the file and the line of the row
	name  string
	want  verdict
	bites []string // names of the servers that run the tool if the row is sent to them directly

	modern    bool // true if the request starts with the usual headers of version 2026-07-28
	strange   bool // true if the request is sent without a token
	halfClose bool // true if the client half-closes the connection after the request
	method    string
	edits     []edit // changes to the usual headers
	encoding  string // the names of the body's content encodings
	body      string
	raw       string // the whole request, instead of the fields above
}

// edit is a change to the usual headers.
type edit struct {
	verb, name, value string
}

// verdict is the outcome an attack must have at the gateway.
type verdict string

const (
	attackRefused verdict = "refused" // answered with a refusal; the server receives nothing
	attackPasses  verdict = "passes"  // the body has one meaning: the server receives it, and a priced call is charged
	attackBelow   verdict = "below"   // the request is not HTTP or not for the MCP server, so no handler receives it
	attackUnheard verdict = "unheard" // the server receives nothing, whatever the answer
)

// readAttacks reads all rows of testdata/attacks.
func readAttacks(t *testing.T) []attack {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "attacks", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no attacks: %v", err)
	}
	var all []attack
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(file)
		for n := 1; lines.Scan(); n++ {
			where := fmt.Sprintf("%s:%d", filepath.Base(path), n)
			if name, ok := strings.CutPrefix(lines.Text(), "== "); ok {
				all = append(all, attack{where: where, name: name, want: attackRefused, method: "POST"})
				continue
			}
			if err := readAttackLine(&all, lines.Text()); err != nil {
				t.Fatalf("%s: %v", where, err)
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	names := make(map[string]string)
	for _, a := range all {
		if names[a.name] != "" {
			t.Fatalf("%s: %q stands at %s, too", a.where, a.name, names[a.name])
		}
		names[a.name] = a.where
	}
	return all
}

// readAttackLine adds a line of the file to the last attack of the list.
func readAttackLine(all *[]attack, line string) error {
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	if len(*all) == 0 {
		return fmt.Errorf("a line before the first attack")
	}
	a := &(*all)[len(*all)-1]
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "|":
		if a.body != "" {
			a.body += "\n"
		}
		a.body += rest
	case ">":
		a.raw += rest + "\r\n"
	case ">>": // the text gets no line ending
		a.raw += rest
	case "want":
		a.want = verdict(rest)
		if a.want != attackPasses && a.want != attackBelow && a.want != attackUnheard {
			return fmt.Errorf("want %q", rest)
		}
	case "bites":
		a.bites = strings.Fields(rest)
	case "modern":
		a.modern = true
	case "strange":
		a.strange = true
	case "half-close":
		a.halfClose = true
	case "method":
		a.method = rest
	case "encode":
		a.encoding = rest
	case "set", "add":
		name, value, ok := strings.Cut(rest, ":")
		if !ok {
			return fmt.Errorf("%s needs a name, a colon, a value", verb)
		}
		a.edits = append(a.edits, edit{verb, name, strings.TrimPrefix(value, " ")})
	case "without":
		a.edits = append(a.edits, edit{verb: verb, name: rest})
	default:
		return fmt.Errorf("%q is no word of this file", verb)
	}
	return nil
}

// aim is an attack's target: the gateway or server, and the tool.
type aim struct {
	host, path, secret, session string
	misplaced                   string // a valid token that may appear in logs
	tool                        string
}

// field is one header line.
type field struct{ name, value string }

// request returns the bytes of an attack and, separately, its body. The body is nil
// if the row gives the whole request.
func (a *attack) request(at aim) (request, body []byte, err error) {
	if a.raw != "" {
		text, err := at.expand(a.raw)
		return []byte(text), nil, err
	}
	text, err := at.expand(a.body)
	if err != nil {
		return nil, nil, err
	}
	if body, err = encodeBody(a.encoding, []byte(text)); err != nil {
		return nil, nil, err
	}
	head := at.head(a.modern)
	head = append(head, field{"Content-Length", strconv.Itoa(len(body))}, field{"Connection", "close"})
	if a.strange {
		head = slices.DeleteFunc(head, func(f field) bool { return f.name == "Authorization" })
	}
	for _, e := range a.edits {
		if e.value, err = at.expand(e.value); err != nil {
			return nil, nil, err
		}
		if e.verb != "add" {
			head = slices.DeleteFunc(head, func(f field) bool { return f.name == e.name })
		}
		if e.verb != "without" {
			head = append(head, field{e.name, e.value})
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", a.method, at.path)
	for _, f := range head {
		fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes(), body, nil
}

// head returns the headers of a normal call.
func (at *aim) head(modern bool) []field {
	head := []field{
		{"Host", at.host}, {"Authorization", "Bearer " + at.secret},
		{"Content-Type", "application/json"}, {"Accept", "application/json, text/event-stream"},
	}
	if modern {
		return append(head, field{"MCP-Protocol-Version", "2026-07-28"}, field{"Mcp-Method", "tools/call"}, field{"Mcp-Name", at.tool})
	}
	if at.session != "" {
		head = append(head, field{"Mcp-Session-Id", at.session})
	}
	return append(head, field{"MCP-Protocol-Version", sessionVersion})
}

var macro = regexp.MustCompile(`(?s)\{\{(\w+)(?: (.*?))?\}\}`)

// expand replaces the placeholders in double braces.
func (at *aim) expand(text string) (string, error) {
	var failure error
	expanded := macro.ReplaceAllStringFunc(text, func(m string) string {
		parts := macro.FindStringSubmatch(m)
		value, err := at.value(parts[1], parts[2])
		if err != nil {
			failure = fmt.Errorf("%s: %w", m, err)
		}
		return value
	})
	return expanded, failure
}

const (
	plainCall  = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":%q,"arguments":{}}}`
	modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
)

func (at *aim) value(name, argument string) (string, error) {
	call := fmt.Sprintf(plainCall, at.tool)
	switch name {
	case "tool":
		return at.tool, nil
	case "call":
		return call, nil
	case "cheap":
		return fmt.Sprintf(plainCall, cheapTool), nil
	case "meta":
		return modernMeta, nil
	case "path":
		return at.path, nil
	case "host":
		return at.host, nil
	case "secret":
		return at.secret, nil
	case "misplaced":
		return at.misplaced, nil
	case "session":
		return at.session, nil
	case "head": // the usual headers without Content-Length and Connection
		var lines []string
		for _, f := range at.head(false) {
			lines = append(lines, f.name+": "+f.value)
		}
		return strings.Join(lines, "\r\n"), nil
	case "size", "hex": // the length of {{call}} plus the argument, in decimal or hexadecimal
		more := 0
		if argument != "" {
			var err error
			if more, err = strconv.Atoi(argument); err != nil {
				return "", err
			}
		}
		if name == "hex" {
			return strconv.FormatInt(int64(len(call)+more), 16), nil
		}
		return strconv.Itoa(len(call) + more), nil
	case "base64":
		text := strings.ReplaceAll(argument, "TOOL", at.tool)
		return base64.StdEncoding.EncodeToString([]byte(text)), nil
	case "x":
		raw, err := hex.DecodeString(strings.ReplaceAll(argument, " ", ""))
		return string(raw), err
	case "repeat":
		times, what, _ := strings.Cut(argument, " ")
		n, err := strconv.Atoi(times)
		words := strings.NewReplacer("SPACE", " ", "CRLF", "\r\n", "OPEN", "{", "TOOL", at.tool)
		return strings.Repeat(words.Replace(what), n), err
	case "keys": // the argument 2 stands for "key0":0,"key1":0,
		n, err := strconv.Atoi(argument)
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"key%d":0,`, i)
		}
		return b.String(), err
	}
	return "", fmt.Errorf("not known")
}

// encodeBody applies encodings, separated by spaces, to the body, one after another.
func encodeBody(encodings string, body []byte) ([]byte, error) {
	for _, encoding := range strings.Fields(encodings) {
		var b bytes.Buffer
		var w io.WriteCloser
		switch encoding {
		case "gzip":
			w = gzip.NewWriter(&b)
		case "deflate":
			w = zlib.NewWriter(&b)
		case "raw-deflate":
			w, _ = flate.NewWriter(&b, flate.DefaultCompression) // the error is nil, because the level is valid
		case "br":
			body = storedBrotli(body)
			continue
		case "utf-16le", "utf-16be":
			body = inUTF16(body, encoding == "utf-16be")
			continue
		case "utf-32le", "utf-32be":
			body = inUTF32(body, encoding == "utf-32be")
			continue
		default:
			return nil, fmt.Errorf("encoding %q is not known", encoding)
		}
		if _, err := w.Write(body); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		body = b.Bytes()
	}
	return body, nil
}

// storedBrotli encodes up to 64 KiB as one uncompressed meta-block (RFC 7932, section
// 9.2) followed by an empty last meta-block. The header sets a 2^16 window, ISLAST=0, a
// four-nibble length and ISUNCOMPRESSED=1.
func storedBrotli(body []byte) []byte {
	head := uint32(len(body)-1)<<4 | 1<<20
	return append(append([]byte{byte(head), byte(head >> 8), byte(head >> 16)}, body...), 3)
}

func inUTF16(body []byte, big bool) (out []byte) {
	for _, unit := range utf16.Encode([]rune(string(body))) {
		if big {
			out = binary.BigEndian.AppendUint16(out, unit)
		} else {
			out = binary.LittleEndian.AppendUint16(out, unit)
		}
	}
	return out
}

func inUTF32(body []byte, big bool) (out []byte) {
	for _, r := range string(body) {
		if big {
			out = binary.BigEndian.AppendUint32(out, uint32(r))
		} else {
			out = binary.LittleEndian.AppendUint32(out, uint32(r))
		}
	}
	return out
}
