// Package syslog sends messages to a syslog server in the format of RFC 5424, over UDP
// (RFC 5426), over TCP with octet counting (RFC 6587, 3.4.1), or over a socket of the
// machine. A server that hangs or cannot be reached never blocks the sender.
package syslog

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// facilities are the names of facilities, by their numbers (RFC 5424, 6.2.1).
var facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
	"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

// severities are the names of severities, by their numbers (RFC 5424, 6.2.1).
var severities = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

// Priority is the number of a facility and a severity (RFC 5424, 6.2.1).
type Priority int

// NewPriority returns the priority of a facility and a severity. Its errors list the
// known names.
func NewPriority(facility, severity string) (Priority, error) {
	f, s := slices.Index(facilities, facility), slices.Index(severities, severity)
	switch {
	case f < 0:
		return 0, fmt.Errorf("unknown facility %q; known: %s", facility, strings.Join(facilities, ", "))
	case s < 0:
		return 0, fmt.Errorf("unknown severity %q; known: %s", severity, strings.Join(severities, ", "))
	}
	return Priority(8*f + s), nil
}

// The maximum lengths of names in a header, in bytes (RFC 5424, 6).
const (
	maxHostname = 255
	maxAppName  = 48
)

// CheckAppName returns an error if the name is not a valid APP-NAME (RFC 5424, 6.2.5).
func CheckAppName(name string) error {
	if !printable(name, maxAppName) {
		return fmt.Errorf("app name %q: want 1 to %d printable ASCII characters without spaces", name, maxAppName)
	}
	return nil
}

// printable reports whether a text is PRINTUSASCII with 1 to limit bytes.
func printable(text string, limit int) bool {
	return text != "" && len(text) <= limit && !strings.ContainsFunc(text, func(c rune) bool { return c < '!' || c > '~' })
}

// nilValue is written in place of an unknown field of a header.
const nilValue = "-"

// header has the fields that are the same in all messages of a sender.
type header struct {
	begin string // the text before the time: priority and version
	end   string // the text after the time: the other fields of the header
}

func newHeader(p Priority, hostname, appName string, pid int) header {
	if !printable(hostname, maxHostname) {
		hostname = nilValue
	}
	return header{
		begin: "<" + strconv.Itoa(int(p)) + ">1 ",
		// The fields MSGID and STRUCTURED-DATA are always empty, which is written "-".
		end: " " + hostname + " " + appName + " " + strconv.Itoa(pid) + " - - ",
	}
}

// message returns a message with the text, except for a line feed at the text's end. It
// puts no byte order mark before the text, because few servers would remove the mark.
// Without a mark, the text is an MSG-ANY (RFC 5424, 6.4).
func (h *header) message(at time.Time, text []byte) []byte {
	text = bytes.TrimRight(text, "\r\n")
	m := make([]byte, 0, len(h.begin)+len(time.RFC3339Nano)+len(h.end)+len(text))
	m = append(m, h.begin...)
	m = at.UTC().AppendFormat(m, "2006-01-02T15:04:05.000000Z")
	m = append(m, h.end...)
	return append(m, text...)
}

// frame returns the message preceded by its length, as required for streams (RFC 6587,
// 3.4.1).
func frame(message []byte) []byte {
	framed := append(strconv.AppendInt(make([]byte, 0, len(message)+8), int64(len(message)), 10), ' ')
	return append(framed, message...)
}
