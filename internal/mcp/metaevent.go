package mcp

import "bytes"

// AddMetaToEvent does the same as AddMeta for the data of one whole event, as an
// EventScanner cut it. The event's other lines stay unchanged, byte for byte. The new
// data replaces the last data line, in as many data lines as it has lines itself,
// with the same line ends.
//
// The error is ErrNoResult or ErrField.
func AddMetaToEvent(event []byte, fields []Field) ([]byte, error) {
	head, lines := cutHead(event)
	data, last, found := eventData(lines)
	if !found {
		return nil, ErrNoResult
	}
	merged, err := AddMeta(data, fields)
	if err != nil {
		return nil, err
	}
	return replaceData(head, lines, last, merged, len(event)+len(merged)-len(data)), nil
}

// replaceData returns the event with other data, in place of its last data line. It
// allocates about that size.
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

// EventData returns a copy of the data of one whole event, as an EventScanner cut it,
// or nil if the event has none.
func EventData(event []byte) []byte {
	_, lines := cutHead(event)
	data, _, _ := eventData(lines)
	return bytes.Clone(data)
}

// cutHead cuts off the bytes before the event's first line: the LF of a CRLF whose CR
// ended the previous event, or the byte order mark of the stream.
func cutHead(event []byte) (head, lines []byte) {
	n := 0
	if len(event) > 1 && event[0] == '\n' {
		n = 1
	} else if bytes.HasPrefix(event, byteOrderMark) {
		n = len(byteOrderMark)
	}
	return event[:n], event[n:]
}

// cutLine returns the first line and its end: CRLF, CR, LF, or nothing at the end of
// the stream.
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

// eventData returns the event's data, and the index of its last data line. The
// data of a single line aliases the event.
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

// appendData appends data as data lines. If the end of the stream ended the line, LF
// separates them.
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
