package mcp

import "bytes"

// AddMetaToEvent applies AddMeta to the data of one whole event that an EventScanner
// has cut. The other lines of the event stay unchanged, byte for byte. The new data
// stands at the place of the last old data line. Each line of the new data becomes one
// data line, with the same line end as that old data line.
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

// replaceData returns the event with all its data lines removed and the new data in
// place of the last data line, which begins at lines[last]. size is an estimate of the
// event's new length.
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

// EventData returns a copy of the data of one whole event that an EventScanner has cut,
// or nil if the event has no data.
func EventData(event []byte) []byte {
	_, lines := cutHead(event)
	data, _, _ := eventData(lines)
	return bytes.Clone(data)
}

// cutHead splits the event into the bytes before its first line and the lines. There
// are three possible heads: no bytes, a LF (which belongs to the CR at the end of
// the previous event), and the byte order mark of the stream.
func cutHead(event []byte) (head, lines []byte) {
	n := 0
	if len(event) > 1 && event[0] == '\n' {
		n = 1
	} else if bytes.HasPrefix(event, byteOrderMark) {
		n = len(byteOrderMark)
	}
	return event[:n], event[n:]
}

// cutLine returns the text of the first line and its line end, which is CRLF, CR, LF, or
// empty at the end of the stream.
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

// dataValue returns the value of a data line, or false for any other line.
func dataValue(line []byte) ([]byte, bool) {
	if string(line) == "data" {
		return nil, true
	}
	value, ok := bytes.CutPrefix(line, []byte("data:"))
	return bytes.TrimPrefix(value, []byte(" ")), ok
}

// eventData returns the data of an event and the index of its last data line in lines.
// The data aliases lines if there is only one data line.
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

// appendData appends the data in the form of data lines with the given line end. An
// empty line end means that the stream ended there. In that case, LF separates the data
// lines, and the last data line stays without a line end.
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
