// Package archive writes and reads archive files, to which a ledger's old transactions
// are moved. It also verifies the files of an archive as one chain.
//
// A file consists of JSON lines, compressed with gzip. The first line has the
// number of the file. Then come four groups of lines: first the opening balances of
// all accounts in the file's transactions, second the charges from earlier files to
// which the transactions refer, third the transactions, and fourth the closing
// balances. The last line is the seal. It contains the SHA-256 sum of all lines
// before it and the sum of the previous file, and is signed with the key that signs
// receipts.
package archive

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fareboxhq/farebox/internal/ledger"
)

const version = 1

// maxLine bounds a line, in bytes. It is generous, because names in a transaction may be
// long.
const maxLine = 1 << 20

// line is one line of a file. Exactly one member is set.
type line struct {
	File    *head                  `json:"farebox_archive,omitempty"`
	Opening *ledger.RunningBalance `json:"opening,omitempty"`
	Carried *ledger.Carried        `json:"carried,omitempty"`
	Txn     *ledger.Entry          `json:"txn,omitempty"`
	Closing *ledger.RunningBalance `json:"closing,omitempty"`
	Seal    string                 `json:"seal,omitempty"`
}

type head struct {
	Version  int    `json:"version"`
	Number   int64  `json:"number"`
	Previous string `json:"previous"`
}

// Write writes a part of the archive as one file, and returns the file's seal.
func Write(w io.Writer, p *ledger.ArchivePart, signer *ledger.Signer) (ledger.Seal, error) {
	zip := gzip.NewWriter(w)
	out := writer{to: bufio.NewWriter(zip), sum: sha256.New()}
	out.part(p)
	seal := ledger.Seal{
		File: p.Number, Previous: p.Previous.String(), Sum: ledger.Sum(out.sum.Sum(nil)).String(),
		First: p.First(), Last: p.Last(), Transactions: int64(len(p.Entries)),
	}
	signed, err := signer.Seal(seal)
	if err != nil {
		return seal, err
	}
	out.line(line{Seal: signed})
	if out.err == nil {
		out.err = out.to.Flush()
	}
	return seal, errors.Join(out.err, zip.Close())
}

// Sum returns the sum that Write puts into the seal of the part's file.
func Sum(p *ledger.ArchivePart) (ledger.Sum, error) {
	out := writer{to: bufio.NewWriter(io.Discard), sum: sha256.New()}
	out.part(p)
	return ledger.Sum(out.sum.Sum(nil)), out.err
}

// writer writes lines and computes their sum. It keeps the first error.
type writer struct {
	to  *bufio.Writer
	sum hash.Hash
	err error
}

func (w *writer) line(l line) {
	if w.err != nil {
		return
	}
	raw, err := json.Marshal(l)
	if err != nil {
		w.err = err
		return
	}
	raw = append(raw, '\n')
	w.sum.Write(raw)
	_, w.err = w.to.Write(raw)
}

// part writes all lines except the seal.
func (w *writer) part(p *ledger.ArchivePart) {
	w.line(line{File: &head{version, p.Number, p.Previous.String()}})
	for i := range p.Opening {
		w.line(line{Opening: &p.Opening[i]})
	}
	for _, c := range p.Carried {
		mapTexts(&c.Entry, pack)
		w.line(line{Carried: &c})
	}
	for _, e := range p.Entries {
		mapTexts(&e, pack)
		w.line(line{Txn: &e})
	}
	for i := range p.Closing {
		w.line(line{Closing: &p.Closing[i]})
	}
}

// escape is the prefix of a text that is written as a Go string literal. Two kinds of
// text are written in this form: a text that is not UTF-8, because JSON cannot hold it,
// and a text that itself begins with escape, because Read would take such a text for a
// literal.
const escape = "\x01"

// mapTexts replaces each text s of a transaction that comes from outside the ledger,
// such as the name of a tool, with by(s).
func mapTexts(e *ledger.Entry, by func(string) string) {
	for _, s := range [...]*string{&e.Key, &e.Lineage, &e.Server, &e.Tool, &e.Reason} {
		*s = by(*s)
	}
}

func pack(s string) string {
	if utf8.ValidString(s) && !strings.HasPrefix(s, escape) {
		return s
	}
	return escape + strconv.QuoteToASCII(s)
}

func unpack(s string) string {
	literal, packed := strings.CutPrefix(s, escape)
	if !packed {
		return s
	}
	if plain, err := strconv.Unquote(literal); err == nil {
		return plain
	}
	return s
}

// Read reads a whole file and checks its sum and its seal. It passes each line to the
// visitor before the seal is checked, so the visitor can trust the data only if Read
// returns no error.
func Read(r io.Reader, keys ledger.ReceiptKeys, v Visitor) (ledger.Seal, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return ledger.Seal{}, fmt.Errorf("it is not a file of an archive: %w", err)
	}
	lines := bufio.NewReaderSize(zip, maxLine)
	sum, first := sha256.New(), int64(0)
	var file *head
	for n := int64(0); ; {
		raw, err := lines.ReadSlice('\n')
		if err != nil {
			return ledger.Seal{}, fmt.Errorf("it breaks off, or is damaged: %w", noEOF(err))
		}
		var l line
		if err := json.Unmarshal(raw, &l); err != nil {
			return ledger.Seal{}, fmt.Errorf("a line cannot be read: %w", err)
		}
		if file == nil {
			if file = l.File; file == nil || file.Version != version {
				return ledger.Seal{}, errors.New("it is not a file of an archive that this version knows")
			}
		}
		if l.Seal != "" {
			return checkSeal(l.Seal, keys, file, ledger.Sum(sum.Sum(nil)).String(), first, n, lines)
		}
		sum.Write(raw)
		if l.Txn != nil && v.onlyCarried {
			return ledger.Seal{}, nil
		}
		if l.Txn != nil {
			mapTexts(l.Txn, unpack)
			if n++; n == 1 {
				first = l.Txn.Seq
			}
		}
		if l.Carried != nil {
			mapTexts(&l.Carried.Entry, unpack)
		}
		v.visit(&l)
	}
}

func checkSeal(jws string, keys ledger.ReceiptKeys, file *head, sum string, first, n int64, rest *bufio.Reader) (ledger.Seal, error) {
	seal, err := keys.VerifySeal(jws)
	switch {
	case err != nil:
		return seal, fmt.Errorf("its seal: %w", err)
	case seal.Sum != sum:
		return seal, errors.New("its content is not what was sealed")
	case seal.File != file.Number || seal.Previous != file.Previous || seal.First != first || seal.Transactions != n:
		return seal, errors.New("its seal is that of another file")
	}
	if _, err := rest.ReadByte(); !errors.Is(err, io.EOF) {
		return seal, errors.New("something follows its seal")
	}
	return seal, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Visitor has a function for each kind of line in a file. Each function may be nil.
type Visitor struct {
	Opening func(*ledger.RunningBalance)
	Carried func(*ledger.Carried)
	Entry   func(*ledger.Entry)
	Closing func(*ledger.RunningBalance)

	onlyCarried bool // whether Read stops at the first transaction, without checking the seal
}

func (v *Visitor) visit(l *line) {
	switch {
	case l.Opening != nil && v.Opening != nil:
		v.Opening(l.Opening)
	case l.Carried != nil && v.Carried != nil:
		v.Carried(l.Carried)
	case l.Txn != nil && v.Entry != nil:
		v.Entry(l.Txn)
	case l.Closing != nil && v.Closing != nil:
		v.Closing(l.Closing)
	}
}
