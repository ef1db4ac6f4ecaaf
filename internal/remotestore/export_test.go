package remotestore

import (
	"crypto/tls"
	"crypto/x509"
)

// NewTrusting is New for a platform whose certificate those of the pool vouch
// for; nil for those of the system.
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
