package remotestore

import (
	"crypto/tls"
	"crypto/x509"
)

// NewTrusting is like New, but trusts the root certificates in pool. If pool is nil,
// the store trusts the root certificates of the system.
func NewTrusting(o Options, pool *x509.CertPool) (*Store, error) {
	s, err := newStore(o)
	if err != nil {
		return nil, err
	}
	if pool != nil {
		s.transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	s.start()
	return s, nil
}
