package pricing

import (
	"strings"
	"testing"
)

// TestText checks the texts that expressions make from an object, and that an error of an evaluation
// does not quote the object.
func TestText(t *testing.T) {
	const object = `{"sub":"alice","org":{"name":"acme"},"n":7,"list":["a"]}`
	for expression, want := range map[string]string{
		`claims.sub`:                                "alice",
		`claims.org.name + "-" + claims.sub`:        "acme-alice",
		`claims[?"team"].orValue("none")`:           "none",
		`string(claims.n)`:                          "7",
		`claims.n`:                                  "!the expression gave int, not string",
		`claims.team`:                               "!it names a member that is not there",
		`claims.list.map(x, claims.sub + x)[0]`:     "alicea",
		`claims.sub == "alice" ? "x" : "y"`:         "x",
		`claims.sub.matches("^a(.*)e$") ? "" : "y"`: "",
	} {
		compiled, err := CompileText(expression, "claims")
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		got, err := compiled.Evaluate(t.Context(), []byte(object))
		if err != nil {
			got = "!" + err.Error()
			if strings.Contains(got, "alice") {
				t.Errorf("%s: the error quotes the object: %v", expression, err)
			}
		}
		if !strings.HasPrefix(got, want) || err == nil && got != want {
			t.Errorf("%s: %q, want %q", expression, got, want)
		}
	}
}

// TestTextRefuses checks that an expression that cannot give a text is refused when it
// is compiled.
func TestTextRefuses(t *testing.T) {
	for expression, want := range map[string]string{
		`claims.`:           "cannot be read",
		`other.sub`:         "cannot be read",
		`1 + 1`:             "has to give string",
		`claims.sub == "a"`: "has to give string",
	} {
		if _, err := CompileText(expression, "claims"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", expression, err)
		}
	}
}
