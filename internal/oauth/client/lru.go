package client

import "container/list"

// lru keeps the most recently used documents within bounds on their number and on their
// bytes. It is not safe for concurrent use.
type lru struct {
	maxEntries, maxBytes int
	bytes                int
	order                *list.List // has *document; the most recently used comes first
	byURL                map[string]*list.Element
}

func newLRU(maxEntries, maxBytes int) *lru {
	return &lru{maxEntries: maxEntries, maxBytes: maxBytes, order: list.New(), byURL: make(map[string]*list.Element)}
}

// get returns the document of a URL, or nil.
func (l *lru) get(url string) *document {
	e := l.byURL[url]
	if e == nil {
		return nil
	}
	l.order.MoveToFront(e)
	return e.Value.(*document)
}

// put adds or replaces a document, and drops those that were not used for longest.
func (l *lru) put(d *document) {
	l.remove(d.row.URL)
	l.byURL[d.row.URL] = l.order.PushFront(d)
	l.bytes += d.size()
	for l.order.Len() > 1 && (l.order.Len() > l.maxEntries || l.bytes > l.maxBytes) {
		l.remove(l.order.Back().Value.(*document).row.URL)
	}
}

func (l *lru) remove(url string) {
	if e := l.byURL[url]; e != nil {
		l.bytes -= e.Value.(*document).size()
		l.order.Remove(e)
		delete(l.byURL, url)
	}
}
