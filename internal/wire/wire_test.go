package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/fareboxhq/farebox/internal/keys"
	"github.com/fareboxhq/farebox/internal/ledger"
)

// overTheWire returns v after encoding it to JSON and decoding it again.
func overTheWire[T any](t *testing.T, v T) (back T) {
	t.Helper()
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil {
		t.Fatalf("%+v: %v", v, err)
	}
	return back
}

// fill sets every field of v to a value that is not zero. If the wire form lacks a
// field, the field is zero after decoding, and a comparison with v fails.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 11, 22, 10, 0, 0, 123456000, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(3)
	default:
		panic(fmt.Sprintf("a field of kind %s", v.Kind()))
	}
}

// TestEverythingArrives checks that all fields of keys, charges, bindings, revocations
// and terms arrive as they were sent.
func TestEverythingArrives(t *testing.T) {
	var key keys.Key
	fill(reflect.ValueOf(&key).Elem())
	w := overTheWire(t, KeyOf(&key))
	if got, err := w.Key(); err != nil || !reflect.DeepEqual(*got, key) {
		t.Errorf("key %+v, %v", got, err)
	}
	var charge ledger.Charge
	fill(reflect.ValueOf(&charge).Elem())
	charge.Settler, charge.Made = "", false // the settler is not sent, and Made is sent as a member of Captured
	c := overTheWire(t, ChargeOf(&charge))
	if got := c.Charge(); !reflect.DeepEqual(got, charge) {
		t.Errorf("charge %+v", got)
	}
	var binding ledger.Binding
	fill(reflect.ValueOf(&binding).Elem())
	b := overTheWire(t, BindingOf(binding))
	if got, err := b.Binding(); err != nil || !reflect.DeepEqual(got, binding) {
		t.Errorf("binding %+v, %v", got, err)
	}
	var changes keys.Revocations
	fill(reflect.ValueOf(&changes).Elem())
	for i := range changes.Digests { // only the first half of each digest is sent
		clear(changes.Digests[i][keys.HalfDigest:])
	}
	r := overTheWire(t, RevocationsOf(changes))
	if got, err := r.Revocations(); err != nil || !reflect.DeepEqual(got, changes) {
		t.Errorf("changes %+v, %v", got, err)
	}
	var terms ledger.Terms
	fill(reflect.ValueOf(&terms).Elem())
	terms.Key = ledger.Caps{} // not sent, because the platform knows the caps of the key
	o := overTheWire(t, OrderOf("chg_1", ledger.Order{Key: "key_1", Server: "s", Tool: "t", Amount: 5}, terms))
	if got, err := o.Terms(); err != nil || !reflect.DeepEqual(got, terms) || o.Key != "key_1" || o.Amount != 5 {
		t.Errorf("order %+v, terms %+v, %v", o, got, err)
	}
}

// TestErrorsArrive checks that each error of package ledger arrives as the same
// error, and that any other error arrives as ledger.ErrUnavailable, without its
// cause.
func TestErrorsArrive(t *testing.T) {
	capped := &ledger.CapError{Needed: 5}
	fill(reflect.ValueOf(&capped.Cap).Elem())
	for _, err := range []error{
		ledger.ErrNotFound, ledger.ErrExists, ledger.ErrConflict, ledger.ErrSettled, ledger.ErrInvalid, ledger.ErrInFlight, ledger.ErrReused, ledger.ErrGone,
		ledger.ErrInsufficient, ledger.ErrOverflow,
	} {
		p := overTheWire(t, *ProblemOf(fmt.Errorf("somewhere: %w", err)))
		if !errors.Is(p.Err(), err) || p.Status < 400 {
			t.Errorf("%v arrives as %v, %d", err, p.Err(), p.Status)
		}
	}
	for _, err := range []error{&ledger.InsufficientError{Balance: ledger.Balance{Posted: 5, Reserved: 3}, Needed: 7}, capped} {
		p := overTheWire(t, *ProblemOf(fmt.Errorf("somewhere: %w", err)))
		if !reflect.DeepEqual(p.Err(), err) || p.Status != 402 {
			t.Errorf("%v arrives as %v", err, p.Err())
		}
	}
	p := overTheWire(t, *ProblemOf(errors.New("password=hunter2")))
	if !errors.Is(p.Err(), ledger.ErrUnavailable) || p.Status != 503 || p.Detail != "" {
		t.Errorf("%+v", p)
	}
	for code, status := range statuses {
		if status < 400 || code.Status() != status {
			t.Errorf("%s: %d", code, status)
		}
	}
}
