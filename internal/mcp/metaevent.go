package mcp

import "bytes"

// AddMetaToEvent does what AddMeta does for the data of one whole event, as an
// EventScanner cut it. The event's other lines stay as they were, byte for
// byte. The stamped data stands where the last data line was, in as many data
// lines as it has lines itself, ended as that line was.
//
// The error is ErrNoResult or ErrField.
func AddMetaToEvent(event []byte, fields []Field) ([]byte, error) {
	head, lines := cutHead(event)
	data, last, found := eventData(lines)
	if !found {
		return nil, ErrNoResult
	}
	stamped, err := AddMeta(data, fields)
	if err != nil {
		return nil, err
	}
	return replaceData(head, lines, last, stamped, len(event)+len(stamped)-len(data)), nil
}

// replaceData returns the event with other data, in the place of its last data
// line. It makes room for about that size.
func replaceData(head, lines []byte, last int, data []byte, size int) []byte {
	out := make([]byte, 0, size+64)
	out = append(out, head...)
	for at := 0; at < len(lines); {
		text, end := cutLine(lines[at:])
		switch _, isData := dataValue(text); {
		case !isData:
			out = append(out, text...)
			out = append(out, end...)
		case at == last:
			out = appendData(out, data, end)
		}
		at += len(text) + len(end)
	}
	return out
}

// EventData returns the data of one whole event, as an EventScanner cut it: a
// copy, nil if the event has none.
func EventData(event []byte) []byte {
	_, lines := cutHead(event)
	data, _, _ := eventData(lines)
	return bytes.Clone(data)
}

// cutHead takes from an event what is not part of its lines: the LF of a CRLF
// whose CR ended the event before, or the byte order mark of the stream.
func cutHead(event []byte) (head, lines []byte) {
	n := 0
	if len(event) > 1 && event[0] == '\n' {
		n = 1
	} else if bytes.HasPrefix(event, byteOrderMark) {
		n = len(byteOrderMark)
	}
	return event[:n], event[n:]
}

// cutLine returns the first line and what ends it: CRLF, CR, LF, or nothing at
// the end of the stream.
func cutLine(lines []byte) (text, end []byte) {
	i := find(lines, 0, '\n')
	n := i
	if n < len(lines) {
		n++
		if lines[i] == '\r' && n < len(lines) && lines[n] == '\n' {
			n++
		}
	}
	return lines[:i], lines[i:n]
}

// dataValue returns the value of a data line.
func dataValue(line []byte) ([]byte, bool) {
	if string(line) == "data" {
		return nil, true
	}
	value, ok := bytes.CutPrefix(line, []byte("data:"))
	return bytes.TrimPrefix(value, []byte(" ")), ok
}

// eventData returns the event's data, and where its last data line begins. The
// data of a single line is that of the event, not a copy.
func eventData(lines []byte) (data []byte, last int, found bool) {
	for at := 0; at < len(lines); {
		text, end := cutLine(lines[at:])
		if value, ok := dataValue(text); ok {
			if found {
				data = append(data, '\n')
				data = append(data, value...)
			} else {
				data = value[:len(value):len(value)]
			}
			last, found = at, true
		}
		at += len(text) + len(end)
	}
	return data, last, found
}

// appendData appends data as data lines. Between them, a line that the end of
// the stream ended is ended by LF.
func appendData(out, data, end []byte) []byte {
	between := end
	if len(between) == 0 {
		between = lineFeed
	}
	for {
		text, more := cutLine(data)
		out = append(out, "data: "...)
		out = append(out, text...)
		data = data[len(text)+len(more):]
		if len(more) == 0 {
			return append(out, end...)
		}
		out = append(out, between...)
	}
}
