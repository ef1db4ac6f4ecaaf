package mcp

// capture keeps the unescaped bytes of one string, or the bytes of one number, as far
// as they fit. It reduces a longer string to its skeleton, so that a key cannot hide
// its name behind any number of invisible characters.
type capture struct {
	n       int
	over    bool // the text is too long, reduced or not
	reduced bool // buf begins a skeleton, not the text
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

// reduce makes room in a full buffer.
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

// is reports whether the whole text is exactly the given one.
func (c *capture) is(text string) bool {
	return !c.over && !c.reduced && string(c.buf[:c.n]) == text
}

// bytes returns the text and whether it is complete.
func (c *capture) bytes() ([]byte, bool) { return c.buf[:c.n], !c.over && !c.reduced }
