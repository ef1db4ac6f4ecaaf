package pgvalue

import (
	"encoding/binary"
	"errors"
	"time"
)

// epoch is 2000-01-01 00:00 UTC, from which PostgreSQL counts, in microseconds since 1970.
const epoch = 946_684_800_000_000

// AppendNull appends the null value to b in PostgreSQL's binary format: a length in
// bytes, which is -1 for null, and the value. The other Append functions use the same
// format.
func AppendNull(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

// AppendInt8 appends a bigint.
func AppendInt8(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v))
}

// AppendBool appends a boolean.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0, 0, 0, 1, 1)
	}
	return append(b, 0, 0, 0, 1, 0)
}

// AppendText appends a text or a value of an enumerated type. See Pack for texts that
// PostgreSQL rejects.
func AppendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// AppendBytes appends a bytea. It also appends a uuid if v has 16 bytes.
func AppendBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// AppendComposites appends an array of n composite values in PostgreSQL's binary
// format, but without the length in front of the array. element is the OID of the
// composite type, and attributes are the OIDs of that type's attributes. value(b, i, j)
// must append attribute j of element i to b, with one of the other Append functions.
func AppendComposites(b []byte, element uint32, attributes []uint32, n int, value func(b []byte, element, attribute int) []byte) []byte {
	const dimensions, nulls, lowest = 1, 0, 1
	for _, v := range [...]uint32{dimensions, nulls, element, uint32(n), lowest} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	for i := range n {
		length := len(b)
		b = binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 0), uint32(len(attributes)))
		for a, oid := range attributes {
			b = value(binary.BigEndian.AppendUint32(b, oid), i, a)
		}
		binary.BigEndian.PutUint32(b[length:], uint32(len(b)-length-4))
	}
	return b
}

// Row reads the columns of a row in PostgreSQL's binary format, one after the other. A
// null column is read as the zero value of its type. After a column that is missing or
// too short for its type, every method returns a zero value, and Err returns the error.
type Row struct {
	columns [][]byte
	err     error
}

// NewRow returns a Row that reads the given columns. The values that the Row returns
// share no memory with the columns.
func NewRow(columns [][]byte) Row { return Row{columns: columns} }

var errColumn = errors.New("a column of the row is missing or has another type")

// Err returns the first error.
func (r *Row) Err() error { return r.err }

// next returns the next column, and whether it has a value of at least min bytes.
func (r *Row) next(min int) ([]byte, bool) {
	if r.err == nil && len(r.columns) == 0 {
		r.err = errColumn
	}
	if r.err != nil {
		return nil, false
	}
	c := r.columns[0]
	r.columns = r.columns[1:]
	if c != nil && len(c) < min {
		r.err = errColumn
	}
	return c, c != nil && r.err == nil
}

// Int8 reads a bigint.
func (r *Row) Int8() int64 {
	if c, ok := r.next(8); ok {
		return int64(binary.BigEndian.Uint64(c))
	}
	return 0
}

// Bool reads a boolean.
func (r *Row) Bool() bool {
	c, ok := r.next(1)
	return ok && c[0] != 0
}

// Text reads a text or a value of an enumerated type.
func (r *Row) Text() string {
	c, _ := r.next(0)
	return string(c)
}

// UUID reads a uuid, and reports whether it is not null.
func (r *Row) UUID() (id [16]byte, valid bool) {
	c, ok := r.next(len(id))
	copy(id[:], c)
	return id, ok
}

// Time reads a timestamptz, in UTC.
func (r *Row) Time() time.Time {
	if c, ok := r.next(8); ok {
		return time.UnixMicro(int64(binary.BigEndian.Uint64(c)) + epoch).UTC()
	}
	return time.Time{}
}

// Int8s reads a bigint[] of one dimension without nulls in it.
func (r *Row) Int8s() []int64 {
	const header, element = 20, 12 // in bytes; before each element there is its length
	c, ok := r.next(12)
	if !ok || binary.BigEndian.Uint32(c) == 0 { // an array without dimensions is empty
		return nil
	}
	if len(c) < header || (len(c)-header)%element != 0 {
		r.err = errColumn
		return nil
	}
	list := make([]int64, 0, (len(c)-header)/element)
	for c = c[header:]; len(c) > 0; c = c[element:] {
		list = append(list, int64(binary.BigEndian.Uint64(c[4:])))
	}
	return list
}
