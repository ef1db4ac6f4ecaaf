package mirror

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fareboxhq/farebox/internal/mcp"
)

// TestSetAgreesWithTheGateway checks that the gateway accepts the headers of each kind of
// message, with names beyond ASCII too.
func TestSetAgreesWithTheGateway(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "two words", " space ", "täg", "=?base64?eA==?=", "日本"} {
		for _, body := range []string{
			`"id":1,"method":"tools/call","params":{"name":%q,%s}`, `"id":1,"method":"prompts/get","params":{"name":%q,%s}`,
			`"id":1,"method":"resources/read","params":{"uri":%q,%s}`, `"id":1,"method":"tasks/get","params":{"taskId":%q,%s}`,
			`"id":1,"method":"tools/list","params":{"cursor":%q,%s}`, `"method":"notifications/x","params":{"y":%q,%s}`,
		} {
			text := fmt.Sprintf(`{"jsonrpc":"2.0",`+body+`}`, name, `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`)
			m, err := mcp.Decode([]byte(text))
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			h := http.Header{}
			new(Params).Set(h, &m)
			if era, err := mcp.CheckHeaders(h, &m); err != nil || era != mcp.EraStateless {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
}

// TestAnnotations checks which arguments become headers: strings, numbers and booleans
// at the places that the schema marks, and no others.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	var p Params
	p.Learn("x", []byte(`{"properties":{"s":{"x-mcp-header":"S"},"n":{"x-mcp-header":"N"},"b":{"x-mcp-header":"B"},"bad":{"x-mcp-header":"no token"},
		"o":{"x-mcp-header":"O","properties":{"in":{"x-mcp-header":"In"}}},"e":{"x-mcp-header":"E"}},"items":{"properties":{"z":{"x-mcp-header":"Z"}}}}`))
	m := mcp.Message{Method: "tools/call", Name: "x", ProtocolVersion: "2026-07-28",
		Arguments: []byte(`{"s":"a\u00e9","n":1e3,"b":true,"bad":"v","o":{"in":"deep"},"e":"","z":"v"}`)}
	h := http.Header{}
	p.Set(h, &m)
	for name, want := range map[string]string{"S": "=?base64?YcOp?=", "N": "1e3", "B": "true", "In": "deep", "E": "=?base64??=", "O": "", "Z": ""} {
		if got := h.Get("Mcp-Param-" + name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for name := range h {
		if strings.Contains(strings.ToLower(name), "token") {
			t.Errorf("there is a header %s", name)
		}
	}
	p.Learn("x", []byte(`{}`))
	h = http.Header{}
	if p.Set(h, &m); h.Get("Mcp-Param-S") != "" {
		t.Error("annotations stay after the tool has none")
	}
}
