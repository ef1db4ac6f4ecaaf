package mcp

import (
	"encoding/json"
	"strings"
	"testing"
)

// noted returns a note for items with names that begin with "paid".
func noted(name string) string {
	if strings.HasPrefix(name, "paid") {
		return `(0.05 "USD" a call)`
	}
	return ""
}

// TestRewriteListNotes checks that a note is appended to the description of an item,
// wherever the description stands in the item. Apart from the note and the price in
// _meta, no byte may change.
func TestRewriteListNotes(t *testing.T) {
	const note = `(0.05 \"USD\" a call)`
	for name, c := range map[string]struct{ items, want string }{
		"at the end":           {`{"name":"paid","description":"Tells."}`, `{` + metaPrice + `,"name":"paid","description":"Tells. ` + note + `"}`},
		"before _meta":         {`{"description": "Tells." ,"_meta":{"a":1},"name":"paid"}`, `{"description": "Tells. ` + note + `" ,"_meta":{"a":1,"dev.farebox/price":"0.05"},"name":"paid"}`},
		"after _meta":          {`{"_meta":{"a":1},"description":"Tells.","name":"paid"}`, `{"_meta":{"a":1,"dev.farebox/price":"0.05"},"description":"Tells. ` + note + `","name":"paid"}`},
		"escapes stay":         {`{"name":"paid","d\u0065scription":"a \"b\" \\"}`, `{` + metaPrice + `,"name":"paid","d\u0065scription":"a \"b\" \\ ` + note + `"}`},
		"none":                 {`{ "name":"paid"}`, `{"description":"` + note + `",` + metaPrice + `, "name":"paid"}`},
		"none, but _meta":      {`{"name":"paid","_meta":{}}`, `{"description":"` + note + `","name":"paid","_meta":{"dev.farebox/price":"0.05"}}`},
		"null":                 {`{"description":null,"_meta":null,"name":"paid"}`, `{"description":"` + note + `","_meta":{"dev.farebox/price":"0.05"},"name":"paid"}`},
		"empty":                {`{"_meta":{},"name":"paid","description":""}`, `{"_meta":{"dev.farebox/price":"0.05"},"name":"paid","description":"` + note + `"}`},
		"_meta is odd":         {`{"_meta":7,"name":"paid","description":"a"}`, `{"_meta":7,"name":"paid","description":"a ` + note + `"}`},
		"twice":                {`{"_meta":{},"name":"paid","description":"a","description":"b"}`, `{"_meta":{"dev.farebox/price":"0.05"},"name":"paid","description":"a","description":"b"}`},
		"no text":              {`{"_meta":{},"name":"paid","description":["a"]}`, `{"_meta":{"dev.farebox/price":"0.05"},"name":"paid","description":["a"]}`},
		"free":                 {`{"name":"a","description":"Tells."}`, `{"name":"a","description":"Tells."}`},
		"hidden between":       {`{"name":"paid","description":"a"},{"name":"hidden","description":"b"},{"description":"c","name":"paid2"}`, `{` + metaPrice + `,"name":"paid","description":"a ` + note + `"},{` + metaPrice + `,"description":"c ` + note + `","name":"paid2"}`},
		"of a schema's member": {`{"inputSchema":{"description":"x"},"name":"paid","description":"a"}`, `{` + metaPrice + `,"inputSchema":{"description":"x"},"name":"paid","description":"a ` + note + `"}`},
	} {
		o := listRewrite()
		o.Note = noted
		got, err := RewriteList([]byte(listAnswer(`"cacheScope":"private","tools":[`+c.items+`]`)), o)
		if want := listAnswer(`"cacheScope":"private","tools":[` + c.want + `]`); err != nil || string(got) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, want)
		}
		if !json.Valid(got) {
			t.Errorf("%s: no JSON", name)
		}
	}
}
