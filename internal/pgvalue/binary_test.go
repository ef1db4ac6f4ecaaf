package pgvalue

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// columns splits a sequence of appended values into the columns of a row.
func columns(t *testing.T, b []byte) (list [][]byte) {
	t.Helper()
	for len(b) > 0 {
		n := int32(binary.BigEndian.Uint32(b))
		if b = b[4:]; n < 0 {
			list = append(list, nil)
			continue
		}
		list, b = append(list, b[:n:n]), b[n:]
	}
	return list
}

// TestBinaryValues checks that Row reads back values written by the Append functions,
// and also times and arrays encoded by pgx.
func TestBinaryValues(t *testing.T) {
	id := [16]byte{1, 2, 15: 16}
	b := AppendInt8(nil, math.MinInt64)
	b = AppendBool(AppendBool(b, true), false)
	b = AppendText(AppendText(b, "ö\n"), "")
	b = AppendBytes(b, id[:])
	b = AppendNull(AppendNull(AppendNull(AppendNull(AppendNull(AppendNull(b))))))
	r := NewRow(columns(t, b))
	if v := r.Int8(); v != math.MinInt64 {
		t.Errorf("bigint %d", v)
	}
	if yes, no := r.Bool(), r.Bool(); !yes || no {
		t.Errorf("booleans %v, %v", yes, no)
	}
	if text, empty := r.Text(), r.Text(); text != "ö\n" || empty != "" {
		t.Errorf("texts %q, %q", text, empty)
	}
	if got, valid := r.UUID(); got != id || !valid {
		t.Errorf("uuid %x, %v", got, valid)
	}
	if _, valid := r.UUID(); valid || r.Int8() != 0 || r.Bool() || r.Text() != "" || r.Int8s() != nil || !r.Time().IsZero() || r.Err() != nil {
		t.Errorf("null is not the zero value; the error is %v", r.Err())
	}
	if r.Int8(); r.Err() == nil {
		t.Error("a missing column is no error")
	}

	m := pgtype.NewMap()
	at := time.Date(1999, 12, 31, 23, 59, 59, 123456000, time.UTC)
	for _, list := range [][]int64{nil, {}, {-1}, {0, math.MaxInt64, 3}} {
		array, err := m.Encode(pgtype.Int8ArrayOID, pgtype.BinaryFormatCode, list, nil)
		if err != nil {
			t.Fatal(err)
		}
		instant, err := m.Encode(pgtype.TimestamptzOID, pgtype.BinaryFormatCode, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := NewRow([][]byte{array, instant})
		if got := r.Int8s(); !slices.Equal(got, list) {
			t.Errorf("array %v, want %v", got, list)
		}
		if got := r.Time(); !got.Equal(at) || r.Err() != nil {
			t.Errorf("time %v, %v, want %v", got, r.Err(), at)
		}
	}
}

// TestShortColumns checks that columns that are too short for their type are errors.
func TestShortColumns(t *testing.T) {
	for n := range 40 {
		c := bytes.Repeat([]byte{1}, n)
		for name, read := range map[string]struct {
			least int
			do    func(r *Row)
		}{
			"bigint": {8, func(r *Row) { r.Int8() }}, "boolean": {1, func(r *Row) { r.Bool() }}, "time": {8, func(r *Row) { r.Time() }},
			"uuid": {16, func(r *Row) { r.UUID() }}, "array": {20, func(r *Row) { r.Int8s() }},
		} {
			r := NewRow([][]byte{c})
			if read.do(&r); (r.Err() == nil) != (n >= read.least && (name != "array" || (n-20)%12 == 0)) {
				t.Errorf("%s of %d bytes: %v", name, n, r.Err())
			}
		}
	}
}

// TestComposites checks that AppendComposites gives the same bytes as pgx.
func TestComposites(t *testing.T) {
	m := pgtype.NewMap()
	integer, _ := m.TypeForOID(pgtype.Int8OID)
	text, _ := m.TypeForOID(pgtype.TextOID)
	composite := &pgtype.Type{Name: "pair", OID: 70000, Codec: &pgtype.CompositeCodec{Fields: []pgtype.CompositeCodecField{{Name: "a", Type: integer}, {Name: "b", Type: text}}}}
	m.RegisterType(composite)
	m.RegisterType(&pgtype.Type{Name: "_pair", OID: 70001, Codec: &pgtype.ArrayCodec{ElementType: composite}})
	want, err := m.Encode(70001, pgtype.BinaryFormatCode, []pgtype.CompositeFields{{int64(7), "seven"}, {int64(8), nil}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := AppendComposites(nil, 70000, []uint32{pgtype.Int8OID, pgtype.TextOID}, 2, func(b []byte, element, attribute int) []byte {
		switch {
		case attribute == 0:
			return AppendInt8(b, int64(7+element))
		case element == 0:
			return AppendText(b, "seven")
		}
		return AppendNull(b)
	})
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}
