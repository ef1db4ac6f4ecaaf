package ops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fareboxhq/farebox/internal/ledger"
	"github.com/fareboxhq/farebox/internal/share"
	"github.com/fareboxhq/farebox/internal/wire"
)

// readBody reads the request body within limits on size, rate, time and memory, and
// replaces r.Body by the bytes that were read.
func readBody(w http.ResponseWriter, r *http.Request, memory *share.Allocation, limit int64) *wire.Problem {
	if limit == 0 {
		r.Body, r.ContentLength = http.NoBody, 0
		return nil
	}
	body, err := memory.ReadAll(http.MaxBytesReader(w, r.Body, limit), share.Body{
		Length: min(r.ContentLength, limit), Time: bodyTime, Rate: share.DefaultRate,
		Source: http.NewResponseController(w),
	})
	switch {
	case share.ClassOf(err) != "":
		return Problem(wire.TooMany, "Too many bodies are in memory already", err.Error())
	case errors.As(err, new(*http.MaxBytesError)):
		return Problem(wire.TooLarge, "The request is too large", fmt.Sprintf("Its body may have %d bytes", limit))
	case errors.Is(err, share.ErrSlow):
		return unreadable(http.StatusRequestTimeout, "it took too long to arrive")
	case err != nil:
		return unreadable(http.StatusBadRequest, "it broke off")
	}
	if len(body) > 0 {
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || kind != "application/json" {
			return unreadable(http.StatusUnsupportedMediaType, "its Content-Type must be application/json")
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

func unreadable(status int, why string) *wire.Problem {
	return &wire.Problem{Status: status, Code: wire.Invalid, Title: "The body cannot be read", Detail: why, Field: "body"}
}

// decode reads JSON strictly: it refuses duplicate or unknown members, names in another
// case, and invalid UTF-8 (RFC 8259, 4 and 8.1). Its errors name the place and the
// fault. They never quote a value, because the value may be a token.
func decode(data []byte, into any) error {
	err := jsonv2.Unmarshal(data, into, jsonv2.RejectUnknownMembers(true))
	var syntax *jsontext.SyntacticError
	var meaning *jsonv2.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax) && errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Errorf("duplicate member at byte %d", syntax.ByteOffset)
	case errors.As(err, &syntax):
		return fmt.Errorf("invalid JSON at byte %d", syntax.ByteOffset)
	case errors.As(err, &meaning) && meaning.GoType == reflect.TypeFor[ledger.Amount]():
		return fmt.Errorf("%s: want a decimal of at most six places in a string, as in \"0.01\"", member(meaning))
	case errors.As(err, &meaning) && errors.Is(err, jsonv2.ErrUnknownName):
		return fmt.Errorf("%s: unknown member", member(meaning))
	case errors.As(err, &meaning):
		return fmt.Errorf("%s: wrong type or value", member(meaning))
	}
	return errors.New("wrong type or value")
}

func member(e *jsonv2.SemanticError) string {
	return strings.TrimPrefix(strings.ReplaceAll(string(e.JSONPointer), "/", "."), ".")
}
