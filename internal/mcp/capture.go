package mcp

// capture keeps the unescaped bytes of one string, or the bytes of one number, as far
// as they fit. If a string does not fit, the bytes kept so far are replaced by their
// skeleton to make room. A skeleton is the same text in lower case and without
// invisible characters. So a key cannot hide its name behind a long run of invisible
// characters.
type capture struct {
	n       int
	over    bool // the text does not fit, even if it is reduced
	reduced bool // buf begins with a skeleton, not with the text
	buf     [captureSize]byte
}

func (c *capture) reset() { c.n, c.over, c.reduced = 0, false, false }

func (c *capture) add(b []byte) {
	for len(b) > 0 && !c.over {
		n := copy(c.buf[c.n:], b)
		c.n += n
		b = b[n:]
		if len(b) > 0 {
			c.reduce()
		}
	}
}

// reduce makes room in a full buffer by replacing its text with the text's skeleton.
func (c *capture) reduce() {
	c.reduced = true
	var dst [skeletonSize]byte
	n, rest, ok := skeleton(&dst, c.buf[:c.n])
	if !ok {
		c.over = true
		return
	}
	tail := copy(c.buf[n:], c.buf[c.n-rest:c.n])
	copy(c.buf[:], dst[:n])
	c.n = n + tail
}

// is reports whether the captured text is complete and equals the given text.
func (c *capture) is(text string) bool {
	return !c.over && !c.reduced && string(c.buf[:c.n]) == text
}

// bytes returns the text and whether it is complete.
func (c *capture) bytes() ([]byte, bool) { return c.buf[:c.n], !c.over && !c.reduced }
