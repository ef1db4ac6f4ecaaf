package intercept

// Budget bounds the bytes that are held back for one exchange; share.Claim is
// one. It is used by one goroutine at a time.
type Budget interface {
	// Take takes n bytes, or says why there are not as many.
	Take(n int64) error
	// Give gives n taken bytes back.
	Give(n int64)
}
