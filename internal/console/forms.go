package console

import (
	"errors"
	"net/http"

	"github.com/fareboxhq/farebox/internal/admin"
	"github.com/fareboxhq/farebox/internal/console/formfill"
	"github.com/fareboxhq/farebox/internal/people"
)

// refusal is a form that was refused. The page of the form is made as usual, and then
// filled; see package formfill.
type refusal struct {
	formfill.Refusal
	problem *failure
}

// inField is an error because of one field of a form.
type inField struct {
	error
	field string
}

func (e *inField) Unwrap() error { return e.error }

// fieldOf returns the name of the form's field that the error is about, or "".
func fieldOf(err error) string {
	var own *inField
	var refused *admin.Error
	var input *people.InputError
	switch {
	case errors.As(err, &own):
		return own.field
	case errors.As(err, &refused):
		return refused.Field
	case errors.As(err, &input):
		return input.Field
	}
	return ""
}

// fieldNames maps parameters of operations to fields of forms. It has only the
// parameters for which the field has another name.
var fieldNames = map[string]string{"caps.call": "cap_call", "caps.day": "cap_day", "caps.month": "cap_month", "servers": "server"}

// showAgain shows the page of a refused form with the input and the problem. It returns
// the error if the route has no such page, or the page cannot be made.
func (v *visit) showAgain(err error) error {
	if v.route.form == nil || errors.Is(err, errSignIn) {
		return err
	}
	problem := v.c.explain(err)
	if problem.Status == http.StatusInternalServerError {
		return problem
	}
	form := formfill.Refusal{Action: v.r.URL.Path, Input: v.r.PostForm, Detail: problem.Detail, Conflict: problem.Status == http.StatusConflict}
	if field := fieldOf(err); field != "" {
		form.Fields = []string{field, fieldNames[field]}
	}
	v.refusal = &refusal{form, problem}
	if v.route.form(v) != nil {
		v.refusal = nil
		return problem
	}
	return nil
}
