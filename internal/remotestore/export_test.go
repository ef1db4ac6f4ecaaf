package remotestore

import (
	"crypto/tls"
	"crypto/x509"
)

// NewTrusting is New with the root certificates of the pool, or those of the system if
// it is nil.
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
