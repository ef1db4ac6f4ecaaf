//go:build !unix

package upstream

// quiet reports whether an idle connection is still open and has received nothing. On
// this operating system a conn cannot know that without waiting, so each request has a
// connection of its own.
func (k *conn) quiet() bool { return false }
