package formfill

import (
	"net/url"
	"strings"
	"testing"
)

const page = `<!DOCTYPE html><html><head><title>t</title></head><body><div id="problem" tabindex="-1"></div>
<form method="post" action="/members"><input type="hidden" name="token" value="t"/><input type="hidden" name="account" value="one"/><button>Take away</button></form>
<form method="post" action="/members"><input type="hidden" name="token" value="t"/><label>Account <input name="account"/></label><label>Role <select name="role"><option>viewer</option><option value="own">owner</option></select></label></form>
<form method="post" action="/book"><input type="hidden" name="id" value="fresh"/><input type="password" name="password"/><input name="code" data-secret=""/><input type="checkbox" name="test"/><input type="checkbox" name="server" value="a" checked=""/><input type="checkbox" name="server" value="b"/><textarea name="note">old</textarea></form>
<form method="get" action="/book"><input name="id" value="filter"/></form></body></html>`

// TestFill checks that the input comes into the form that was sent, with the problem
// beside its field, and that secrets stay out of the page.
func TestFill(t *testing.T) {
	for name, tt := range map[string]struct {
		form  Refusal
		has   []string
		lacks []string
	}{
		"the form with the fields that were sent": {
			Refusal{Action: "/members", Input: url.Values{"token": {"t"}, "account": {`"><b>`}, "role": {"own"}}, Detail: "No <such> account.", Fields: []string{"account", ""}},
			[]string{`<input name="account" value="&#34;&gt;&lt;b&gt;" id="field-account" aria-invalid="true" aria-describedby="error-account"/></label><p class="error" id="error-account">No &lt;such&gt; account.</p>`,
				`<option value="own" selected="">`, `<a href="#field-account">Correct the field: Account</a>`, `name="account" value="one"`},
			[]string{"<b>"},
		},
		"no field that is wrong": {
			Refusal{Action: "/members", Input: url.Values{"token": {"t"}, "account": {"one"}}, Detail: "Not now."},
			[]string{`<label>Account <input name="account"/></label>`}, []string{"Not now.", "aria-invalid"},
		},
		"secrets, boxes and long texts": {
			Refusal{Action: "/book", Input: url.Values{"id": {"sent"}, "password": {"hush"}, "code": {"hush"}, "test": {"on"}, "server": {"b"}, "note": {"a\n<b>"}}, Fields: []string{"unknown", "note"}, Detail: "Too long."},
			[]string{`name="id" value="sent"`, `name="test" checked=""`, `value="a"/>`, `value="b" checked=""`, "a\n&lt;b&gt;</textarea>", `id="error-note"`, `name="id" value="filter"`},
			[]string{"hush", "fresh", ">old<"},
		},
		"an id that belongs to another booking": {
			Refusal{Action: "/book", Input: url.Values{"id": {"sent"}, "note": {"x"}}, Conflict: true},
			[]string{`value="fresh"`, ">x<"}, []string{"sent"},
		},
		"a form that the page does not have": {
			Refusal{Action: "/elsewhere", Input: url.Values{"account": {"x"}}, Fields: []string{"account"}, Detail: "No."},
			[]string{`value="one"`}, []string{`"x"`, "No."},
		},
	} {
		filled, err := tt.form.Fill([]byte(page))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range tt.has {
			if !strings.Contains(string(filled), part) {
				t.Errorf("%s: without %s\n%s", name, part, filled)
			}
		}
		for _, part := range tt.lacks {
			if strings.Contains(string(filled), part) {
				t.Errorf("%s: with %s\n%s", name, part, filled)
			}
		}
	}
}
